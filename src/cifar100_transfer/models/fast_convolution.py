"""Convolutions on small feature maps, fast and right, for the CPU.

On 32-pixel images the maps of an ImageNet network shrink to 8x8, 4x4, 2x2 and 1x1 pixels. oneDNN's
convolutions are made for larger ones: most of a 3x3 kernel then lies on the padding, yet is
multiplied, and the gradient with respect to the weight is far from the speed of a matrix product.
Two cases are better served by the BLAS library:

* 1x1 kernels on maps of at most 8x8 pixels: in channels-last memory the pixels already are the rows
  of a matrix.
* Kernels that reach across most of a small map: output pixels that read the same window of the
  input share one product with the taps on that window, and no tap on the padding is multiplied.
  A 3x3 kernel on a 1x1 map is its centre tap; on a 2x2 map it is a dense 4C x 4O matrix.

Every other call goes to PyTorch's own convolution, some with an input that is padded before.

`benchmarks/convolutions.py` measures the gain, `docs/results/convolutions.json` is one outcome.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Path(Enum):
    """How one call is computed."""

    PIXELS = "one matrix product over all pixels"
    WINDOWS = "one matrix product a distinct input window"
    CONVOLUTION = "PyTorch's convolution"
    PADDED = "PyTorch's convolution of a padded input"


def accelerate_convolutions(network: nn.Module) -> nn.Module:
    """Let every plain convolution of `network` choose the fastest exact path, call by call.

    Plain means: exactly `nn.Conv2d`, no dilation, padded with zeros. The modules, their parameters
    and hooks, and so the state dict, stay the same objects; only `forward` changes. Results differ
    from those of a right `nn.Conv2d` by rounding alone, in training and in evaluation.

    The paths pay in channels-last memory, where the channels of a pixel are neighbours and no
    copy is needed: `network.to(memory_format=torch.channels_last)` before, images likewise. Other
    layouts give the same numbers.

    Args:
        network: any module; it is changed in place. May be on any device: away from the CPU
            `nn.Conv2d` computes as ever, and `torch.compile` and `torch.export` see no products.

    Returns:
        `network` itself.
    """
    for module in network.modules():
        if (
            type(module) is nn.Conv2d
            and module.dilation == (1, 1)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            # The subclass holds no state of its own, so the object can simply become one.
            module.__class__ = FastConv2d
    return network


class FastConv2d(nn.Conv2d):
    """An `nn.Conv2d` that computes small feature maps by matrix products; same state, same result.

    Made by `accelerate_convolutions`, which sees to the conditions: no dilation, zeros as padding,
    given as numbers.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name is part of nn.Conv2d
        """Convolve a batch [N, C, H, W] into [N, O, H', W'], of the input's floating dtype."""
        if input.device.type != "cpu" or input.ndim != 4 or input.shape[1] != self.in_channels:
            return super().forward(input)
        height, width = input.shape[2:]
        geometry = (
            Geometry(height, self.kernel_size[0], self.stride[0], int(self.padding[0])),
            Geometry(width, self.kernel_size[1], self.stride[1], int(self.padding[1])),
        )
        if torch.compiler.is_compiling():  # what it compiles are PyTorch's own convolutions
            path = _library_path(*geometry)
        else:
            path = choose_path(len(input), self.groups, *geometry)
        if path is Path.PIXELS:
            return _pixel_products(input, self.weight, self.bias, self.stride)
        if path is Path.WINDOWS:
            return _window_products(input, self.weight, self.bias, geometry)
        if path is Path.PADDED:
            rows, columns = geometry
            padded = F.pad(input, (columns.padding, columns.padding, rows.padding, rows.padding))
            return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)
        return super().forward(input)


class Geometry(NamedTuple):
    """One axis of a convolution, in pixels."""

    size: int
    kernel: int
    stride: int
    padding: int

    @property
    def output_size(self) -> int:
        """Pixels of the output on this axis; below 1 where the kernel does not fit."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1


def choose_path(batch: int, groups: int, rows: Geometry, columns: Geometry) -> Path:
    """Choose how to compute a convolution, from shapes alone.

    Args:
        batch: number of images, at least 0.
        groups: of channels, at least 1; the products are for one.
        rows: the vertical axis.
        columns: the horizontal axis.

    Returns:
        Of the paths whose gradients are right, that which measured fastest for forward and backward
        together; see the comments.
    """
    axes = (rows, columns)
    if groups == 1 and all(axis.kernel == 1 and axis.padding == 0 for axis in axes):
        # On maps above 8x8 oneDNN is ahead again: SqueezeNet 1.1 at 64 pixels took 250 ms a step
        # of 128 images with products everywhere and 191 ms without (two AVX2 cores).
        return Path.PIXELS if rows.size * columns.size <= 64 else Path.CONVOLUTION
    if any(axis.output_size < 1 or axis.padding >= axis.kernel for axis in axes):
        return Path.CONVOLUTION
    # A product gathers its matrix from the kernel, a cost that a batch must be large enough to
    # carry. Measured on two AVX2 cores with 3x3 kernels and 128 to 512 channels, products win from
    # about 8 images for 1 window (maps of 1x1 and 2x2), 32 for 4 (4x4 to 2x2), 128 for 9 (3x3) and
    # 256 for 16 (8x8 to 4x4); beyond, windows cover so few pixels that oneDNN stays ahead.
    products = len(_windows(rows)) * len(_windows(columns))
    # On a map of one pixel the matrix is a slice of the kernel, which any batch carries.
    one_pixel = rows.size == columns.size == 1
    if groups == 1 and (one_pixel or products <= min(16, batch // 16)):
        return Path.WINDOWS
    return _library_path(*axes)


def _library_path(*axes: Geometry) -> Path:
    # In bfloat16 oneDNN leaves the gradient of taps on the padding of such maps unwritten, whatever
    # was in that memory (seen with torch 2.15). On padding that is part of the map it does not.
    return Path.PADDED if any(axis.size < axis.stride for axis in axes) else Path.CONVOLUTION


def _pixel_products(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...]
) -> Tensor:
    """Compute a 1x1 convolution: every pixel's channels times the same matrix."""
    pixels = images.permute(0, 2, 3, 1)[:, :: stride[0], :: stride[1]]
    return F.linear(pixels, weight.flatten(1), bias).permute(0, 3, 1, 2)


