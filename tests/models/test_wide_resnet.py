"""Wide residual networks against what their authors say of them."""

import pytest
import torch
from torch import nn

from cifar100_transfer.models.wide_resnet import WIDE_RESNETS, PreActivationBlock, WideResNet


# Millions of parameters: Zagoruyko & Komodakis, 2016, tables 3 and 4.
@pytest.mark.parametrize(
    ("name", "millions"), [("wrn_40_4", 8.9), ("wrn_16_8", 11.0), ("wrn_28_10", 36.5)]
)
def test_networks_are_as_large_as_the_papers(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = WideResNet(*WIDE_RESNETS[name], num_classes=100)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("name", "depth"), [(name, size[0]) for name, size in WIDE_RESNETS.items()]
)
def test_the_longest_path_has_as_many_layers_as_the_name_says(name: str, depth: int) -> None:
    with torch.device("meta"):
        network = WideResNet(*WIDE_RESNETS[name], num_classes=7)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    shortcuts = [m for m in convolutions if m.kernel_size == (1, 1)]
    # The paper counts three shortcuts that change the shape, though width 1 has but two.
    assert len(shortcuts) == (2 if name == "wrn_10_1" else 3)
    assert len(convolutions) - len(shortcuts) == depth - 3


def test_maps_shrink_between_the_groups_and_any_size_is_taken() -> None:
    network = WideResNet(10, 1, num_classes=7).eval()
    maps = network.stem(torch.randn(2, 3, 20, 28))
    sizes = []
    for block in network.blocks:
        maps = block(maps)
        sizes.append(tuple(maps.shape[1:]))
    assert sizes == [(16, 20, 28), (32, 10, 14), (64, 5, 7)]
    assert network(torch.randn(2, 3, 9, 8)).shape == (2, 7)


def test_a_block_of_equal_shape_adds_to_what_it_is_given() -> None:
    block = PreActivationBlock(4, 4, stride=1)
    nn.init.zeros_(block.conv2.weight)
    maps = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(maps), maps)


def test_a_block_of_another_shape_shortcuts_what_is_activated() -> None:
    block = PreActivationBlock(4, 8, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)
    assert block.shortcut is not None
    maps = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(maps), block.shortcut(torch.relu(block.norm1(maps))))


def test_initial_weights_keep_the_size_of_gradients() -> None:
    torch.manual_seed(0)
    network = WideResNet(16, 4, num_classes=100)
    weight = network.blocks[3].conv2.weight
    # He et al., 2015: variance 2 over the outgoing connections.
    assert float(weight.detach().std()) == pytest.approx(
        (2 / (9 * weight.shape[0])) ** 0.5, rel=0.02
    )
    assert not network.head.bias.detach().any()
