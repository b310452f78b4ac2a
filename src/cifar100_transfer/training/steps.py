"""The steps of one epoch."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Self, cast

import torch
from torch import Tensor, nn

from cifar100_transfer.config import TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier

from .averaging import Average
from .batches import ResidentBatches, epoch_seed, one_ahead
from .checks import part_size
from .compute import ON_CPU, Compute
from .objective import batch_loss, hits
from .optimization import Optimizer, ascended, batch_norms, learning_rate_factor
from .parameter_groups import head_parameters
from .processes import (
    add_over_processes,
    parallel,
    process_count,
    process_rank,
    share,
    take_from_first,
    without_averaging,
)
from .recording import StepRecorder

_VARIANTS = 64


@dataclass(frozen=True)
class Engine:
    """What an epoch of training works with.

    Attributes:
        classifier: is trained; on its device, with weights in float32.
        network: what computes its logits: the classifier itself, or it compiled.
        batches: of the training images, on the same device.
        optimizer: over the classifier's parameters.
        average: of the classifier's weights, if the recipe asks for one.
        config: the recipe.
        precision: of forward and backward passes.
        recorder: of these passes, where they are recorded.
    """

    classifier: Classifier
    network: nn.Module
    batches: ResidentBatches
    optimizer: Optimizer
    average: Average | None
    config: TrainingConfig
    precision: torch.dtype
    recorder: StepRecorder | None = None

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        train_set: ImageSet,
        config: TrainingConfig,
        compute: Compute = ON_CPU,
    ) -> Self:
        """Set up a training.

        Args:
            classifier: on the device of `compute`.
            train_set: images to learn from.
            config: the recipe.
            compute: where and in which numbers.
        """
        device, recorded = compute.device, compute.cuda_graphs and not compute.compiled
        return cls(
            classifier=classifier,
            network=_compiled(classifier) if compute.compiled else classifier,
            batches=ResidentBatches(train_set, config.augmentation, config.images_per_step, device),
            optimizer=Optimizer(classifier.network, config.optimizer),
            average=Average.of(classifier, config.averaging),
            config=config,
            precision=compute.precision,
            recorder=StepRecorder.of(classifier.network, device, wanted=recorded),
        )

    @property
    def judged(self) -> Classifier:
        """The classifier that is validated and kept: the average, as soon as there is one."""
        return self.average.classifier if self.average and self.average.updates else self.classifier


def _compiled(classifier: Classifier) -> nn.Module:
    """Compile the steps of one training, as if no other had been compiled in this process.

    Batches come in two sizes at most, images in few, SAM changes what is tracked, and frozen epochs
    what has a gradient: each is worth kernels of its own. Beyond the limit, 8 by default, torch
    would compute the rest uncompiled, with other roundings than a resumed training.
    """
    torch.compiler.reset()
    torch._dynamo.config.recompile_limit = _VARIANTS
    return cast(nn.Module, torch.compile(classifier, dynamic=False))


def train_epoch(engine: Engine, epoch: int) -> tuple[float, float]:
    """Train one epoch; nothing in it waits for the device but its end.

    Args:
        engine: is trained.
        epoch: number of the epoch, from 1.

    Returns:
        Mean loss in nats and accuracy over the epoch's images, as they were trained on.

    Raises:
        UserError: the loss of a step was not finite.
    """
    config, batches, optimizer = engine.config, engine.batches, engine.optimizer
    # Dropout draws from the global generators; seeding them keeps the epoch a pure function. The
    # seeds of further processes lie beyond those of the epochs.
    torch.manual_seed(epoch_seed(config.seed, epoch + process_rank() * config.epochs))
    frozen = epoch <= config.frozen_epochs
    _set_mode(engine.classifier, frozen)
    network = parallel(engine.network)  # anew: it must know what is frozen
    size = training_size(config, epoch)
    passes = partial(_add_gradients, engine, network, size=size)
    device = engine.classifier.mean.device
    losses = torch.zeros(len(batches), device=device)
    correct = torch.zeros((), device=device, dtype=torch.int64)
    counts = []
    made = one_ahead(batches.epoch(config.seed, epoch), device)
    for index, (images, targets) in enumerate(made):
        optimizer.set_learning_rate(_rate_factor(config, epoch, index, len(batches)))
        optimizer.zero_grad()
        # The epoch's last batch, if it is a smaller one, comes too rarely to be recorded.
        if engine.recorder and len(targets) == config.images_per_step:
            loss, right = engine.recorder(passes, images, targets, (size, frozen))
        else:
            loss, right = passes(images, targets)
        if config.optimizer.sam_radius:
            with ascended(engine.classifier.network, config.optimizer.sam_radius):
                optimizer.zero_grad()
                passes(images, targets)
        optimizer.step()
        if engine.average and config.averaging.name == "ema":
            engine.average.update(engine.classifier)
        losses[index] = loss
        correct += right
        counts.append(len(targets))
    # Each process tracked the statistics of its own part of the batches.
    take_from_first(engine.classifier.buffers())
    if engine.average and _in_swa(config, epoch):
        engine.average.update(engine.classifier)
        if not frozen:
            precision = partial(autocast, engine)
            engine.average.reestimate_batch_norm(_parts(engine, epoch), precision)
    if engine.average:
        # After the estimate, which dropout and the like make differ from process to process.
        take_from_first(engine.average.classifier.buffers())
    losses, correct = add_over_processes(losses), add_over_processes(correct)
    return _mean_loss(losses.cpu(), counts, config, epoch), int(correct) / sum(counts)


def autocast(engine: Engine) -> AbstractContextManager[object]:
    """Let what is computed inside choose `engine.precision` where that is safe."""
    kind = engine.classifier.mean.device.type
    reduced = engine.precision != torch.float32
    return torch.autocast(kind, dtype=engine.precision if reduced else None, enabled=reduced)


def training_size(config: TrainingConfig, epoch: int) -> tuple[int, int] | None:
    """Return height and width that an epoch's images are resized to; None: as at validation.

    Small images first cost a fraction of the time, and the last epochs make up for what they don't
    show (Howard, 2018; Touvron et al., 2019).
    """
    if epoch == config.epochs:  # in few epochs the shares may leave it to a small size
        return None
    done = (epoch - 1) / config.epochs
    sizes = [size for until, size in config.progressive_sizes if done < until]
    return (sizes[0], sizes[0]) if sizes else None


def _parts(engine: Engine, epoch: int) -> Iterator[Tensor]:
    """Yield an epoch's images in the parts in which all processes together train on them.

    Yields:
        Images [B, 3, H, W], or [views, B, 3, H, W] of several views of each image.
    """
    processes = process_count()
    size_of_part = part_size(engine.config, processes)
    for images, _ in engine.batches.epoch(engine.config.seed, epoch):
        for of_process in images.tensor_split(processes, -4):
            yield from torch.split(of_process, size_of_part, -4)


def _set_mode(classifier: Classifier, frozen: bool) -> None:
    """Prepare for training; frozen: all parameters and statistics but the head's stay."""
    classifier.train()
    head = set(head_parameters(classifier.network))
    for name, parameter in classifier.network.named_parameters():
        parameter.requires_grad_(not frozen or name in head)
    for norm in batch_norms(classifier) if frozen else []:
        norm.eval()


