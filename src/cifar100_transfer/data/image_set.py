"""Labelled images in one tensor, and the pure functions on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cifar100_transfer.errors import UserError
from cifar100_transfer.sealed import tensors_digest


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, labels and the names of the classes.

    Attributes:
        images: uint8 [N, 3, H, W], values 0 to 255, channels red, green, blue.
        labels: int64 [N], values 0 to `len(class_names) - 1`.
        class_names: one name a (fine) class, in label order.
        coarse_names: one name a coarse class; empty where the data has no hierarchy.
        coarse_of_class: for each fine class the index of its coarse class; as long as
            `class_names`, or empty.
        division: the same for sets that were made together and have no image in common, see
            `of_one_division`; empty where none is known.
    """

    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...] = ()
    coarse_of_class: tuple[int, ...] = ()
    division: str = ""

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise UserError(
                f"images must be uint8 [N, 3, H, W], got {self.images.dtype} "
                f"{list(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise UserError(
                f"labels must be int64 [{len(self.images)}], one an image, got "
                f"{self.labels.dtype} {list(self.labels.shape)}"
            )
        check_classes(self.class_names, self.coarse_names, self.coarse_of_class)
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(
            self.class_names
        ):
            raise UserError(
                f"labels must lie in 0 … {len(self.class_names) - 1}, got "
                f"{int(self.labels.min())} … {int(self.labels.max())}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of (fine) classes."""
        return len(self.class_names)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def digest(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 over images and labels."""
        return tensors_digest(self.images, self.labels)

    def subset(self, indices: torch.Tensor) -> ImageSet:
        """Return the images at `indices` (int64 [M]) in that order, with the same classes."""
        # Whole images, where indexing would go pixel by pixel on a CPU.
        return replace(
            self, images=self.images.index_select(0, indices), labels=self.labels[indices]
        )

    def with_images(self, images: torch.Tensor) -> ImageSet:
        """Return the same labels and classes with other images (uint8 [N, 3, H, W])."""
        return replace(self, images=images)


def check_classes(
    class_names: tuple[str, ...], coarse_names: tuple[str, ...], coarse_of_class: tuple[int, ...]
) -> None:
    """Raise a `UserError` if two classes have one name, or the hierarchy does not fit them.

    Nor may a name hold the end of a line: tables of classes would be read with other rows.
    """
    for name in (*class_names, *coarse_names):
        if "\r" in name or "\n" in name:
            raise UserError(f"class {name!r} holds the end of a line: give it another name")
    if len(set(class_names)) != len(class_names):
        twice = sorted({name for name in class_names if class_names.count(name) > 1})
        raise UserError(f"class names must differ, but {twice} occur more than once")
    if len(coarse_of_class) not in (0, len(class_names)) or not all(
        0 <= coarse < len(coarse_names) for coarse in coarse_of_class
    ):
        raise UserError("coarse_of_class must name a coarse class for every fine one")


@dataclass(frozen=True)
class Normalization:
    """Channel statistics of images scaled to [0, 1].

    Attributes:
        mean: mean of red, green and blue.
        std: standard deviation (population) of red, green and blue.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def channel_statistics(images: torch.Tensor) -> Normalization:
    """Compute the mean and standard deviation of every channel, exactly.

    Sums are taken over a histogram of the 256 possible values, in integers, so the result depends
    on neither the number of threads nor the order of the images.

    Args:
        images: uint8 [N, 3, H, W], N at least 1.

    Returns:
        Statistics of the values divided by 255.

    Raises:
        UserError: there are no images, or a channel is constant (it can't be normalised).
    """
    if len(images) == 0:
        raise UserError("statistics of zero images are undefined: give at least one image")
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for name, channel in zip(("red", "green", "blue"), images.unbind(1), strict=True):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        channel_mean = float(share @ values)
        channel_std = float(share @ (values - channel_mean) ** 2) ** 0.5
        if channel_std == 0:
            raise UserError(
                f"the {name} channel is the same in every pixel: it can't be normalised"
            )
        mean.append(channel_mean)
        std.append(channel_std)
    return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def of_one_division(*sets: ImageSet) -> tuple[ImageSet, ...]:
    """Return sets with a name of their division, the same for all and made of their content.

    Args:
        sets: to train on, to choose by, to judge on; no image of one is in another.
    """
    digests = "".join(images.digest() for images in sets)
    name = hashlib.sha256(digests.encode()).hexdigest()[:16]
    return tuple(replace(images, division=name) for images in sets)


def check_division(
    train_set: ImageSet, validation_set: ImageSet, normalization: Mapping[str, Any]
) -> None:
    """Refuse sets to train on and to choose by that were not made together (`check_made_together`).

    Args:
        train_set: the images to train on.
        validation_set: those to choose by.
        normalization: as the ingestion stores it; without `division`, it is not compared.

    Raises:
        UserError: the ingestion that made one of the three did not make the others.
    """
    division = train_set.division
    check_made_together(train_set=division, validation_set=validation_set.division)
    check_made_together(train_set=division, normalization=normalization.get("division", division))


def check_made_together(**divisions: str) -> None:
    """Refuse what different ingestions made: images of one set may be among those of another.

    Args:
        divisions: by the name of what an ingestion stores.

    Raises:
        UserError: they differ.
    """
    if len(set(divisions.values())) > 1:
        raise UserError(
            f"{' and '.join(divisions)} are of different ingestions, as after one that was stopped "
            f"or runs just now: run `kedro run --pipelines=ingestion` with the parameters you "
            f"want, then this again"
        )


def stratified_split(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split so that every class keeps its share in both parts, to half an image.

    Where the shares are whole numbers, this is the split of scikit-learn's `train_test_split`. That
    one rounds over all classes together, which can leave small ones without any image.

    Args:
        images: the set to split.
        share: part of the images that goes into the second set, in (0, 1).
        seed: below 2^32; the same seed gives the same split on every machine.

    Returns:
        The first set, and the second with its share, each in the original order.

    Raises:
        UserError: a class has too few images to stand in both parts.
    """
    counts = torch.bincount(images.labels, minlength=images.num_classes)
    present = counts[counts > 0]
    kept_apart = (present * share).round()
    if bool(((kept_apart < 1) | (kept_apart >= present)).any()):
        smallest = int(counts.where(counts > 0, counts.max() + 1).argmin())
        raise UserError(
            f"a share of {share} leaves class '{images.class_names[smallest]}' "
            f"({int(counts[smallest])} images) without an image in one part: change it, or add "
            f"images"
        )
    generator = np.random.RandomState(seed)
    is_second = torch.zeros(len(images), dtype=torch.bool)
    for label in counts.nonzero().flatten():
        places = (images.labels == label).nonzero().flatten()
        kept = round(len(places) * share)
        is_second[places[generator.permutation(len(places))[len(places) - kept :]]] = True
    return (
        images.subset((~is_second).nonzero().flatten()),
        images.subset(is_second.nonzero().flatten()),
    )


def stratified_subset(images: ImageSet, count: int | None, seed: int) -> ImageSet:
    """Choose images at random, the same number of every class as far as there are enough.

    A larger subset of the same seed contains the smaller ones.

    Args:
        images: the set to choose from.
        count: number of images, at least 1; None, or more than there are: all of them.
        seed: of the choice.

    Returns:
        The chosen images in their original order.
    """
    if count is None or count >= len(images):
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    # One round takes one image of every class: sort by how many of its class came before.
    labels = images.labels[order]
    by_class = labels.argsort(stable=True)
    counts = labels.bincount(minlength=images.num_classes)
    firsts = counts.cumsum(0) - counts
    earlier = torch.empty_like(labels)
    earlier[by_class] = torch.arange(len(labels)) - firsts[labels[by_class]]
    rounds = earlier.argsort(stable=True)
    return images.subset(order[rounds[:count]].sort().values)


def count_copies(images: ImageSet, originals: ImageSet) -> int:
    """Count the images that occur in another set, too, pixel for pixel.

    Args:
        images: those that are counted; one that occurs twice counts twice.
        originals: those they are looked for in.
    """
    known = set(_image_digests(originals))
    return sum(digest in known for digest in _image_digests(images))


def _image_digests(images: ImageSet) -> Iterator[bytes]:
    for image in images.images.contiguous().numpy():
        yield hashlib.blake2b(image.data, digest_size=16).digest()
