"""Policies: each image by itself, operations as torchvision's, nothing at magnitude 0."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from cifar100_transfer.training.policies import (
    AUGMIX_OPERATIONS,
    CHAINS,
    DEPTH,
    OPERATIONS,
    STRENGTHS,
    AugMix,
    MixtureDraws,
    Policy,
    PolicyDraws,
    draw_mixture,
    draw_policy,
)

CPU = torch.device("cpu")
RAND = STRENGTHS["rand_augment"]


def apply_policy(images: Tensor, numbers: Tensor, magnitudes: Tensor, strength=RAND) -> Tensor:
    size = images.shape[-2], images.shape[-1]
    return Policy(PolicyDraws(numbers, magnitudes), strength, size, CPU)(
        images, slice(0, len(images))
    )


def augmix(images: Tensor, draws: MixtureDraws) -> Tensor:
    return AugMix(draws, (images.shape[-2], images.shape[-1]), CPU)(images, slice(0, len(images)))


def photographs(count: int, height: int = 10, width: int = 10, seed: int = 0) -> Tensor:
    """Smooth images whose values are multiples of 1/255."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round() / 255


def apply_one(images: Tensor, name: str, magnitude: float, strength=RAND) -> Tensor:
    numbers = torch.full((len(images), 1), OPERATIONS.index(name))
    return apply_policy(images, numbers, torch.full((len(images), 1), magnitude), strength)


def by_torchvision(images: Tensor, name: str, magnitude: float) -> Tensor:
    """The same operation through torchvision's functions, which take one magnitude a call."""
    factor, strength = 1 + RAND.enhance * magnitude, abs(magnitude)
    image_bytes = (images * 255).round().byte()
    others = {
        "identity": lambda: images,
        "brightness": lambda: vision.adjust_brightness(images, factor),
        "color": lambda: vision.adjust_saturation(images, factor),
        "contrast": lambda: vision.adjust_contrast(images, factor),
        "sharpness": lambda: vision.adjust_sharpness(images, factor),
        "posterize": lambda: vision.posterize(image_bytes, 8 - round(4 * strength)) / 255,
        "solarize": lambda: vision.solarize(image_bytes, math.ceil(256 * (1 - strength))) / 255,
        "autocontrast": lambda: vision.autocontrast(images),
        "equalize": lambda: vision.equalize(image_bytes) / 255,
    }
    if name in others:
        return others[name]()
    height, width = images.shape[-2:]
    shear = math.degrees(math.atan(RAND.shear * magnitude))
    shift = RAND.translate * magnitude
    return vision.affine(
        images,
        angle=RAND.rotate * magnitude * (name == "rotate"),
        translate=[
            width * shift * (name == "translate_x"),
            height * shift * (name == "translate_y"),
        ],
        scale=1.0,
        shear=[shear * (name == "shear_x"), shear * (name == "shear_y")],
        interpolation=InterpolationMode.BILINEAR,
    )


@pytest.mark.parametrize("magnitude", [0.5, -1.0, 0.25])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_do_what_torchvision_does(name: str, magnitude: float) -> None:
    images = photographs(3, 20, 20)
    expected = by_torchvision(images, name, magnitude)
    found = apply_one(images, name, magnitude)
    assert name == "identity" or not torch.allclose(found, images, atol=1e-3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "rotate"])
def test_warps_keep_pixels_square_in_oblong_images(name: str) -> None:
    images = photographs(2, 16, 8)
    found, expected = apply_one(images, name, 0.5), by_torchvision(images, name, 0.5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", STRENGTHS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_magnitude_0_changes_nothing(name: str, policy: str) -> None:
    images = photographs(2)
    assert torch.equal(apply_one(images, name, 0.0, STRENGTHS[policy]), images)


@pytest.mark.parametrize("name", [*OPERATIONS[:10], "solarize"])
def test_operations_with_degrees_begin_at_the_image_itself(name: str) -> None:
    images = photographs(2)
    torch.testing.assert_close(apply_one(images, name, 1e-4), images, atol=5e-3, rtol=0)


@given(
    draws=st.lists(
        st.tuples(st.sampled_from(range(len(OPERATIONS))), st.floats(-1, 1, width=32)),
        min_size=2,
        max_size=6,
    )
)
@settings(max_examples=30)
def test_an_image_does_not_depend_on_its_neighbours(draws: list[tuple[int, float]]) -> None:
    images = photographs(len(draws))
    numbers = torch.tensor([[number] for number, _ in draws])
    magnitudes = torch.tensor([[magnitude] for _, magnitude in draws])
    before = images.clone()
    together = apply_policy(images, numbers, magnitudes)
    assert torch.equal(images, before)
    assert float(together.min()) >= 0
    assert float(together.max()) <= 1
    for i in range(len(draws)):
        one = slice(i, i + 1)
        alone = apply_policy(images[one], numbers[one], magnitudes[one])
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=0)


