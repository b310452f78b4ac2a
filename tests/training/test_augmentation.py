"""Augmentation: pixels and labels keep their proportions, epochs are pure, off means off."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cifar100_transfer.config import (
    AugmentationConfig,
    Corruption,
    ModelConfig,
    TrainingConfig,
)
from cifar100_transfer.data import ImageSet
from cifar100_transfer.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar100_transfer.errors import UserError
from cifar100_transfer.training import augmentation, build_classifier, train
from cifar100_transfer.training.augmentation import (
    ERASED_AREA,
    ERASED_ASPECT,
    MixingDraws,
    add_noise,
    corrupted_copies,
    draw_erased,
    draw_mixing,
    draw_sigmas,
    erase,
    mix,
    to_unit,
)
from cifar100_transfer.training.batches import ResidentBatches

CPU = torch.device("cpu")
SIZE = 8
WHOLE = slice(None)

# One option, or the fewest that go together, for everything beyond crop and flip.
KINDS: dict[str, dict[str, Any]] = {
    "copies": {
        "corruption_share": 0.5,
        "corruptions": ("contrast", "pixelate"),
        "corruption_copies": 2,
    },
    "rand_augment": {"policy": "rand_augment"},
    "trivial_augment": {"policy": "trivial_augment"},
    "augmix": {"policy": "augmix"},
    "augmix_jsd": {"policy": "augmix", "augmix_jsd": 12.0},
    "noise": {"noise_share": 0.5},
    "erasing": {"erasing_share": 0.5},
    "cutout": {"cutout_size": 4},
    "mixup": {"mixup_alpha": 0.4},
    "cutmix": {"cutmix_alpha": 1.0},
}
KEEPS_BYTES = {"corruption", "copies", "erasing", "cutout", "cutmix"}
MIXES = {"mixup", "cutmix"}


def images_of(count: int, size: int = SIZE) -> ImageSet:
    generator = torch.Generator().manual_seed(count)
    return ImageSet(
        torch.randint(256, (count, 3, size, size), generator=generator).byte(),
        torch.arange(count) % 5,
        ("a", "b", "c", "d", "e"),
    )


def collect(
    options: dict[str, Any], batch_size: int = 8, seed: int = 1, epoch: int = 1, count: int = 40
) -> tuple[Tensor, Tensor]:
    batches = ResidentBatches(images_of(count), AugmentationConfig(**options), batch_size, CPU)
    images, targets = zip(*batches.epoch(seed, epoch), strict=True)
    return torch.cat(images, dim=images[0].ndim - 4), torch.cat(targets)


@pytest.mark.parametrize("kind", KINDS)
def test_images_and_targets_are_of_the_promised_type_and_range(kind: str) -> None:
    images, targets = collect(KINDS[kind])
    assert images.shape == ((3, 40) if kind == "augmix_jsd" else (40,)) + (3, SIZE, SIZE)
    if kind in KEEPS_BYTES:
        assert images.dtype == torch.uint8
    else:
        assert images.dtype == torch.float32
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
    if kind in MIXES:
        assert targets.shape == (40, 5)
        assert targets.dtype == torch.float32
        torch.testing.assert_close(targets.sum(1), torch.ones(40))
        assert float(targets.min()) >= 0
    else:
        assert targets.dtype == torch.int64


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_takes_every_kind(make_image_set: Callable[..., ImageSet], kind: str) -> None:
    images = make_image_set(classes=3, per_class=12, size=SIZE)
    recipe = TrainingConfig(epochs=4, batch_size=9, augmentation=AugmentationConfig(**KINDS[kind]))
    statistics = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    network = ModelConfig(architecture="simple_cnn")
    classifier = build_classifier(images, statistics, network, recipe)
    history = train(classifier, images, images, recipe).history
    assert history[-1].train_loss < history[0].train_loss


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_depends_on_seed_and_epoch_alone(kind: str) -> None:
    first = collect(KINDS[kind], seed=3, epoch=2)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    for found, expected in zip(collect(KINDS[kind], seed=3, epoch=2), first, strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(collect(KINDS[kind], seed=3, epoch=3)[0], first[0])
    assert not torch.equal(collect(KINDS[kind], seed=4, epoch=2)[0], first[0])


class Transfers(TorchDispatchMode):
    """Counts tensors that go from the CPU to another device."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].device != result.device:
            self.count += 1
        return result


