"""`training.batch_size: auto`: which size trains fast enough on this device, measured.

The number takes the place of `auto` before anything is trained. The classifier's recipe and resume
points know the number alone, so what comes of it is a training like any other.
"""

import copy
import gc
import logging
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from cifar100_transfer.config import TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, is_out_of_memory, keep_freed_memory

from .batches import ResidentBatches
from .checkpoint import stored_identity
from .checks import check_training
from .compute import ON_CPU, Compute
from .loop import identify_training
from .steps import Engine, train_epoch

logger = logging.getLogger(__name__)

SIZES = (32, 64, 128, 256, 512, 1024)
"""Those that the project's searches try. Smaller ones leave any device idle, and larger ones need a
learning rate that was made for them (Goyal et al., 2017)."""
TOLERANCE = 0.05
"""What a smaller batch may cost of the highest rate; this rule and its number are the project's.
Small, since training with small batches tends to generalise better (Keskar et al., 2017; Masters &
Luschi, 2018)."""
ROUNDS = 3
"""Sizes take turns, so that a change of the machine's load meets all of them."""
PROBE_IMAGES = 256
PROBE_BATCHES = 2
PROBE_SECONDS = 0.25
"""A measurement has at least so many images, whole batches, and takes at least so long if there are
as many images: a GPU would be through with few before what an epoch costs besides has passed."""
_RATE = 1e-9


def check_one_device(devices: int) -> None:
    """Raise a `UserError` if there are several, on which no size can be measured."""
    if devices > 1:
        raise UserError(
            f"training.batch_size=auto measures one device, and compute.devices={devices}: give a "
            f"number, of images for all devices together"
        )


def choose_batch_size(
    classifier: Classifier,
    train_set: ImageSet,
    validation_set: ImageSet,
    config: TrainingConfig,
    compute: Compute = ON_CPU,
    resume_folder: Path | None = None,
    devices: int = 1,
) -> TrainingConfig:
    """Replace `batch_size: auto` by the smallest size that trains nearly as fast as any.

    Sizes are powers of two, and none is larger than the training set. Each is measured on copies of
    the classifier by the recipe's own steps; one that needs too much memory ends the series. The
    weights and torch's generators are left as they are. The log has the table.

    A training that was interrupted keeps its size, whatever this machine would measure now.

    Args:
        classifier: built by the recipe as it is, with `auto`; build another by the one returned.
        train_set: as for `train`.
        validation_set: as for `train`.
        config: the recipe; one with a number is returned as it is.
        compute: as for `train`; with `compiled` every size is compiled, which takes its time.
        resume_folder: as for `train`.
        devices: as for `train_on_devices`.

    Returns:
        The recipe with a number.

    Raises:
        UserError: several devices, no size fits into memory, or what `train` raises before it
            starts.
    """
    if config.batch_size != "auto":
        return config
    check_one_device(devices)
    keep_freed_memory()  # as the training will, or large batches would pay for it here alone
    sets = train_set, validation_set
    candidates = _candidates(classifier, *sets, config)
    if resume_folder and (stored := stored_identity(resume_folder)):
        wanted = identify_training(classifier, *sets, config, compute)
        if size := _interrupted_size(stored, wanted):
            logger.info("training.batch_size=auto is %d, as in the interrupted run", size)
            return _with_size(config, size)
    rates: dict[int, list[float]] = {}
    for number in range(ROUNDS):
        for size in candidates if number == 0 else list(rates):
            rate = images_per_second(classifier, train_set, _with_size(config, size), compute)
            if rate is None:
                rates = {smaller: rates[smaller] for smaller in rates if smaller < size}
                break  # larger ones need more
            rates.setdefault(size, []).append(rate)
    if not rates:
        raise UserError(
            f"the device has too little memory for training.batch_size={candidates[0]}, the "
            f"smallest that auto tries: raise training.accumulation_steps, or take a smaller number"
        )
    medians = {size: statistics.median(found) for size, found in rates.items()}
    size = smallest_near_best(medians)
    logger.info(
        "training.batch_size=auto is %d: the smallest within %.0f %% of the highest rate\n%s",
        *(size, 100 * TOLERANCE, _table(candidates, medians)),
    )
    return _with_size(config, size)


