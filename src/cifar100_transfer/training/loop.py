"""The training loop."""

import copy
import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from cifar100_transfer.config import TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, predict_logits

from .batches import ResidentBatches, epoch_seed
from .checkpoint import ResumePoint, digest, identify, load_resume_point, save_resume_point
from .objective import batch_loss, hits
from .optimization import Optimizer, ascended, batch_norms, learning_rate_factor
from .parameter_groups import head_parameters

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochRecord:
    """One row of the history.

    Attributes:
        epoch: number of the epoch, from 1.
        train_loss: mean loss over the epoch's batches (smoothed targets where the recipe smooths),
            in nats.
        train_accuracy: top-1 accuracy on the augmented images as they were trained on, in [0, 1].
        validation_loss: mean cross-entropy on the validation images after the epoch, in nats.
        validation_accuracy: top-1 accuracy on the validation images after the epoch, in [0, 1].
        learning_rate: of the epoch's last step.
        seconds: wall time of the epoch's training steps.
        images_per_second: training images over those seconds.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves.

    Attributes:
        classifier: on the CPU, in evaluation mode, with the weights of the best epoch.
        history: one record an epoch.
    """

    classifier: Classifier
    history: list[EpochRecord]

    @property
    def best(self) -> EpochRecord:
        """The epoch with the highest validation accuracy; of equals, the first."""
        return max(self.history, key=lambda record: record.validation_accuracy)

    def summary(self) -> dict[str, Any]:
        """Return the best epoch's figures and the cost of the whole training, as plain values."""
        parameters = sum(parameter.numel() for parameter in self.classifier.network.parameters())
        best = asdict(self.best)
        return {
            "architecture": self.classifier.spec.architecture,
            "parameters": parameters,
            "epochs": len(self.history),
            "best_epoch": best.pop("epoch"),
            "train_loss": best["train_loss"],
            "train_accuracy": best["train_accuracy"],
            "validation_loss": best["validation_loss"],
            "validation_accuracy": best["validation_accuracy"],
            "seconds": sum(record.seconds for record in self.history),
            "images_per_second": sorted(record.images_per_second for record in self.history)[
                len(self.history) // 2
            ],
        }


