"""The small residual network against its description."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from cifar100_transfer.models.express import LAYOUTS, ExpressCNN, Layout, WhiteningStem


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_stage_halves_the_maps_and_maxima_and_means_are_classified(name: str) -> None:
    torch.manual_seed(0)
    network = ExpressCNN(7, LAYOUTS[name]).eval()
    images = torch.randn(2, 3, 32, 24)
    maps = network.stages(network.stem(images))
    assert maps.shape == (2, LAYOUTS[name].widths[-1], 3, 2)
    flat = maps.flatten(2)
    features = flat.max(dim=2).values + flat.mean(dim=2)
    expected = features @ network.head.weight.T * 1.25 / 9
    torch.testing.assert_close(network(images), expected)


def test_the_stem_whitens_shifts_and_bends() -> None:
    stem = WhiteningStem()
    nn.init.normal_(stem.bias)
    images = torch.randn(2, 3, 6, 5)
    expected = F.silu(F.conv2d(images, stem.filters) + stem.bias[:, None, None])
    torch.testing.assert_close(stem(images), expected)


@pytest.mark.parametrize("number", range(3))
def test_a_stage_pools_before_it_normalises_and_adds_its_block(number: int) -> None:
    stage = ExpressCNN(7, LAYOUTS["express_small"]).stages[number]
    images = torch.randn(4, stage.entry.in_channels, 9, 9)
    pooled = F.max_pool2d(stage.entry(images), 2)
    # In training batch normalisation shows which values it has seen.
    maps = F.silu(F.batch_norm(pooled, None, None, training=True))
    layers = list(stage.block)
    torch.testing.assert_close(stage(images), F.silu(maps + nn.Sequential(*layers)(maps)))


def test_a_layout_sets_the_filters_of_every_stage() -> None:
    layout = Layout((8, 8, 8), (4, 5, 6), entries=(1, 2, 3), sides=((1, 3), (3, 1), (3, 3)))
    stages = ExpressCNN(7, layout).stages
    found = [(s.entry.kernel_size, s.block[0].kernel_size, s.block[3].kernel_size) for s in stages]
    expected = [((1, 1), (1, 1), (3, 3)), ((2, 2), (3, 3), (1, 1)), ((3, 3), (3, 3), (3, 3))]
    assert found == expected
    assert [stage.block[0].out_channels for stage in stages] == [4, 5, 6]


def test_the_large_network_has_the_parameters_that_its_page_states() -> None:
    with torch.device("meta"):
        network = ExpressCNN(100, LAYOUTS["express_large"])
    assert sum(parameter.numel() for parameter in network.parameters()) == 53_230_872


def test_a_stage_can_have_several_blocks_one_after_another() -> None:
    narrow = Layout((8, 8, 8), (4, 4, 4), blocks=3)
    stage = ExpressCNN(7, narrow).stages[2].eval()
    images = torch.randn(2, 8, 9, 9)
    maps = F.silu(stage.entry_norm(F.max_pool2d(stage.entry(images), 2)))
    for block in (stage.block, *stage.further):
        maps = F.silu(maps + nn.Sequential(*block)(maps))
    assert len(stage.further) == 2
    torch.testing.assert_close(stage(images), maps)


@pytest.mark.parametrize("stage", range(3))
def test_convolutions_start_by_passing_on_what_maps_they_can(stage: int) -> None:
    layers = ExpressCNN(7, LAYOUTS["express_small"]).stages[stage].modules()
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 3
    for convolution in convolutions:
        outputs, inputs, side, _ = convolution.weight.shape
        maps = torch.randn(2, inputs, 6, 6)
        passed = min(outputs, inputs)
        # A filter of even side has no middle: it passes on the pixel below and to the right.
        expected = maps if side % 2 else maps[:, :, 1:, 1:]
        torch.testing.assert_close(convolution(maps)[:, :passed], expected[:, :passed])


@given(seed=st.integers(0, 2**16), scale=st.floats(0.5, 4))
def test_a_fitted_stem_makes_patches_uncorrelated_and_of_unit_variance(
    seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn(50, 3, 16, 16, generator=generator)
    # Neighbouring pixels and channels are alike, as in pictures.
    alike = F.avg_pool2d(fine, 3, 1, 1) + fine.mean(dim=1, keepdim=True)
    images = scale * (alike + fine)
    stem = WhiteningStem()
    stem.fit(images)
    maps = F.conv2d(images, stem.filters)
    covariance = torch.cov(maps.transpose(0, 1).flatten(1)[:12])
    torch.testing.assert_close(covariance, torch.eye(12), atol=0.05, rtol=0)
    assert torch.equal(stem.filters[12:], -stem.filters[:12])


def test_the_stem_learns_its_bias_alone() -> None:
    stem = WhiteningStem()
    assert [name for name, _ in stem.named_parameters()] == ["bias"]
    assert "filters" in stem.state_dict()


def test_images_of_one_colour_give_finite_filters() -> None:
    stem = WhiteningStem()
    stem.fit(torch.zeros(4, 3, 16, 16))
    assert stem.filters.isfinite().all()
