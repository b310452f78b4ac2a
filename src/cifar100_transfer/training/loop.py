"""The training loop."""

import copy
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from cifar100_transfer.config import TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.manifest import hardware_name
from cifar100_transfer.models import (
    Classifier,
    is_out_of_memory,
    keep_freed_memory,
    predict_logits,
    return_freed_memory,
)
from cifar100_transfer.sealed import tensors_digest

from .checkpoint import ResumePoint, identify, load_resume_point, save_resume_point
from .checks import check_training
from .compute import ON_CPU, Compute
from .processes import process_count, process_rank, take_from_first
from .steps import Engine, epochs_before_swa, not_finite, train_epoch

logger = logging.getLogger(__name__)

FREE_SECONDS = 0.1
"""What may go into a resume point after every epoch."""
RESUME_SHARE = 0.05
"""Of the time, what may go into resume points that take longer."""


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
        return best_record(self.history)

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


def best_record(history: list[EpochRecord]) -> EpochRecord:
    """Return the epoch with the highest validation accuracy; of equals, the first."""
    return max(history, key=lambda record: record.validation_accuracy)


def train(
    classifier: Classifier,
    train_set: ImageSet,
    validation_set: ImageSet,
    config: TrainingConfig,
    compute: Compute = ON_CPU,
    resume_folder: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingResult:
    """Train a classifier and keep the weights of its best validation epoch.

    Args:
        classifier: with initial weights; it is changed.
        train_set: images to learn from; augmented on the device.
        validation_set: images to choose the epoch by; never augmented.
        config: the recipe.
        compute: where and in which numbers.
        resume_folder: where to keep the state after every epoch (`_ResumePoints` says when after
            fewer). If the state of an interrupted run of the same training is found there, the run
            goes on from it and ends in the same weights as if it had never stopped. The caller
            clears the folder.
        on_epoch: called with every epoch's record; an exception from it ends the training, and the
            state after that epoch is kept.

    Returns:
        The classifier with its best weights, and one record an epoch.

    Raises:
        UserError: the sets and the recipe don't fit together, or the loss is no longer finite.
    """
    check_training(classifier, train_set, validation_set, config, process_count())
    keep_freed_memory()
    classifier.to(compute.device)
    engine = Engine.of(classifier, train_set, config, compute)
    validation = (
        validation_set.images.to(compute.device),
        validation_set.labels.to(compute.device),
    )
    history: list[EpochRecord] = []
    best_weights: dict[str, torch.Tensor] = {}
    identity: dict[str, Any] = {}
    circumstances = _circumstances(compute)
    if resume_folder:
        identity = identify_training(classifier, train_set, validation_set, config, compute)
    if resume_folder and (point := load_resume_point(resume_folder, identity, circumstances)):
        _restore(engine, point)
        best_weights = point.best_weights or copy.deepcopy(engine.judged.state_dict())
        history = [EpochRecord(**record) for record in point.history]
        del point  # or its weights would lie beside the network's until the end
    is_first = process_rank() == 0  # of several that train together, the one that writes
    points = _ResumePoints(resume_folder if is_first else None, identity, circumstances)
    on_terminal = sys.stderr.isatty() and is_first
    with tqdm(
        total=config.epochs,
        initial=len(history),
        unit="epoch",
        disable=not on_terminal,
    ) as bar:
        while not _is_finished(history, config):
            epoch = len(history) + 1
            record = _run_epoch(engine, epoch, validation)
            history.append(record)
            if best_record(history) is record:
                best_weights = _copied(engine.judged.state_dict(), best_weights)
            if points.is_due() or _is_finished(history, config):
                points.store(engine, history, best_weights)
            bar.set_postfix_str(_describe(record))
            bar.update()
            if is_first and not on_terminal:
                logger.info("epoch %d/%d: %s", epoch, config.epochs, _describe(record))
            if on_epoch:
                try:
                    on_epoch(record)
                except BaseException:
                    points.store(engine, history, best_weights)
                    raise
    classifier.load_state_dict(best_weights)
    classifier.requires_grad_(True)  # frozen epochs may have been the last
    classifier.zero_grad()  # or gradients as large as the weights would stay with the result
    return TrainingResult(classifier.cpu().eval(), history)


class _ResumePoints:
    """Stores a training's resume points.

    Where that takes longer than `FREE_SECONDS`, as for a large network whose epochs take a GPU a
    second, they are stored so seldom that it takes `RESUME_SHARE` of the time.

    Args:
        folder: where the last one is kept; None stores none.
        identity: of the training.
        circumstances: of this run.
    """

    def __init__(
        self, folder: Path | None, identity: dict[str, Any], circumstances: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._circumstances = circumstances
        self._epoch = 0
        self._due = -math.inf

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._due

    def store(
        self, engine: Engine, history: list[EpochRecord], best_weights: dict[str, torch.Tensor]
    ) -> None:
        """Store the state after the last epoch of the history, unless that was done."""
        epoch = len(history)
        if self._folder is None or epoch == self._epoch:
            return
        started = time.monotonic()
        save_resume_point(
            self._folder,
            ResumePoint(
                identity=self._identity,
                circumstances=self._circumstances,
                epoch=epoch,
                weights=engine.classifier.state_dict(),
                optimizer=engine.optimizer.state_dict(),
                average=engine.average.state_dict() if engine.average else None,
                best_weights=None if best_record(history).epoch == epoch else best_weights,
                history=[asdict(record) for record in history],
            ),
        )
        self._epoch = epoch
        spent = time.monotonic() - started
        if spent > FREE_SECONDS:
            self._due = started + spent / RESUME_SHARE


def identify_training(
    classifier: Classifier,
    train_set: ImageSet,
    validation_set: ImageSet,
    config: TrainingConfig,
    compute: Compute,
) -> dict[str, Any]:
    """Describe a training so that equal ones are equal; reads all images, which takes a moment."""
    return identify(
        {
            "spec": asdict(classifier.spec),
            "training": config.model_dump(),
            "device": compute.device.type,
            "precision": str(compute.precision),
            "compiled": compute.compiled,
            "devices": process_count(),
            "initial weights": tensors_digest(*classifier.state_dict().values()),
            "training images": train_set.digest(),
            "validation images": validation_set.digest(),
        }
    )


def _circumstances(compute: Compute) -> dict[str, Any]:
    """Describe what the roundings of a training depend on, and it goes on in spite of."""
    threads = {"CPU threads": torch.get_num_threads()} if compute.device.type == "cpu" else {}
    hardware = hardware_name(str(compute.device))
    return {"torch": str(torch.__version__), "hardware": hardware, **threads}


def _copied(
    weights: dict[str, torch.Tensor], into: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Copy weights, into memory that holds others of the same network if there is any."""
    if not into:
        return copy.deepcopy(weights)
    for name, values in weights.items():
        into[name].copy_(values)
    return into


def _restore(engine: Engine, point: ResumePoint) -> None:
    engine.classifier.load_state_dict(point.weights)
    engine.optimizer.load_state_dict(point.optimizer)
    if engine.average and point.average:
        engine.average.load_state_dict(point.average)


def _is_finished(history: list[EpochRecord], config: TrainingConfig) -> bool:
    """Whether all epochs are done, or `patience` of them have passed since the best."""
    if len(history) == config.epochs:
        return True
    if not history or config.patience is None:
        return False
    since = best_record(history).epoch
    if config.averaging.name == "swa":  # or it would end before there is an average
        since = max(since, epochs_before_swa(config))
    return len(history) - since >= config.patience


def _run_epoch(
    engine: Engine, epoch: int, validation: tuple[torch.Tensor, torch.Tensor]
) -> EpochRecord:
    """Train one epoch and judge its weights on the validation images and labels."""
    images, labels = validation
    start = time.perf_counter()
    with _memory_for(
        f"training.batch_size={engine.config.batch_size}: lower it, or raise "
        f"training.accumulation_steps to compute batches in smaller parts"
    ):
        train_loss, train_accuracy = train_epoch(engine, epoch)
    seconds = time.perf_counter() - start
    return_freed_memory()  # validation needs other blocks than the steps
    height, width = engine.classifier.network_size
    with _memory_for(
        f"validating images of {height} x {width} pixels: lower model.image_size, or free some"
    ):
        logits = predict_logits(engine.judged, images)
    mean_loss = nn.functional.cross_entropy(logits, labels)
    correct = (logits.argmax(1) == labels).sum()
    # All must end in the same epoch, and another device may round otherwise.
    take_from_first((mean_loss, correct))
    loss = float(mean_loss)
    rate = engine.optimizer.learning_rate
    # The last step of an epoch can break the weights after the training loss was still finite.
    if not math.isfinite(loss):
        raise not_finite("validation", loss, str(epoch), rate)
    return EpochRecord(
        epoch=epoch,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        validation_loss=loss,
        validation_accuracy=int(correct) / len(labels),
        learning_rate=rate,
        seconds=seconds,
        images_per_second=engine.batches.images / seconds,
    )


@contextmanager
def _memory_for(what: str) -> Iterator[None]:
    """Raise a `UserError` where memory runs out, with what it is too little for."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"the device has too little memory for {what}") from error


def _describe(record: EpochRecord) -> str:
    return (
        f"train loss {record.train_loss:.3f} accuracy {record.train_accuracy:.1%}, "
        f"validation loss {record.validation_loss:.3f} "
        f"accuracy {record.validation_accuracy:.1%}, "
        f"{record.images_per_second:,.0f} images/s"
    )
