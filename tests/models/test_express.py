"""The small residual network against its description."""

import pytest
import torch
from torch import nn

from cifar100_transfer.models.express import WIDTHS, ExpressCNN


@pytest.mark.parametrize("name", WIDTHS)
def test_the_block_adds_to_the_maps_and_their_maxima_are_classified(name: str) -> None:
    torch.manual_seed(0)
    network = ExpressCNN(7, WIDTHS[name]).eval()
    images = torch.randn(2, 3, 16, 24)
    maps = network.stages(images)
    assert maps.shape == (2, WIDTHS[name][-1], 2, 3), "a side shrinks to an eighth"
    summed = maps + network.residual(maps)
    expected = network.head(summed.flatten(2).max(dim=2).values)
    torch.testing.assert_close(network(images), expected)


def test_maps_are_pooled_before_they_are_normalised() -> None:
    stages = ExpressCNN(7, WIDTHS["express_small"]).stages
    kinds = [[type(layer) for layer in stage] for stage in stages]
    usual = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [[nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.ReLU]] * 3 + [usual]