def test_steps_follow_one_another() -> None:
    images = photographs(2)
    numbers = torch.tensor([[OPERATIONS.index("rotate"), OPERATIONS.index("posterize")]] * 2)
    found = apply_policy(images, numbers, torch.ones(2, 2))
    expected = apply_one(apply_one(images, "rotate", 1.0), "posterize", 1.0)
    assert torch.equal(found, expected)


def test_rand_augment_draws_every_operation_equally_often_and_with_both_signs() -> None:
    draws = draw_policy(np.random.default_rng(0), 7000, "rand_augment", 2, 0.3)
    assert draws.operations.shape == draws.magnitudes.shape == (7000, 2)
    counts = draws.operations.flatten().bincount(minlength=len(OPERATIONS))
    # Binomial(14000, 1/14) has a standard deviation of 30.
    assert int((counts - 1000).abs().max()) < 150
    assert draws.magnitudes.abs().unique().tolist() == [pytest.approx(0.3)]
    assert abs(float(draws.magnitudes.sign().mean())) < 0.05


def test_trivial_augment_takes_one_operation_of_any_level() -> None:
    draws = draw_policy(np.random.default_rng(0), 3000, "trivial_augment", 5, 0.3)
    assert draws.operations.shape == (3000, 1)
    levels = (draws.magnitudes.abs() * 30).round().unique().tolist()
    assert levels == list(range(31))


def test_augmix_draws_chains_of_one_to_three_operations_that_no_corruption_resembles() -> None:
    draws = draw_mixture(np.random.default_rng(0), 500, severity=0.3)
    active = draws.chains.magnitudes != 0
    assert set(active.sum(2).flatten().tolist()) == {1, 2, DEPTH}
    assert bool((active[..., :-1] | ~active[..., 1:]).all())
    names = {OPERATIONS[number] for number in draws.chains.operations.unique()}
    assert names == set(AUGMIX_OPERATIONS)
    assert not names & {"brightness", "color", "contrast", "sharpness"}
    assert float(draws.chains.magnitudes.abs().max()) <= 0.3
    torch.testing.assert_close(draws.weights.sum(1), torch.ones(500))
    assert 0.4 < float(draws.mixture_shares.mean()) < 0.6


def test_augmix_without_severity_returns_the_images() -> None:
    images = photographs(4)
    draws = draw_mixture(np.random.default_rng(0), 4, severity=0.0)
    torch.testing.assert_close(augmix(images, draws), images, atol=1e-6, rtol=0)


def test_augmix_is_the_weighted_mean_of_its_chains_and_the_image() -> None:
    image = photographs(1)
    numbers = torch.tensor([OPERATIONS.index(n) for n in ("rotate", "solarize", "posterize")])
    operations = numbers.view(1, CHAINS, 1).repeat(1, 1, DEPTH)
    magnitudes = torch.zeros(1, CHAINS, DEPTH)
    magnitudes[..., 0] = 0.5
    weights = torch.tensor([[0.5, 0.3, 0.2]])
    draws = MixtureDraws(PolicyDraws(operations, magnitudes), weights, torch.tensor([0.7]))
    strength = STRENGTHS["augmix"]
    chains = [apply_one(image, OPERATIONS[number], 0.5, strength) for number in numbers]
    expected = 0.3 * image + 0.7 * (0.5 * chains[0] + 0.3 * chains[1] + 0.2 * chains[2])
    torch.testing.assert_close(augmix(image, draws), expected)


@pytest.mark.parametrize(
    ("policy", "reference"),
    [
        ("rand_augment", v2.RandAugment._AUGMENTATION_SPACE),
        ("trivial_augment", v2.TrivialAugmentWide._AUGMENTATION_SPACE),
        ("augmix", v2.AugMix._PARTIAL_AUGMENTATION_SPACE),
    ],
)
def test_magnitude_1_is_what_torchvision_takes_for_the_most(policy: str, reference: dict) -> None:
    def most(name: str) -> float:
        return pytest.approx(float(reference[name][0](31, 32, 32)[-1]))

    strength = STRENGTHS[policy]
    found = strength.shear, 32 * strength.translate, strength.rotate
    assert found == (most("ShearX"), most("TranslateX"), most("Rotate"))
    if policy == "augmix":
        assert strength.bits == (4, 1)  # torchvision goes down to no bit, which is black
    else:
        assert (strength.enhance, strength.bits[1]) == (most("Brightness"), most("Posterize"))


def test_augmix_weighs_its_chains_by_dirichlet_and_magnitudes_are_uniform() -> None:
    draws = draw_mixture(np.random.default_rng(0), 4000, severity=0.3)
    # Dirichlet(1, 1, 1): variance 1/18. Beta(1, 1): 1/12.
    assert float(draws.weights.var()) == pytest.approx(1 / 18, rel=0.05)
    assert float(draws.mixture_shares.var()) == pytest.approx(1 / 12, rel=0.05)
    magnitudes = draws.chains.magnitudes[draws.chains.magnitudes != 0].abs()
    assert float(magnitudes.mean()) == pytest.approx(0.155, rel=0.02)