def epochs_before_swa(config: TrainingConfig) -> int:
    """Return how many epochs pass before the first of SWA, all of them without it."""
    if config.averaging.name != "swa":
        return config.epochs
    # 0.58 of 50 is 28.999999999999996.
    return int(config.averaging.swa_start * config.epochs + 1e-9)


def _in_swa(config: TrainingConfig, epoch: int) -> bool:
    return epoch > epochs_before_swa(config)


def _rate_factor(config: TrainingConfig, epoch: int, index: int, steps: int) -> float:
    """Return what the peak learning rate is multiplied with at a step of an epoch."""
    if config.averaging.swa_factor is not None and _in_swa(config, epoch):
        return config.averaging.swa_factor
    step = (epoch - 1) * steps + index
    return learning_rate_factor(config.schedule, step, steps, config.epochs)


def _add_gradients(
    engine: Engine,
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    size: tuple[int, int] | None,
) -> tuple[Tensor, Tensor]:
    """Add a batch's gradients to those of the parameters, part by part, over all processes.

    Args:
        engine: its classifier is in training mode.
        network: `engine.network`, averaging gradients over the processes if there are several.
        images: [B, 3, H, W], or [views, B, 3, H, W] of several views of each image.
        targets: labels int64 [B], or shares of the classes float [B, classes].
        size: height and width that images are resized to; None: as at validation.

    Returns:
        What this process's part of the batch contributes to its mean loss, and its number of right
        answers, on the device.
    """
    losses, right = [], []
    count, processes = len(targets), process_count()
    size_of_part = part_size(engine.config, processes)
    parts = torch.split(share(images, -4), size_of_part, -4)
    targets_of_parts = torch.split(share(targets), size_of_part)
    for index, (part, wanted) in enumerate(zip(parts, targets_of_parts, strict=True)):
        is_last = index == len(parts) - 1
        with nullcontext() if is_last else without_averaging(network):
            with autocast(engine):
                logits = network(part.flatten(0, -4), size)
            logits = logits.float().view(*part.shape[:-3], -1)
            loss = batch_loss(logits, wanted, engine.config) * (len(wanted) / count)
            # What is stepped on is the mean over the processes, not the sum.
            torch.autograd.backward(loss * processes)
        losses.append(loss.detach())
        right.append(hits(logits.detach(), wanted))
    return torch.stack(losses).sum(), torch.stack(right).sum()


def _mean_loss(losses: Tensor, counts: list[int], config: TrainingConfig, epoch: int) -> float:
    """Return the mean over an epoch's images of the mean losses of its batches."""
    total = torch.zeros(())
    for index, (loss, count) in enumerate(zip(losses, counts, strict=True)):
        if not loss.isfinite():
            rate = config.optimizer.learning_rate * _rate_factor(config, epoch, index, len(counts))
            raise not_finite("training", float(loss), f"{epoch}, step {index + 1}", rate)
        total += loss * count
    return float(total) / sum(counts)


def not_finite(part: str, loss: float, place: str, rate: float) -> UserError:
    """Return the error of a loss that is infinite or no number."""
    return UserError(
        f"the {part} loss is {loss} in epoch {place}, at learning rate {rate:.3g}: "
        f"lower training.optimizer.learning_rate"
    )
