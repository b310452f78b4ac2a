"""Linear filters in exact arithmetic.

Weights are rounded to multiples of a power of two: 2^-16 for one pass in float32, 2^-20 for two in
float64. Products with 8-bit pixels and their sums then fit into the mantissa, nothing is rounded on
the way, and the result depends on neither the order of summation nor the size of the batch nor the
device. Weights that sum to one do so exactly: flat areas stay as they are.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor


def fixed_point(weights: NDArray[np.floating], bits: int = 20) -> NDArray[np.float64]:
    """Round weights to multiples of 2^-bits, keeping the sum along the last axis at one.

    Args:
        weights: [..., K], each [K] with the sum one.
        bits: digits behind the binary point.

    Returns:
        float64 [..., K]. What rounding added or took is settled with the largest weight.
    """
    exact = np.round(np.asarray(weights, dtype=np.float64) * 2.0**bits)
    largest = exact.argmax(-1)[..., None]
    surplus = exact.sum(-1, keepdims=True) - 2.0**bits
    np.put_along_axis(exact, largest, np.take_along_axis(exact, largest, -1) - surplus, -1)
    return exact / 2.0**bits


@lru_cache
def gaussian_matrix(size: int, sigma: float, mode: str = "nearest", truncate: float = 4) -> Tensor:
    """Return float64 [size, size], which blurs a column of pixels.

    Args:
        size: number of pixels.
        sigma: standard deviation of the Gaussian in pixels.
        mode: how the column goes on beyond its ends (as named by `scipy.ndimage`).
        truncate: where the Gaussian ends, in standard deviations.
    """
    blurred_unit = ndimage.gaussian_filter1d(
        np.eye(size), sigma, axis=0, mode=mode, truncate=truncate
    )
    return torch.from_numpy(fixed_point(blurred_unit))


@lru_cache
def zoom_matrix(size: int, factor: float) -> Tensor:
    """Return float64 [size, size], which enlarges the middle of a column by linear interpolation.

    Args:
        size: number of pixels.
        factor: enlargement, at least 1.
    """
    kept = int(np.ceil(size / factor))
    first = (size - kept) // 2
    enlarged = ndimage.zoom(np.eye(size)[first : first + kept], (factor, 1), order=1)
    trimmed = (len(enlarged) - size) // 2
    return torch.from_numpy(fixed_point(enlarged[trimmed : trimmed + size]))


@lru_cache
def box_matrix(size: int, new_size: int) -> Tensor:
    """Return float64 [new_size, size], Pillow's box filter from `size` to `new_size` pixels."""
    unit = Image.fromarray(np.eye(size, dtype=np.float32))
    resized = np.asarray(unit.resize((size, new_size), Image.Resampling.BOX))
    return torch.from_numpy(fixed_point(resized))


def apply_separable(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Filter along both axes.

    Args:
        values: [..., H, W], uint8, or floats below 4 in magnitude, which are rounded to multiples
            of 2^-11.
        rows: float64 [H', H], multiples of 2^-20, for the vertical axis.
        columns: float64 [W', W], likewise for the horizontal axis.

    Returns:
        float64 [..., H', W'].
    """
    exact = values.double()
    if values.is_floating_point():
        exact = (exact * 2**11).round_() / 2**11
    return rows.to(values.device) @ exact @ columns.to(values.device).T


def gaussian_blur(values: Tensor, sigma: float) -> Tensor:
    """Blur [..., H, W] by a Gaussian of `sigma` pixels, edges continued, to 4 sigma; float64."""
    height, width = values.shape[-2:]
    return apply_separable(values, gaussian_matrix(height, sigma), gaussian_matrix(width, sigma))


def shift_and_add(
    images: Tensor, offsets: NDArray[np.int64], weights: NDArray[np.float64], padding: str
) -> Tensor:
    """Sum weighted copies of every image, each shifted by offsets of its own.

    Fast where neighbours in the batch have equal offsets: one addition then serves them all.

    Args:
        images: [N, C, H, W], N at least 1, integers 0 to 255.
        offsets: [N, T, 2]: pixel (y, x) of copy t is pixel (y + offset 0, x + offset 1).
        weights: [T], sum one; rounded to multiples of 2^-16.
        padding: what lies beyond the edges: "replicate" or "reflect" (without the edge pixel).

    Returns:
        float32 [N, C, H, W].
    """
    weights = fixed_point(weights, 16)
    weights, offsets = weights[weights > 0], offsets[:, weights > 0]
    height, width = images.shape[-2:]
    up, left = np.maximum(-offsets.min((0, 1)), 0).tolist()
    down, right = np.maximum(offsets.max((0, 1)), 0).tolist()
    padded = F.pad(images.float(), (left, right, up, down), mode=padding)
    total = torch.zeros_like(images, dtype=torch.float32)
    for weight, shifts in zip(weights.tolist(), offsets.swapaxes(0, 1), strict=True):
        changes = np.flatnonzero((shifts[1:] != shifts[:-1]).any(-1)) + 1
        starts = [0, *changes.tolist()]
        for start, stop in zip(starts, [*starts[1:], len(images)], strict=True):
            y, x = (shifts[start] + (up, left)).tolist()
            window = padded[start:stop, :, y : y + height, x : x + width]
            total[start:stop].add_(window, alpha=weight)
    return total