def train(
    classifier: Classifier,
    train_set: ImageSet,
    validation_set: ImageSet,
    config: TrainingConfig,
    device: torch.device | None = None,
    resume_folder: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingResult:
    """Train a classifier and keep the weights of its best validation epoch.

    Args:
        classifier: with initial weights; it is changed.
        train_set: images to learn from; augmented on the device.
        validation_set: images to choose the epoch by; never augmented.
        config: the recipe.
        device: where to train; the CPU if not given.
        resume_folder: where to keep the state after every epoch. If the state of an interrupted
            run of the same training is found there, the run goes on from it and ends in the same
            weights as if it had never stopped. The caller clears the folder.
        on_epoch: called with every epoch's record after its resume point is stored; an exception
            from it ends the training.

    Returns:
        The classifier with its best weights, and one record an epoch.

    Raises:
        UserError: the sets and the recipe don't fit together, or the loss is no longer finite.
    """
    device = device or torch.device("cpu")
    _check(classifier, train_set, validation_set, config)
    classifier.to(device)
    batches = ResidentBatches(train_set, config.augmentation, config.batch_size, device)
    validation = validation_set.images.to(device), validation_set.labels.to(device)
    optimizer = Optimizer(classifier.network, config.optimizer)
    history: list[EpochRecord] = []
    best_weights: dict[str, torch.Tensor] = {}
    identity = identify(
        {
            "spec": asdict(classifier.spec),
            "training": config.model_dump(),
            "device": device.type,
            "initial weights": digest(*classifier.state_dict().values()),
            "training images": digest(train_set.images, train_set.labels),
            "validation images": digest(validation_set.images, validation_set.labels),
        }
    )
    if resume_folder and (point := load_resume_point(resume_folder, identity)):
        classifier.load_state_dict(point.weights)
        optimizer.load_state_dict(point.optimizer)
        best_weights = point.best_weights or copy.deepcopy(classifier.state_dict())
        history = [EpochRecord(**record) for record in point.history]
    on_terminal = sys.stderr.isatty()
    with tqdm(
        total=config.epochs, initial=len(history), unit="epoch", disable=not on_terminal
    ) as bar:
        for epoch in range(len(history) + 1, config.epochs + 1):
            record = _run_epoch(classifier, batches, optimizer, config, epoch, validation)
            _check_finite(record)
            is_best = all(record.validation_accuracy > e.validation_accuracy for e in history)
            if is_best:
                best_weights = copy.deepcopy(classifier.state_dict())
            history.append(record)
            if resume_folder:
                save_resume_point(
                    resume_folder,
                    ResumePoint(
                        identity=identity,
                        epoch=epoch,
                        weights=classifier.state_dict(),
                        optimizer=optimizer.state_dict(),
                        best_weights=None if is_best else best_weights,
                        history=[asdict(record) for record in history],
                    ),
                )
            bar.set_postfix_str(_describe(record))
            bar.update()
            if not on_terminal:
                logger.info("epoch %d/%d: %s", epoch, config.epochs, _describe(record))
            if on_epoch:
                on_epoch(record)
    classifier.load_state_dict(best_weights)
    classifier.requires_grad_(True)
    return TrainingResult(classifier.cpu().eval(), history)


def _run_epoch(
    classifier: Classifier,
    batches: ResidentBatches,
    optimizer: Optimizer,
    config: TrainingConfig,
    epoch: int,
    validation: tuple[torch.Tensor, torch.Tensor],
) -> EpochRecord:
    """Train one epoch and judge its weights on the validation images and labels."""
    images, labels = validation
    start = time.perf_counter()
    train_loss, train_accuracy = _train_epoch(classifier, batches, optimizer, config, epoch)
    seconds = time.perf_counter() - start
    logits = predict_logits(classifier, images)
    return EpochRecord(
        epoch=epoch,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        validation_loss=float(nn.functional.cross_entropy(logits, labels)),
        validation_accuracy=int((logits.argmax(1) == labels).sum()) / len(labels),
        learning_rate=optimizer.learning_rate,
        seconds=seconds,
        images_per_second=batches.images / seconds,
    )


def _check(
    classifier: Classifier, train_set: ImageSet, validation_set: ImageSet, config: TrainingConfig
) -> None:
    if classifier.spec.class_names != train_set.class_names:
        raise UserError(
            f"the classifier has {len(classifier.spec.class_names)} classes and the training "
            f"images {train_set.num_classes}, or their names differ: build it for these images"
        )
    if validation_set.class_names != train_set.class_names:
        raise UserError("training and validation images have different classes")
    if config.batch_size > len(train_set):
        raise UserError(
            f"training.batch_size={config.batch_size} is larger than the training set "
            f"({len(train_set)} images): make it smaller"
        )
    if 1 in _part_sizes(len(train_set), config) and batch_norms(classifier):
        parts = f" in {config.accumulation_steps} parts" if config.accumulation_steps > 1 else ""
        raise UserError(
            f"training.batch_size={config.batch_size}{parts} leaves one image of "
            f"{len(train_set)} alone, which batch normalisation can't take: change it by one"
        )
    if len(validation_set) == 0:
        raise UserError("the validation set is empty: raise split.validation_share")


def _part_sizes(images: int, config: TrainingConfig) -> set[int]:
    """Return how many images pass the network together in an epoch."""
    part = _part_size(config)
    batches = {min(images, config.batch_size), images % config.batch_size} - {0}
    return {size for batch in batches for size in (min(batch, part), batch % part)} - {0}


def _part_size(config: TrainingConfig) -> int:
    return math.ceil(config.batch_size / config.accumulation_steps)


def _check_finite(record: EpochRecord) -> None:
    # The last step of an epoch can break the weights after the training loss was still finite.
    for part, loss in (("training", record.train_loss), ("validation", record.validation_loss)):
        if not math.isfinite(loss):
            raise UserError(
                f"the {part} loss is {loss} in epoch {record.epoch} at learning rate "
                f"{record.learning_rate:.3g}: lower training.optimizer.learning_rate"
            )


def _train_epoch(
    classifier: Classifier,
    batches: ResidentBatches,
    optimizer: Optimizer,
    config: TrainingConfig,
    epoch: int,
) -> tuple[float, float]:
    """Train one epoch; return the mean loss and accuracy over its images."""
    # Dropout draws from the global generators; seeding them keeps the epoch a pure function.
    torch.manual_seed(epoch_seed(config.seed, epoch))
    classifier.train()
    if epoch <= config.frozen_epochs:
        _freeze_backbone(classifier.network)
    else:
        classifier.requires_grad_(True)
    device = classifier.mean.device
    # Sums stay on the device: reading them at every step would make the GPU wait.
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros((), device=device, dtype=torch.int64)
    count = 0
    step = (epoch - 1) * len(batches)
    for images, targets in batches.epoch(config.seed, epoch):
        factor = learning_rate_factor(config.schedule, step, len(batches), config.epochs)
        optimizer.set_learning_rate(factor)
        optimizer.zero_grad()
        loss, right = _add_gradients(classifier, images, targets, config)
        if config.optimizer.sam_radius:
            with ascended(classifier.network, config.optimizer.sam_radius):
                optimizer.zero_grad()
                _add_gradients(classifier, images, targets, config)
        optimizer.step()
        loss_sum += loss * len(targets)
        correct += right
        count += len(targets)
        step += 1
    return float(loss_sum) / count, int(correct) / count


def _add_gradients(
    classifier: Classifier, images: torch.Tensor, targets: torch.Tensor, config: TrainingConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add a batch's gradients to those of the parameters, part by part.

    Args:
        classifier: in training mode.
        images: [B, 3, H, W], or [views, B, 3, H, W] of several views of each image.
        targets: labels int64 [B], or shares of the classes float [B, classes].
        config: the recipe.

    Returns:
        The batch's mean loss and its number of right answers, on the device.
    """
    losses, right = [], []
    size = _part_size(config)
    for part, wanted in zip(torch.split(images, size, -4), torch.split(targets, size), strict=True):
        logits = classifier(part.flatten(0, -4)).unflatten(0, part.shape[:-3])
        loss = batch_loss(logits, wanted, config) * (len(wanted) / len(targets))
        torch.autograd.backward(loss)
        losses.append(loss.detach())
        right.append(hits(logits.detach(), wanted))
    return torch.stack(losses).sum(), torch.stack(right).sum()


def _freeze_backbone(network: nn.Module) -> None:
    """Leave everything but the head as it is: parameters, and the statistics of batch norms."""
    head = set(head_parameters(network))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in head)
    for norm in batch_norms(network):
        norm.eval()


def _describe(record: EpochRecord) -> str:
    return (
        f"train loss {record.train_loss:.3f} accuracy {record.train_accuracy:.1%}, "
        f"validation loss {record.validation_loss:.3f} "
        f"accuracy {record.validation_accuracy:.1%}, "
        f"{record.images_per_second:,.0f} images/s"
    )
