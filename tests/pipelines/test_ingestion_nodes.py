"""The ingestion's nodes on images in memory."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from cifar100_transfer.config import SplitConfig
from cifar100_transfer.data import ImageSet, check_division
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.ingestion.nodes import compute_normalization, split_images


@pytest.mark.parametrize(("wanted", "kept"), [(10, 10), (1000, 50), (None, 50)])
def test_fewer_training_images_leave_the_other_sets_as_they_are(
    make_image_set: Callable[..., ImageSet], wanted: int | None, kept: int
) -> None:
    raw = tuple(make_image_set(classes=5, per_class=count, size=8) for count in (12, 4))
    whole, *others = split_images(raw, SplitConfig())
    train_set, validation_set, test_set = split_images(raw, SplitConfig(train_images=wanted))
    assert len(train_set) == kept
    counts = torch.bincount(train_set.labels, minlength=5)
    assert counts.max() - counts.min() <= 1
    assert {image.numpy().tobytes() for image in train_set.images} <= {
        image.numpy().tobytes() for image in whole.images
    }
    assert validation_set.images.equal(others[0].images)
    assert test_set.images.equal(others[1].images)


def test_test_images_among_the_validation_images_are_counted(
    make_image_set: Callable[..., ImageSet], caplog: pytest.LogCaptureFixture
) -> None:
    official = make_image_set(classes=5, per_class=12, size=8)
    _, validation_set, _ = split_images((official, official.subset(torch.arange(0))), SplitConfig())
    caplog.clear()
    split_images((official, validation_set), SplitConfig())
    assert caplog.messages == [
        "10 of 10 test images are exact copies of validation images: being right about them proves "
        "nothing"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": ("b", "a")}, "classes, in this order: a, b and b, a"),
        ({"images": torch.zeros(2, 3, 4, 6, dtype=torch.uint8)}, "height and width: 4, 4 and 4, 6"),
        (
            {"coarse_names": ("x",), "coarse_of_class": (0, 0)},
            "coarse classes: none and x",
        ),
    ],
)
def test_test_images_of_another_kind_are_refused_before_any_training(
    change: dict[str, Any], said: str
) -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    train = ImageSet(images, torch.tensor([0, 1]), ("a", "b"))
    with pytest.raises(UserError, match=f"test images differ in their {said}"):
        split_images((train, replace(train, **change)), SplitConfig())


def test_sets_of_two_ingestions_are_told_apart(make_image_set: Callable[..., ImageSet]) -> None:
    raw = tuple(make_image_set(classes=5, per_class=count, size=8) for count in (12, 4))
    train, validation, _ = split_images(raw, SplitConfig())
    again, _, _ = split_images(raw, SplitConfig())
    fewer, _, _ = split_images(raw, SplitConfig(train_images=10))
    _, other, _ = split_images(raw, SplitConfig(seed=1))
    normalization = compute_normalization(train)
    check_division(train, validation, normalization)
    check_division(again, validation, normalization)
    check_division(train, validation, {"mean": normalization["mean"]})  # of one's own making
    for sets in ((train, other), (fewer, validation)):
        with pytest.raises(UserError, match="train_set and validation_set are of different ingest"):
            check_division(*sets, normalization)
    with pytest.raises(UserError, match="train_set and normalization are of different ingestions"):
        check_division(train, validation, compute_normalization(fewer))
