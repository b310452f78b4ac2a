"""A small residual network for training from scratch on a CPU."""

from typing import cast

import torch
from torch import nn

WIDTHS = {"express": (48, 96, 192, 384), "express_small": (32, 64, 128, 256)}
"""Channels of the stages by architecture; each stage but the last halves height and width."""


class ExpressCNN(nn.Module):
    """3x3 convolutions, one a stage, and a residual block on the smallest maps.

    In the manner of the ResNet-9 of D. Page, "How to train your ResNet" (2018), but narrower and
    with one block, on the smallest maps, where matrix products do the convolutions. As in
    K. Jordan's "94 % on CIFAR-10 in 3.29 seconds" (2024), maps are pooled before they are
    normalised, so that normalisation and ReLU work on a quarter of the values: on a CPU these cost
    as much as a convolution. The last maps are pooled by their maxima.

    Args:
        num_classes: number of logits.
        widths: channels of the four stages.
    """

    def __init__(self, num_classes: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        first, second, third, last = widths
        self.stages = nn.Sequential(
            _block(3, first, nn.MaxPool2d(2)),
            _block(first, second, nn.MaxPool2d(2)),
            _block(second, third, nn.MaxPool2d(2)),
            _block(third, last),
        )
        self.residual = nn.Sequential(_block(last, last), _block(last, last))
        self.head = nn.Linear(last, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] of normalised images [N, 3, H, W], H and W at least 8."""
        maps = self.stages(images)
        maps = maps + self.residual(maps)
        return cast(torch.Tensor, self.head(maps.amax(dim=(2, 3))))


def _block(narrow: int, wide: int, *pool: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, kernel_size=3, padding=1, bias=False),
        *pool,
        nn.BatchNorm2d(wide),
        nn.ReLU(inplace=True),
    )
