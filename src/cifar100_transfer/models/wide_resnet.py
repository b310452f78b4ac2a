"""Wide residual networks for images of 32 pixels (Zagoruyko & Komodakis, 2016)."""

from itertools import pairwise
from typing import cast

import torch
from torch import nn

WIDE_RESNETS = {
    "wrn_10_1": (10, 1),
    "wrn_16_4": (16, 4),
    "wrn_16_8": (16, 8),
    "wrn_28_8": (28, 8),
    "wrn_28_10": (28, 10),
    "wrn_40_4": (40, 4),
}
"""Depth, in layers on the longest path, and width, as a multiple of 16, 32 and 64 channels."""


class WideResNet(nn.Module):
    """A 3x3 stem, three groups of residual blocks, the mean over the last maps, a linear head.

    Blocks normalise and rectify before they convolve ("pre-activation", He et al., 2016). The
    second and the third group begin by halving height and width. Dropout between convolutions, an
    option of the paper, is left out.

    Args:
        depth: 6 n + 4 for n blocks a group.
        width: multiple of 16 channels in the first group, 32 in the second, 64 in the third.
        num_classes: number of logits.
    """

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        widths = (16, 16 * width, 32 * width, 64 * width)
        self.stem = _convolution(3, widths[0])
        self.blocks = nn.Sequential()
        for group, (narrow, wide) in enumerate(pairwise(widths)):
            self.blocks.append(PreActivationBlock(narrow, wide, stride=2 if group else 1))
            for _ in range((depth - 4) // 6 - 1):
                self.blocks.append(PreActivationBlock(wide, wide, stride=1))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] of normalised images [N, 3, H, W] of any size."""
        maps = torch.relu(self.norm(self.blocks(self.stem(images))))
        return cast(torch.Tensor, self.head(maps.mean(dim=(2, 3))))


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, a 1x1 convolution where the shape changes.

    Args:
        narrow: channels of the input.
        wide: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(narrow)
        self.conv1 = _convolution(narrow, wide, stride)
        self.norm2 = nn.BatchNorm2d(wide)
        self.conv2 = _convolution(wide, wide)
        same = narrow == wide and stride == 1
        self.shortcut = None if same else nn.Conv2d(narrow, wide, 1, stride, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps [N, wide, H / stride, W / stride] of maps [N, narrow, H, W]."""
        active = torch.relu(self.norm1(maps))
        # Where the shape changes, the shortcut starts behind the first activation, as in the paper.
        kept = maps if self.shortcut is None else self.shortcut(active)
        active = torch.relu(self.norm2(self.conv1(active)))
        return cast(torch.Tensor, kept + self.conv2(active))


def _convolution(narrow: int, wide: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(narrow, wide, kernel_size=3, stride=stride, padding=1, bias=False)
