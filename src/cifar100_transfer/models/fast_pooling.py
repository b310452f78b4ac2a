"""2x2 max-pooling in few passes over the memory.

torch's kernel for contiguous images goes pixel by pixel and keeps the place of every maximum; on a
CPU it takes longer than the convolution before it. Two maxima of whole tensors do the same, and
where a maximum came from can be told afterwards by comparison.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS, _COLUMNS = -2, -1


def max_pool_2x2(images: Tensor) -> Tensor:
    """Return the maxima of all 2x2 squares; values and gradients are those of torch's pooling.

    Args:
        images: [N, C, H, W], floating point. An odd last row or column is dropped.

    Returns:
        [N, C, H // 2, W // 2].
    """
    odd = images.shape[_ROWS] % 2 or images.shape[_COLUMNS] % 2
    if odd or images.device.type != "cpu" or torch.compiler.is_compiling():
        return F.max_pool2d(images, 2)
    return _MaxPool.apply(images)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        in_rows = torch.maximum(*_pairs(images, _COLUMNS))
        maxima = torch.maximum(*_pairs(in_rows, _ROWS))
        ctx.save_for_backward(images, in_rows, maxima)
        return maxima

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        images, in_rows, maxima = ctx.saved_tensors
        return _pass_back(
            _pass_back(gradients[0], maxima, in_rows, _ROWS), in_rows, images, _COLUMNS
        )


def _pairs(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the first and the second of every pair of rows or columns, as views."""
    if axis == _COLUMNS:
        return values[..., ::2], values[..., 1::2]
    return values[..., ::2, :], values[..., 1::2, :]


def _pass_back(gradient: Tensor, maxima: Tensor, values: Tensor, axis: int) -> Tensor:
    """Give the gradient to the larger of every pair; of equals, like torch, to the first."""
    passed = torch.empty_like(values)
    first, second = _pairs(passed, axis)
    torch.mul(gradient, _pairs(values, axis)[0] == maxima, out=first)
    torch.sub(gradient, first, out=second)
    return passed