@pytest.mark.parametrize("kind", ["none", *sorted(KINDS.keys() - {"copies"})])
def test_batches_send_nothing_to_the_device(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """On torch's device without values, which raises where a shape or branch depends on one."""
    meta, generator = torch.device("meta"), torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda *_: generator())  # there is none on that device
    # Each batch by itself.
    monkeypatch.setattr("cifar100_transfer.training.batches._VALUES_AT_ONCE", 0)
    sent = []
    for batch_size in (40, 5):
        config = AugmentationConfig(**KINDS.get(kind, {}))
        batches = ResidentBatches(images_of(40), config, batch_size, meta)
        with Transfers() as transfers:
            assert len(list(batches.epoch(1, 1))) == len(batches)
        sent.append(transfers.count)
    assert sent[0] == sent[1] > 0


class Calls(TorchDispatchMode):
    """Counts what is asked of torch."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_elsewhere_than_on_a_cpu_several_batches_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meta, generator = torch.device("meta"), torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda *_: generator())
    config = AugmentationConfig(policy="trivial_augment", flip=False)
    asked = []
    # Of one batch, of one that is more than the values, and of four.
    for values in (5 * 3 * SIZE**2, 0, 4 * 5 * 3 * SIZE**2):
        monkeypatch.setattr("cifar100_transfer.training.batches._VALUES_AT_ONCE", values)
        batches = ResidentBatches(images_of(40), config, 5, meta)
        with Calls() as calls:
            assert [len(labels) for _, labels in batches.epoch(1, 1)] == [5] * 8
        asked.append(calls.count)
    assert asked[0] == asked[1] > 1.5 * asked[2]


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - MIXES))
def test_the_batch_size_does_not_change_an_image(kind: str) -> None:
    small, large = collect(KINDS[kind], batch_size=7), collect(KINDS[kind], batch_size=40)
    torch.testing.assert_close(small[0], large[0], atol=1e-6, rtol=0)
    assert torch.equal(small[1], large[1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_images_and_leaves_their_order_alone(kind: str) -> None:
    plain, labels = collect({})
    images, targets = collect(KINDS[kind])
    assert plain.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert not torch.equal(to_unit(images), to_unit(plain).expand_as(images))
    if kind == "augmix_jsd":
        assert torch.equal(images[0], to_unit(plain))
        assert not torch.equal(images[1], images[2])
    if kind not in MIXES:
        assert torch.equal(targets, labels)


def test_one_kind_leaves_the_draws_of_another_alone() -> None:
    erased = collect({"erasing_share": 1.0, "flip": False, "crop_padding": 0})[0]
    both = collect({"erasing_share": 1.0, "cutout_size": 4, "flip": False, "crop_padding": 0})[0]
    mean = both.flatten(2).mode(-1).values[:, :, None, None]
    assert bool(((both == erased) | (both == mean)).all())


def test_shares_of_zero_change_nothing() -> None:
    plain, labels = collect({})
    mixed, targets = collect({"cutmix_alpha": 1.0, "mix_share": 0.0})
    assert torch.equal(mixed, plain)
    assert torch.equal(targets.argmax(1), labels)
    assert torch.equal(targets.max(1).values, torch.ones(40))
    blended, _ = collect({"mixup_alpha": 1.0, "mix_share": 0.0})
    assert torch.equal(blended, to_unit(plain))


@given(
    count=st.integers(1, 9),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    alpha=st.floats(0.1, 5),
    seed=st.integers(0, 1000),
)
def test_cutmix_labels_are_the_parts_of_the_pixels(
    count: int, height: int, width: int, alpha: float, seed: int
) -> None:
    # Image i is filled with the number i and of class i: pixels tell where they come from.
    labels = torch.arange(count)
    images = labels.byte().view(-1, 1, 1, 1).expand(-1, 3, height, width)
    config = AugmentationConfig(cutmix_alpha=alpha)
    draws = draw_mixing(np.random.default_rng(seed), count, config, (height, width))
    mixed, targets = mix(images, labels, draws, WHOLE, count)
    assert mixed.dtype == torch.uint8
    parts = torch.stack([(mixed == i).float().mean((1, 2, 3)) for i in range(count)], dim=1)
    torch.testing.assert_close(targets, parts, atol=1e-6, rtol=0)
    for i in range(count):
        assert set(mixed[i].flatten().tolist()) <= {i, (i - 1) % count}


@given(count=st.integers(2, 9), alpha=st.floats(0.1, 5), seed=st.integers(0, 1000))
def test_mixup_is_a_convex_combination_of_images_and_labels(
    count: int, alpha: float, seed: int
) -> None:
    images, labels = images_of(count).images, torch.arange(count)
    config = AugmentationConfig(mixup_alpha=alpha)
    draws = draw_mixing(np.random.default_rng(seed), count, config, (SIZE, SIZE))
    mixed, targets = mix(images, labels, draws, WHOLE, count)
    expected = torch.einsum("ij,jchw->ichw", targets, to_unit(images))
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.sum(1), torch.ones(count))


def test_with_both_every_image_undergoes_one_of_them() -> None:
    config = AugmentationConfig(mixup_alpha=1.0, cutmix_alpha=1.0)
    draws = draw_mixing(np.random.default_rng(0), 2000, config, (32, 32))
    assert draws.own_shares is not None
    blended = draws.own_shares < 1
    cut = ((draws.boxes[:, 2:] - draws.boxes[:, :2]) > 0).all(1)
    assert not bool((blended & cut).any())
    assert 900 < int(blended.sum()) < 1100
    # A box of less than half a pixel is none.
    assert int((blended | cut).sum()) > 1990


def test_the_share_of_mixed_images_is_as_asked() -> None:
    config = AugmentationConfig(mixup_alpha=1.0, mix_share=0.3)
    own_shares = draw_mixing(np.random.default_rng(0), 4000, config, (32, 32)).own_shares
    assert own_shares is not None
    assert abs(float((own_shares < 1).float().mean()) - 0.3) < 0.03


@given(
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_erased_rectangles_lie_inside_and_have_the_promised_area(
    size: tuple[int, int], share: float, seed: int
) -> None:
    height, width = size
    rectangles = draw_erased(np.random.default_rng(seed), 50, share, size)
    top, left, bottom, right = rectangles.unbind(1)
    erased = rectangles.any(1)
    assert share or not bool(erased.any())
    assert bool((bottom <= height).all() and (right <= width).all())
    assert bool((top >= 0).all() and (left >= 0).all())
    heights, widths = (bottom - top)[erased].float(), (right - left)[erased].float()
    assert bool((heights >= 1).all() and (widths >= 1).all())
    # Sides were rounded to whole pixels.
    least, most = (share * height * width for share in ERASED_AREA)
    assert bool(((heights + 0.5) * (widths + 0.5) >= least - 1e-3).all())
    assert bool(((heights - 0.5) * (widths - 0.5) <= most + 1e-3).all())


@pytest.mark.parametrize("unit", [False, True])
def test_erasing_fills_exactly_the_rectangle(unit: bool) -> None:
    images = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    images = to_unit(images) if unit else images
    rectangles = torch.tensor([[2, 3, 20, 30], [0, 0, 32, 32]])
    places = torch.tensor([1, 2])
    erased = erase(images, places, rectangles, torch.Generator().manual_seed(0))
    assert erased.dtype == images.dtype
    assert not bool(erased[0].any())
    outside = erased[1].clone()
    outside[:, 2:20, 3:30] = 0
    assert not bool(outside.any())
    filling = to_unit(erased[2]).flatten()
    # Uniform: mean 1/2, standard deviation 1/sqrt(12); 3,072 values.
    assert abs(float(filling.mean()) - 0.5) < 0.03
    assert abs(float(filling.std()) - 12**-0.5) < 0.02


def test_cutout_leaves_a_square_of_mean_color_everywhere() -> None:
    options = {"cutout_size": 4, "flip": False, "crop_padding": 0}
    images, _ = collect(options)
    plain, _ = collect({**options, "cutout_size": 0})
    mean = images_of(40).images.float().mean((0, 2, 3)).round().byte().view(1, 3, 1, 1)
    changed = (images != plain).any(1)
    assert bool(((images == mean) | (images == plain)).all())
    areas = changed.sum((1, 2))
    # Whole where the centre is far from the edges, a quarter in a corner; a pixel may by chance
    # have had the mean colour already.
    assert int(areas.max()) <= 16
    assert int(areas.min()) >= 4 - 1
    assert float(areas.float().mean()) > 8


def test_cutout_larger_than_the_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"cutout_size=9 .*8 x 8"):
        ResidentBatches(images_of(4), AugmentationConfig(cutout_size=9), 2, CPU)


def test_noise_has_the_drawn_strength_and_spares_the_rest() -> None:
    images = torch.full((3, 3, 64, 64), 128, dtype=torch.uint8)
    sigmas = torch.tensor([0.0, 0.05, 0.1])
    places = torch.tensor([1, 2])
    noisy = add_noise(images, places, sigmas[1:], torch.Generator().manual_seed(0))
    deviations = (noisy - to_unit(images)).flatten(1).std(1)
    torch.testing.assert_close(deviations, sigmas, atol=0.002, rtol=0)
    assert torch.equal(noisy[0], to_unit(images[0]))


def test_sigmas_are_uniform_over_the_chosen_share() -> None:
    sigmas = draw_sigmas(np.random.default_rng(0), 4000, share=0.25, largest=0.12)
    chosen = sigmas[sigmas > 0]
    assert abs(len(chosen) / 4000 - 0.25) < 0.03
    assert float(chosen.max()) <= 0.12
    assert abs(float(chosen.mean()) - 0.06) < 0.005


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"augmix_jsd": 12.0}, "set policy to augmix"),
        ({"policy": "augmix", "augmix_jsd": 12.0, "mixup_alpha": 0.2}, "set either to 0"),
        ({"policy": "augmix", "augmix_jsd": 1.0, "cutmix_alpha": 1.0}, "set either to 0"),
        ({"noise_share": 1.1}, "noise_share"),
        ({"noise_sigma": 0.0}, "noise_sigma"),
        ({"mixup_alpha": -1.0}, "mixup_alpha"),
        ({"policy": "autoaugment"}, "policy"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        AugmentationConfig(**options)


def test_an_empty_mixture_is_no_error() -> None:
    images, labels = images_of(1).images, torch.tensor([0])
    boxes = torch.tensor([[0, 0, 4, 4]])
    mixed, targets = mix(images, labels, MixingDraws(None, boxes), WHOLE, 2)
    assert torch.equal(mixed, images)
    assert targets.tolist() == [[1.0, 0.0]]


def test_an_unknown_corruption_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"(?s)corruptions\.1.*'gaussian_noise'.*'smoke'"):
        AugmentationConfig.model_validate({"corruptions": ["fog", "smoke"]})


def test_the_corruptions_to_choose_from_are_those_there_are() -> None:
    assert get_args(Corruption) == CORRUPTIONS


@pytest.mark.parametrize(
    ("options", "track"),
    [
        ({}, "held_out"),
        ({"policy": "augmix", "mixup_alpha": 0.2, "erasing_share": 0.5}, "held_out"),
        ({"policy": "rand_augment"}, "open"),
        ({"policy": "augmix", "noise_share": 0.1}, "open"),
        ({"corruption_share": 0.1}, "open"),
    ],
)
def test_the_track_says_whether_training_sees_the_corruptions(
    options: dict[str, Any], track: str
) -> None:
    assert AugmentationConfig(**options).track == track


def test_copies_are_the_images_at_all_severities() -> None:
    images = images_of(60).images
    config = AugmentationConfig(
        corruption_share=1.0, corruptions=("contrast",), corruption_copies=3
    )
    copies = corrupted_copies(images, config, seed=2)
    assert copies.shape == (3, *images.shape)
    severe = torch.stack([corrupt(images, "contrast", severity, 0) for severity in SEVERITIES])
    # Contrast draws nothing, so every copy is the image at one of the severities.
    alike = (copies[:, None] == severe).flatten(-3).all(-1)
    assert alike.any(1).all()
    assert alike.any(2).all()
    assert not torch.equal(copies[0], copies[1])
    assert torch.equal(corrupted_copies(images, config, seed=2), copies)
    assert not torch.equal(corrupted_copies(images, config, seed=3), copies)


def test_copies_stand_for_their_share_of_the_images() -> None:
    share = {"flip": False, "crop_padding": 0, "corruptions": ("contrast",)}
    share |= {"corruption_share": 0.25, "corruption_copies": 2}
    images = images_of(400)
    batches = ResidentBatches(images, AugmentationConfig(**share), 30, CPU)
    plain = ResidentBatches(images, AugmentationConfig(flip=False, crop_padding=0), 30, CPU)
    copies = corrupted_copies(images.images, AugmentationConfig(**share), seed=1)
    seen = []
    for epoch in (1, 2):
        shown = torch.cat([part for part, _ in batches.epoch(1, epoch)])
        originals = torch.cat([part for part, _ in plain.epoch(1, epoch)])
        changed = (shown != originals).flatten(1).any(1)
        # Binomial(400, 1/4) has a standard deviation of 8.7.
        assert abs(int(changed.sum()) - 100) < 35
        order = [int((images.images == image).flatten(1).all(1).nonzero()) for image in originals]
        of_image = copies[:, order]
        assert (of_image == shown).flatten(2).all(2).any(0)[changed].all()
        seen.append({order[position] for position in changed.nonzero().flatten().tolist()})
    assert seen[0] != seen[1]


def test_copies_without_a_share_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("nothing takes images from them")

    monkeypatch.setattr("cifar100_transfer.training.batches.corrupted_copies", refuse)
    unused = collect({"corruption_copies": 2})
    for found, expected in zip(unused, collect({}), strict=True):
        assert torch.equal(found, expected)


def grey(count: int = 40, size: int = 8) -> ImageSet:
    """Images of one colour, so that whatever differs was drawn."""
    pixels = torch.full((count, 3, size, size), 128, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 5, ("a", "b", "c", "d", "e"))


@pytest.mark.parametrize("kind", [{"noise_share": 1.0}, {"erasing_share": 1.0}])
def test_pixels_are_drawn_anew_in_every_epoch(kind: dict[str, float]) -> None:
    config = AugmentationConfig(flip=False, crop_padding=0, **kind)
    batches = ResidentBatches(grey(), config, 40, CPU)
    first, second = (
        to_unit(next(iter(batches.epoch(1, epoch)))[0]) - 128 / 255 for epoch in (1, 2)
    )
    changed = (first.abs() > 1e-3) & (second.abs() > 1e-3)
    assert int(changed.sum()) > 100
    agreeing = (first.sign() == second.sign())[changed].float().mean()
    assert float(agreeing) == pytest.approx(0.5, abs=0.1)


def test_kinds_choose_their_images_independently() -> None:
    """Of one generator, both would take the same half."""
    off = {"flip": False, "crop_padding": 0}
    plain = to_unit(collect(off, count=400)[0])
    noisy, erased = (
        (to_unit(collect(off | {kind: 0.5}, count=400)[0]) != plain).flatten(1).any(1)
        for kind in ("noise_share", "erasing_share")
    )
    # Binomial(400, 1/4) has a standard deviation of 8.7.
    assert abs(int((noisy & erased).sum()) - 100) < 40


@pytest.mark.parametrize("kind", ["mixup_alpha", "cutmix_alpha"])
def test_mean_cutmix_and_mixup_shares_are_those_of_beta(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas: list[np.ndarray] = []

    def note(_: object, heights: np.ndarray, widths: np.ndarray, __: object) -> torch.Tensor:
        areas.append(heights * widths / 256**2)  # before what lies outside is cut off
        return torch.zeros(len(heights), 4, dtype=torch.int64)

    monkeypatch.setattr(augmentation, "_rectangles_around", note)
    config = AugmentationConfig(**{kind: 2.0})
    draws = draw_mixing(np.random.default_rng(0), 4000, config, (256, 256))
    shares = areas[0] if draws.own_shares is None else draws.own_shares.numpy()
    # Beta(2, 2): mean 1/2, variance 1/20.
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs(shares.var() - 0.05) < 0.005


def test_erased_rectangles_lie_anywhere_and_are_upright_or_flat() -> None:
    top, left, bottom, right = draw_erased(np.random.default_rng(0), 4000, 1.0, (64, 64)).unbind(1)
    heights, widths = (bottom - top).double(), (right - left).double()
    for first, sides in ((top, heights), (left, widths)):
        # Uniform over what is free: mean 1/2, standard deviation 1/sqrt(12).
        places = (first / (64 - sides)).double()
        assert float(places.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(places.std()) == pytest.approx(12**-0.5, abs=0.02)
    ratios = (heights / widths).log() / -np.log(ERASED_ASPECT)
    assert float(ratios.mean()) == pytest.approx(0, abs=0.03)
    assert float(ratios.std()) == pytest.approx(3**-0.5, abs=0.06)  # uniform over [-1, 1]
