"""What stops a training before it starts."""

import math

import torch

from cifar100_transfer.config import TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier

from .optimization import batch_norms


def check_training(
    classifier: Classifier,
    train_set: ImageSet,
    validation_set: ImageSet,
    config: TrainingConfig,
    devices: int,
) -> None:
    """Raise a `UserError` if classifier, sets, recipe and devices don't fit together."""
    if config.batch_size == "auto":
        raise UserError(
            "training.batch_size=auto is measured before a training: pass on the recipe that "
            "choose_batch_size returns"
        )
    if classifier.spec.class_names != train_set.class_names:
        raise UserError(
            f"the classifier has {len(classifier.spec.class_names)} classes and the training "
            f"images {train_set.num_classes}, or their names differ: build it for these images"
        )
    if validation_set.class_names != train_set.class_names:
        raise UserError("training and validation images have different classes")
    present = set(train_set.labels.tolist())
    absent = [name for label, name in enumerate(train_set.class_names) if label not in present]
    if absent:
        raise UserError(
            f"there is no training image of {len(absent)} classes ({', '.join(absent[:3])}"
            f"{', …' if len(absent) > 3 else ''}): train on images of every class"
        )
    if len(validation_set) == 0:
        raise UserError("the validation set is empty: raise split.validation_share")
    _check_batches(classifier, len(train_set), config, devices)
    for _, size in config.progressive_sizes:
        _check_size(classifier, size)


def part_size(config: TrainingConfig, devices: int) -> int:
    """Return how many images pass the network together: a device's part of a batch, or of that."""
    return math.ceil(math.ceil(config.images_per_step / devices) / config.accumulation_steps)


def _check_batches(
    classifier: Classifier, images: int, config: TrainingConfig, devices: int
) -> None:
    size = config.images_per_step
    if size > images:
        raise UserError(
            f"training.batch_size={size} is larger than the training set "
            f"({images} images): make it smaller"
        )
    if config.accumulation_steps > size:
        raise UserError(
            f"training.batch_size={size} can't be cut into {config.accumulation_steps} parts: "
            f"lower training.accumulation_steps"
        )
    batches = {size, images % size or size}
    if min(batches) < devices:
        raise UserError(
            f"training.batch_size={size} leaves a batch of {min(batches)} of {images} "
            f"images, too few for compute.devices={devices}: change it"
        )
    part = part_size(config, devices)
    shares = {share for batch in batches for share in (batch // devices, -(-batch // devices))}
    sizes = {size for share in shares for size in (min(share, part), share % part)}
    if 1 in sizes and batch_norms(classifier):
        several = config.accumulation_steps > 1
        parts = f" in {config.accumulation_steps} parts" if several else ""
        raise UserError(
            f"training.batch_size={size}{parts} leaves one image of {images} alone, "
            f"which batch normalisation can't take: change it by one"
        )


def _check_size(classifier: Classifier, size: int) -> None:
    was_training = classifier.training
    classifier.eval()
    try:
        with torch.inference_mode():
            classifier(torch.zeros(1, 3, size, size, device=classifier.mean.device), (size, size))
    except RuntimeError as error:
        raise UserError(
            f"{classifier.spec.architecture} can't take images of {size} x {size} pixels "
            f"({str(error).splitlines()[0]}): change training.progressive_sizes, or leave it empty"
        ) from error
    finally:
        classifier.train(was_training)