def smallest_near_best(rates: dict[int, float]) -> int:
    """Return the smallest size whose rate lies within `TOLERANCE` of the highest.

    Args:
        rates: images a second of every size, at least one.
    """
    enough = (1 - TOLERANCE) * max(rates.values())
    return min(size for size, rate in rates.items() if rate >= enough)


def images_per_second(
    classifier: Classifier,
    train_set: ImageSet,
    config: TrainingConfig,
    compute: Compute,
) -> float | None:
    """Measure the rate of training steps by a recipe; None: they need too much memory.

    Nothing of the classifier is changed, nor are torch's generators.
    """
    device = compute.device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return _measure(classifier, train_set, config, compute)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Only here has the error let go of what the steps had in memory.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _measure(
    classifier: Classifier,
    train_set: ImageSet,
    config: TrainingConfig,
    compute: Compute,
) -> float:
    size = config.images_per_step
    all_batches = len(train_set) // size
    count = min(max(PROBE_BATCHES, math.ceil(PROBE_IMAGES / size)), all_batches)
    # A rate that hardly moves the weights: no measurement ends in a loss that is not finite.
    optimizer = config.optimizer.model_copy(update={"learning_rate": _RATE})
    # An epoch takes as long from whatever copies: the quickest to make, as every size makes some.
    augmentation = config.augmentation.model_copy(update={"corruptions": ("brightness",)})
    config = config.model_copy(update={"optimizer": optimizer, "augmentation": augmentation})
    trained = copy.deepcopy(classifier).to(compute.device)
    engine = Engine.of(trained, train_set.subset(torch.arange(size)), config, compute)
    # The first batch also pays for what is made once, and the second is recorded if any is.
    _time_epoch(engine, train_set, min(2, count) if engine.recorder else 1)
    while True:
        seconds = _time_epoch(engine, train_set, count)
        if seconds >= PROBE_SECONDS or count == all_batches:
            return count * size / seconds
        count = min(math.ceil(1.2 * count * PROBE_SECONDS / seconds), all_batches)


def _time_epoch(engine: Engine, train_set: ImageSet, count: int) -> float:
    """Train on some whole batches; return the seconds of what every epoch of a training does."""
    config, size = engine.config, engine.config.images_per_step
    images = train_set.subset(torch.arange(count * size))
    device = engine.classifier.mean.device
    batches = ResidentBatches(images, config.augmentation, size, device)
    batches.prepare(config.seed)
    start = time.perf_counter()
    # The last epoch: nothing is frozen or made smaller for a start any more.
    train_epoch(replace(engine, batches=batches), config.epochs)
    return time.perf_counter() - start


def _candidates(
    classifier: Classifier, train_set: ImageSet, validation_set: ImageSet, config: TrainingConfig
) -> list[int]:
    """Return the sizes that a training would take; raise what it would say if there is none."""
    largest = 1 << (max(1, len(train_set)).bit_length() - 1)
    sizes = [size for size in SIZES if size <= largest] or [largest]
    possible, refusal = [], None
    for size in sizes:
        try:
            check_training(classifier, train_set, validation_set, _with_size(config, size), 1)
        except UserError as error:
            refusal = error
        else:
            possible.append(size)
    if refusal and not possible:
        raise refusal
    return possible


def _interrupted_size(stored: dict[str, object], wanted: dict[str, object]) -> int | None:
    """Return the size of an interrupted training that differs from the wanted one in it alone."""
    names = {name for name, value in wanted.items() if value == "auto"}
    size = stored.get("training.batch_size")
    if isinstance(size, int) and wanted == {**stored, **dict.fromkeys(names, "auto")}:
        return size
    return None


def _with_size(config: TrainingConfig, size: int) -> TrainingConfig:
    return config.model_copy(update={"batch_size": size})


def _table(candidates: list[int], rates: dict[int, float]) -> str:
    best = max(rates.values())
    rows = [f"{'images a batch':>14}  {'images/s':>13}  {'of the highest':>14}"]
    for size in candidates:
        if size in rates:
            rows.append(f"{size:>14,}  {rates[size]:>13,.0f}  {rates[size] / best:>14.0%}")
        else:
            rows.append(f"{size:>14,}  {'out of memory':>13}")
            break
    return "\n".join(rows)
