"""Nodes of the ingestion pipeline."""

import logging
from dataclasses import asdict
from typing import Any

from cifar100_transfer.config import SplitConfig
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.annotations import DataFrame, Figure, ImageSet

logger = logging.getLogger(__name__)


def split_images(
    raw_images: tuple[ImageSet, ImageSet], split: SplitConfig
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Divide the official training images into training and validation, class by class.

    The test images stay as they are published. A warning says how many images occur in two sets.

    Raises:
        UserError: training and test images are of other classes or sizes, or a class is too small.
    """
    from cifar100_transfer.data import of_one_division, stratified_split, stratified_subset

    official_train, test_set = raw_images
    _check_alike(official_train, test_set)
    train_set, validation_set = stratified_split(official_train, split.validation_share, split.seed)
    train_set = stratified_subset(train_set, split.train_images, split.seed)
    train_set, validation_set, test_set = of_one_division(train_set, validation_set, test_set)
    _warn_of_copies("validation", validation_set, "training", train_set)
    _warn_of_copies("test", test_set, "training", train_set)
    _warn_of_copies("test", test_set, "validation", validation_set)
    return train_set, validation_set, test_set


def _check_alike(train: ImageSet, test: ImageSet) -> None:
    """Refuse, before any training, test images on which no classifier can be judged."""
    for what, one, other in (
        ("classes, in this order", train.class_names, test.class_names),
        ("coarse classes", train.coarse_names, test.coarse_names),
        ("coarse classes of the classes", train.coarse_of_class, test.coarse_of_class),
        ("height and width", tuple(train.images.shape[-2:]), tuple(test.images.shape[-2:])),
    ):
        if one != other:
            raise UserError(
                f"cifar100_raw: training and test images differ in their {what}: {_start(one)} and "
                f"{_start(other)}"
            )


def _start(values: tuple[Any, ...]) -> str:
    shown = [*map(str, values[:5]), *(["\N{HORIZONTAL ELLIPSIS}"] if values[5:] else [])]
    return ", ".join(shown) or "none"


def _warn_of_copies(name: str, images: ImageSet, source: str, originals: ImageSet) -> None:
    from cifar100_transfer.data import count_copies

    if copies := count_copies(images, originals):
        logger.warning(
            "%d of %d %s images are exact copies of %s images: being right about them proves "
            "nothing",
            *(copies, len(images), name, source),
        )


def compute_normalization(train_set: ImageSet) -> dict[str, Any]:
    """Compute mean and standard deviation of every channel over the training images alone.

    Beside them stands of which division of the images they are.
    """
    from cifar100_transfer.data import channel_statistics

    return {**asdict(channel_statistics(train_set.images)), "division": train_set.division}


def count_classes(train_set: ImageSet, validation_set: ImageSet, test_set: ImageSet) -> DataFrame:
    """Count the images of every class in every set."""
    import pandas as pd
    import torch

    tables = []
    for name, images in (("train", train_set), ("validation", validation_set), ("test", test_set)):
        counts = torch.bincount(images.labels, minlength=images.num_classes)
        coarse = [images.coarse_names[index] for index in images.coarse_of_class]
        tables.append(
            pd.DataFrame(
                {
                    "set": name,
                    "class": images.class_names,
                    "coarse_class": coarse or [""] * images.num_classes,
                    "images": counts.numpy(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def draw_class_distribution(class_counts: DataFrame) -> Figure:
    """Draw how many images every class has in every set."""
    from cifar100_transfer.evaluation import figures

    return figures.class_distribution(class_counts, title="Images per class")


def draw_sample_grid(train_set: ImageSet, split: SplitConfig) -> Figure:
    """Draw one labelled training image a class."""
    from cifar100_transfer.evaluation import figures

    return figures.sample_grid(
        train_set.images,
        train_set.labels,
        train_set.class_names,
        title="Training images, one a class",
        seed=split.seed,
    )
