"""Image sets refuse what does not fit, and their functions are exact."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from cifar100_transfer import data
from cifar100_transfer.data import (
    ImageSet,
    channel_statistics,
    stratified_split,
    stratified_subset,
)
from cifar100_transfer.errors import UserError
from tests.conftest import random_image_set


def valid() -> dict[str, Any]:
    return {
        "images": torch.zeros(2, 3, 4, 5, dtype=torch.uint8),
        "labels": torch.tensor([0, 1]),
        "class_names": ("a", "b"),
        "coarse_names": ("x",),
        "coarse_of_class": (0, 0),
    }


def test_what_fits_is_accepted() -> None:
    images = ImageSet(**valid())
    assert (len(images), images.num_classes, images.image_size) == (2, 2, (4, 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(2, 3, 4, 5)}, r"must be uint8 .*got torch\.float32 \[2, 3, 4, 5\]"),
        ({"images": torch.zeros(2, 4, 5, 3).byte()}, r"got torch\.uint8 \[2, 4, 5, 3\]"),
        ({"images": torch.zeros(3, 4, 5).byte()}, r"got torch\.uint8 \[3, 4, 5\]"),
        ({"labels": torch.tensor([0.0, 1.0])}, r"labels must be int64 \[2\]"),
        ({"labels": torch.tensor([0, 1, 1])}, r"got torch\.int64 \[3\]"),
        ({"labels": torch.tensor([0, 2])}, r"must lie in 0 … 1, got 0 … 2"),
        ({"labels": torch.tensor([-1, 1])}, r"got -1 … 1"),
        ({"class_names": ("a", "a")}, r"\['a'\] occur more than once"),
        ({"coarse_of_class": (0,)}, "a coarse class for every fine one"),
        ({"coarse_of_class": (0, 1)}, "a coarse class for every fine one"),
    ],
)
def test_what_does_not_fit_is_a_user_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImageSet(**(valid() | changes))


def test_subsets_and_other_images_keep_the_classes(image_set: ImageSet) -> None:
    part = image_set.subset(torch.tensor([5, 1]))
    assert torch.equal(part.images, image_set.images[[5, 1]])
    assert part.labels.tolist() == [5, 1]
    black = image_set.with_images(torch.zeros_like(image_set.images))
    assert torch.equal(black.labels, image_set.labels)
    assert part.class_names == black.class_names == image_set.class_names
    assert part.coarse_of_class == black.coarse_of_class == image_set.coarse_of_class


@given(count=st.integers(1, 5), seed=st.integers(0, 1000))
def test_statistics_are_those_of_all_values(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 3, 4), dtype=torch.uint8, generator=generator)
    values = images.double().transpose(0, 1).flatten(1) / 255
    found = channel_statistics(images)
    assert found.mean == pytest.approx(values.mean(1).tolist())
    assert found.std == pytest.approx(values.std(1, correction=0).tolist())
    # Exactly the same in any order, as sums are taken over integers.
    assert channel_statistics(images.flip(0, 2)) == found


def test_statistics_of_nothing_and_of_one_colour_are_undefined() -> None:
    with pytest.raises(UserError, match="zero images"):
        channel_statistics(torch.zeros(0, 3, 2, 2, dtype=torch.uint8))
    images = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    images[:, 1] = 7
    with pytest.raises(UserError, match="the green channel is the same in every pixel"):
        channel_statistics(images)


def numbered(labels: torch.Tensor) -> ImageSet:
    """Images whose first value is their position."""
    images = torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels)) % 256
    images[:, 1, 0, 0] = torch.arange(len(labels)) // 256
    names = [f"{number:03}" for number in range(int(labels.max()) + 1)]
    return ImageSet(images, labels, tuple(names))


def positions(images: ImageSet) -> list[int]:
    return (images.images[:, 0, 0, 0].int() + 256 * images.images[:, 1, 0, 0].int()).tolist()


@given(
    counts=st.lists(st.integers(3, 40), min_size=1, max_size=60),
    share=st.sampled_from([0.2, 0.25, 0.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_splits_keep_every_classs_share_and_every_image(
    counts: list[int], share: float, seed: int
) -> None:
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate(counts)])
    images = numbered(labels)
    first, second = stratified_split(images, share, seed)
    parts = [positions(part) for part in (first, second)]
    assert all(part == sorted(part) for part in parts)
    assert sorted(parts[0] + parts[1]) == list(range(len(images)))
    for label, count in enumerate(counts):
        assert int((second.labels == label).sum()) == round(share * count)
    again = stratified_split(images, share, seed)
    assert torch.equal(again[1].images, second.images)


@pytest.mark.parametrize("shuffled", [False, True])
def test_where_shares_are_whole_the_split_is_scikit_learns(shuffled: bool) -> None:
    labels = torch.arange(10).repeat_interleave(25)
    if shuffled:
        labels = labels[torch.randperm(250, generator=torch.Generator().manual_seed(1))]
    first, second = stratified_split(numbered(labels), 0.2, 7)
    expected = train_test_split(range(250), test_size=0.2, random_state=7, stratify=labels)
    assert [positions(first), positions(second)] == [sorted(part) for part in expected]


def test_another_seed_splits_otherwise(image_set: ImageSet) -> None:
    _, first = stratified_split(image_set, 0.2, 0)
    _, second = stratified_split(image_set, 0.2, 1)
    assert not torch.equal(first.images, second.images)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_class_that_would_miss_in_a_part_is_named(share: float) -> None:
    images = numbered(torch.tensor([0] * 9 + [1] * 4))
    with pytest.raises(UserError, match=r"leaves class '001' \(4 images\) without an image"):
        stratified_split(images, share, 0)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = data.Nonsense


@given(count=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_a_subset_is_even_over_classes_and_grows_by_adding(count: int, seed: int) -> None:
    images = random_image_set(classes=6, per_class=10, size=8)
    images = images.subset(torch.arange(57))  # three classes have one image less
    chosen = stratified_subset(images, count, seed)
    assert len(chosen) == min(count, 57)
    counts = torch.bincount(chosen.labels, minlength=6)
    assert counts.max() - counts.min() <= 1
    larger = stratified_subset(images, count + 5, seed)
    pixels = {image.numpy().tobytes() for image in larger.images}
    assert all(image.numpy().tobytes() in pixels for image in chosen.images)


def test_a_subset_keeps_the_order_and_another_seed_chooses_others(image_set: ImageSet) -> None:
    def places(chosen: ImageSet) -> list[int]:
        return [int((image_set.images == i).flatten(1).all(1).nonzero()) for i in chosen.images]

    first = places(stratified_subset(image_set, 12, 0))
    assert first == sorted(first)
    assert first != places(stratified_subset(image_set, 12, 1))
    assert stratified_subset(image_set, None, 0) is image_set


@pytest.mark.parametrize("name", ["a\rb", "a\nb"])
def test_a_class_name_of_two_lines_is_refused(image_set: ImageSet, name: str) -> None:
    with pytest.raises(UserError, match="holds the end of a line: give it another name"):
        replace(image_set, class_names=(name, *image_set.class_names[1:]))