class _Window(NamedTuple):
    """What some neighbouring output pixels have in common on one axis.

    Attributes:
        inputs: the input pixels each of them reads.
        outputs: where they are.
        taps: for each of them, the part of the kernel that lies on `inputs`.
    """

    inputs: slice
    outputs: slice
    taps: tuple[slice, ...]


@lru_cache(maxsize=256)
def _windows(axis: Geometry) -> tuple[_Window, ...]:
    """Group the output pixels of one axis by the input pixels they read, without the padding."""
    groups: dict[tuple[int, int], list[int]] = {}
    for output in range(axis.output_size):
        start = output * axis.stride - axis.padding
        window = max(start, 0), min(start + axis.kernel, axis.size)
        groups.setdefault(window, []).append(output)
    return tuple(
        _Window(
            inputs=slice(first, end),
            outputs=slice(outputs[0], outputs[-1] + 1),
            taps=tuple(
                slice(first - start, end - start)
                for start in (output * axis.stride - axis.padding for output in outputs)
            ),
        )
        for (first, end), outputs in groups.items()
    )


def _window_products(
    images: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Geometry, Geometry]
) -> Tensor:
    """Compute a convolution by one product for all output pixels that read the same window."""
    if torch.is_autocast_enabled("cpu"):
        # Autocast does not reach into the backward of an autograd.Function: cast before it.
        dtype = torch.get_autocast_dtype("cpu")
        images, weight = images.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    outputs: Tensor = _WindowProducts.apply(images, weight, geometry)
    return outputs if bias is None else outputs + bias.view(-1, 1, 1)


class _WindowProducts(torch.autograd.Function):
    """Matrix products over the input windows, and their gradients.

    Left to autograd, the gradient of every slice of the kernel would be a zero-padded copy of the
    whole kernel; written out, all of them add up in one buffer.
    """

    @staticmethod
    def forward(images: Tensor, weight: Tensor, geometry: tuple[Geometry, Geometry]) -> Tensor:
        pixels, kernel = images.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        outputs = pixels.new_empty(
            len(pixels), geometry[0].output_size, geometry[1].output_size, len(kernel)
        )
        for rows, columns in product(*map(_windows, geometry)):
            window = pixels[:, rows.inputs, columns.inputs].flatten(1)
            part = outputs[:, rows.outputs, columns.outputs]
            part.copy_((window @ _matrix(kernel, rows, columns).T).view(part.shape))
        return outputs.permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, tuple[Geometry, Geometry]], output: Tensor
    ) -> None:
        images, weight, ctx.geometry = inputs
        ctx.save_for_backward(images, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        pixels, kernel = images.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        pixel_gradient = torch.zeros_like(pixels) if ctx.needs_input_grad[0] else None
        kernel_gradient = torch.zeros_like(kernel) if ctx.needs_input_grad[1] else None
        for rows, columns in product(*map(_windows, ctx.geometry)):
            part = gradient.permute(0, 2, 3, 1)[:, rows.outputs, columns.outputs].flatten(1)
            window = pixels[:, rows.inputs, columns.inputs]
            if pixel_gradient is not None:
                pixel_gradient[:, rows.inputs, columns.inputs] += (
                    part @ _matrix(kernel, rows, columns)
                ).view(window.shape)
            if kernel_gradient is not None:
                blocks = (part.T @ window.flatten(1)).view(-1, len(kernel), *window.shape[1:])
                for block, (row, column) in zip(
                    blocks, product(rows.taps, columns.taps), strict=True
                ):
                    kernel_gradient[:, row, column] += block
        return (
            None if pixel_gradient is None else pixel_gradient.permute(0, 3, 1, 2),
            None if kernel_gradient is None else kernel_gradient.permute(0, 3, 1, 2),
            None,
        )


def _matrix(kernel: Tensor, rows: _Window, columns: _Window) -> Tensor:
    """Gather the taps [O, k, k, C] that lie on a window: [outputs * O, window pixels * C]."""
    taps = [kernel[:, row, column].flatten(1) for row, column in product(rows.taps, columns.taps)]
    return torch.cat(taps)
