"""A small residual network for training from scratch on a CPU."""

from itertools import pairwise
from typing import cast

import torch
from torch import nn

WIDTHS = (32, 64, 128, 256)
"""Channels of the stages; each stage after the first halves height and width before it starts."""


class ExpressCNN(nn.Module):
    """3x3 convolutions, one a stage, and a residual block on the smallest maps.

    In the manner of the ResNet-9 of D. Page, "How to train your ResNet" (2018), but narrower, and
    pooling comes before a stage's convolution instead of after it: that costs a quarter. The last
    maps are pooled by their maxima.

    Args:
        num_classes: number of logits.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = _block(3, WIDTHS[0])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.MaxPool2d(2), _block(narrow, wide))
                for narrow, wide in pairwise(WIDTHS)
            )
        )
        self.residual = nn.Sequential(
            _block(WIDTHS[-1], WIDTHS[-1]), _block(WIDTHS[-1], WIDTHS[-1])
        )
        self.head = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] of normalised images [N, 3, H, W], H and W at least 8."""
        maps = self.stages(self.stem(images))
        maps = maps + self.residual(maps)
        return cast(torch.Tensor, self.head(maps.amax(dim=(2, 3))))


def _block(narrow: int, wide: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(inplace=True),
    )
