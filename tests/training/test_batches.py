"""Batches: an epoch is a pure function of seed and epoch, and augmentation is what it says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar100_transfer.config import AugmentationConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.training.batches import (
    ResidentBatches,
    cut_by_pixels,
    cut_by_rows,
    epoch_seed,
    one_ahead,
    plan_epoch,
)

CPU = torch.device("cpu")
NONE = AugmentationConfig(flip=False, crop_padding=0)


def distinct_images(count: int, height: int, width: int) -> ImageSet:
    """Images that differ, of which label i tells the image i."""
    generator = torch.Generator().manual_seed(count)
    return ImageSet(
        images=torch.randint(1, 256, (count, 3, height, width), generator=generator).byte(),
        labels=torch.arange(count),
        class_names=tuple(map(str, range(count))),
    )


def collect(batches: ResidentBatches, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(batches.epoch(seed, epoch))
    return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])


@given(
    count=st.integers(1, 12),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    batch_size=st.integers(1, 14),
    flip=st.booleans(),
    padding=st.integers(0, 5),
    seed=st.integers(0, 2**40),
    epoch=st.integers(1, 1000),
)
def test_batches_are_true_crops_and_flips_of_every_image_once(
    count: int,
    size: tuple[int, int],
    batch_size: int,
    flip: bool,
    padding: int,
    seed: int,
    epoch: int,
) -> None:
    images = distinct_images(count, *size)
    augmentation = AugmentationConfig(flip=flip, crop_padding=padding)
    batches = ResidentBatches(images, augmentation, batch_size, CPU)
    parts = list(batches.epoch(seed, epoch))
    assert len(parts) == len(batches)
    sizes = [len(labels) for _, labels in parts]
    assert sizes == [batch_size] * (count // batch_size) + [count % batch_size] * (
        count % batch_size > 0
    )
    found, labels = collect(batches, seed, epoch)
    assert found.dtype == torch.uint8
    assert labels.sort().values.tolist() == list(range(count))
    plan = plan_epoch(count, augmentation, seed, epoch)
    height, width = size
    for position, label in enumerate(labels.tolist()):
        assert label == plan.order[position]
        canvas = torch.zeros(3, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
        canvas[:, padding : padding + height, padding : padding + width] = images.images[label]
        row, column = plan.shifts[position].tolist()
        expected = canvas[:, row : row + height, column : column + width]
        if plan.flips[position]:
            expected = expected.flip(-1)
        assert torch.equal(found[position], expected)


def test_without_augmentation_images_are_unchanged() -> None:
    images = distinct_images(10, 4, 5)
    found, labels = collect(ResidentBatches(images, NONE, 4, CPU), seed=3, epoch=2)
    assert torch.equal(found, images.images[labels])


@pytest.mark.parametrize("size", [(5, 4), (7, 6), (1, 1)])
def test_parts_cut_by_rows_are_those_cut_by_pixels(size: tuple[int, int]) -> None:
    images = torch.randint(256, (9, 3, 7, 6)).byte()
    rows = torch.randint(7 - size[0] + 1, (9,))
    columns = torch.randint(6 - size[1] + 1, (9,))
    found = cut_by_rows(images, rows, columns, size)
    assert torch.equal(found, cut_by_pixels(images, rows, columns, size))
    assert found.is_contiguous()


def test_all_shifts_and_both_directions_occur_about_equally_often() -> None:
    plan = plan_epoch(9000, AugmentationConfig(flip=True, crop_padding=1), seed=0, epoch=1)
    counts = (plan.shifts[:, 0] * 3 + plan.shifts[:, 1]).bincount(minlength=9)
    # Binomial(9000, 1/9) has a standard deviation of 30, Binomial(9000, 1/2) one of 47.
    assert int((counts - 1000).abs().max()) < 150
    assert abs(int(plan.flips.sum()) - 4500) < 240


def test_an_epoch_depends_on_seed_and_epoch_alone(image_set: ImageSet) -> None:
    augmentation = AugmentationConfig()
    first = ResidentBatches(image_set, augmentation, 7, CPU)
    second = ResidentBatches(image_set, augmentation, 7, CPU)
    collect(second, seed=5, epoch=1)
    torch.manual_seed(123)
    again = collect(second, seed=5, epoch=2)
    for found, expected in zip(again, collect(first, seed=5, epoch=2), strict=True):
        assert torch.equal(found, expected)
    for seed, epoch in ((5, 3), (6, 2)):
        assert not torch.equal(again[0], collect(first, seed, epoch)[0])


def test_the_batch_size_does_not_change_the_images(image_set: ImageSet) -> None:
    one, seven = (
        collect(ResidentBatches(image_set, AugmentationConfig(), size, CPU), 1, 1)
        for size in (1, 7)
    )
    assert torch.equal(one[0], seven[0])


def test_drawing_an_epoch_leaves_the_global_generator_alone(image_set: ImageSet) -> None:
    before = torch.get_rng_state()
    collect(ResidentBatches(image_set, AugmentationConfig(), 7, CPU), 0, 1)
    assert torch.equal(before, torch.get_rng_state())


def test_no_two_epochs_of_realistic_runs_share_a_seed() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in range(200) for epoch in range(400)}
    assert len(seeds) == 200 * 400


@given(seed=st.integers(0, 2**64), epoch=st.integers(0, 10**6))
def test_every_seed_is_one_torch_takes(seed: int, epoch: int) -> None:
    torch.Generator().manual_seed(epoch_seed(seed, epoch))


@pytest.mark.parametrize("batch_size", [1, 9, 10, 11])
def test_the_length_is_the_number_of_batches(
    make_image_set: Callable[..., ImageSet], batch_size: int
) -> None:
    images = make_image_set(classes=2, per_class=5, size=4)
    batches = ResidentBatches(images, NONE, batch_size, CPU)
    assert len(batches) == len(list(batches.epoch(0, 1)))


@pytest.mark.parametrize(
    "options",
    [{"policy": "augmix", "augmix_jsd": 12.0, "noise_share": 0.5}, {"cutmix_alpha": 1.0}],
)
def test_several_batches_made_at_once_are_those_made_one_by_one(
    image_set: ImageSet, options: dict[str, Any]
) -> None:
    config = AugmentationConfig(**options)
    one_by_one, at_once = (ResidentBatches(image_set, config, 7, CPU) for _ in range(2))
    at_once._images_at_once = 21  # as on a GPU
    for found, expected in zip(at_once.epoch(3, 2), one_by_one.epoch(3, 2), strict=True):
        torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=0)
        assert torch.equal(found[1], expected[1])


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.mark.parametrize("kind", DEVICES)
def test_batches_made_ahead_are_the_same(image_set: ImageSet, kind: str) -> None:
    device = torch.device(kind)
    batches = ResidentBatches(image_set, AugmentationConfig(noise_share=0.5), 7, device)
    ahead = [
        (images.cpu(), labels.cpu()) for images, labels in one_ahead(batches.epoch(3, 2), device)
    ]
    for found, expected in zip(ahead, batches.epoch(3, 2), strict=True):
        assert torch.equal(found[0], expected[0].cpu())
        assert torch.equal(found[1], expected[1].cpu())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"cutout_size": 8}, 0.0),
        ({"cutmix_alpha": 1.0, "mixup_alpha": 0.3, "mix_share": 0.5}, 1e-6),
        ({"corruption_share": 0.5, "corruption_copies": 2, "corruptions": ("fog", "snow")}, 1e-6),
        ({"policy": "trivial_augment"}, 1e-6),
        ({"policy": "augmix"}, 1e-3),  # its posterising makes a step of a rounding
    ],
)
def test_a_gpu_makes_the_batches_of_the_cpu(options: dict[str, Any], tolerance: float) -> None:
    images, config = distinct_images(60, 32, 32), AugmentationConfig(**options)
    made, expected = (
        collect(ResidentBatches(images, config, 25, place), seed=0, epoch=1)
        for place in (torch.device("cuda"), CPU)
    )
    for found, wanted in zip(made, expected, strict=True):
        assert found.device.type == "cuda"
        assert (found.cpu().double() - wanted.double()).abs().max() <= tolerance
