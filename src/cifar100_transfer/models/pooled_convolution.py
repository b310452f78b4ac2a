"""A 3x3 convolution and 2x2 max-pooling in one.

torch's pooling of contiguous images goes pixel by pixel, and on a CPU takes longer than the
convolution of three channels before it. Here the four pixels of each square lie in four maps, one
behind the other in memory, so that finding the maxima, and which of the four each was, are a few
vectorised passes. One convolution of stride 2 makes all four maps, with the 3x3 filter at the four
places of a 4x4 one. It multiplies 16/9 as often, which first layers can afford.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PooledConv2d(nn.Conv2d):
    """A 3x3 convolution, padded to keep the size, and 2x2 max-pooling; faster than both on a CPU.

    Up to rounding in the convolution, gradients are the same, too: of equals in a square the first
    gets all of it. Values that differ by less than the least normal number count as equal.

    Args:
        in_channels: of the images.
        out_channels: of the pooled maps.
    """

    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled maps [N, D, H // 2, W // 2] of images [N, C, H, W].

        An odd last row or column is dropped.
        """
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return F.max_pool2d(super().forward(images), 2)
        places = [F.pad(self.weight, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)]
        maps = F.conv2d(images, torch.cat(places), self.bias.repeat(4), stride=2, padding=1)
        shape = len(maps), 4, self.out_channels, *maps.shape[2:]
        return cast(Tensor, _Maximum.apply(maps.view(shape)))


class _Maximum(torch.autograd.Function):
    """The maximum over four maps [N, 4, ...]."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        first, second, third, fourth = maps.unbind(1)
        maxima = torch.maximum(torch.maximum(first, second), torch.maximum(third, fourth))
        ctx.save_for_backward(maps, maxima)
        return maxima

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        maps, maxima = ctx.saved_tensors
        below = maps - maxima.unsqueeze(1)  # 0 at a maximum; becomes the gradients
        rest = gradients[0]
        *earlier, last = below.unbind(1)
        for part in earlier:
            _zero_where_below(rest, part)
            rest = rest - part
        last.copy_(rest)
        return below


def _zero_where_below(gradient: Tensor, below: Tensor) -> None:
    """Replace `below` by the gradient where it is 0, and by 0 elsewhere: ReLU's, in one pass."""
    threshold = -torch.finfo(below.dtype).smallest_normal
    torch.ops.aten.threshold_backward.grad_input(gradient, below, threshold, grad_input=below)
