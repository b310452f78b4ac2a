"""Blurs: of lenses, glass, movement and scale."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from . import linear
from .draws import Draws


def gaussian_blur(images: Tensor, _draws: Draws, sigma: float) -> Tensor:
    """Blur by a Gaussian of `sigma` pixels."""
    return linear.gaussian_blur(images, sigma)


def defocus_blur(images: Tensor, _draws: Draws, radius: float, alias_sigma: float) -> Tensor:
    """Blur by a disk of `radius` pixels whose edge a Gaussian of `alias_sigma` smooths."""
    reach = math.ceil(radius) + 1
    steps = np.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.float64)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (3, 3), alias_sigma)
    rows, columns = np.nonzero(kernel)
    offsets = np.stack([rows, columns], -1) - reach
    of_images = np.broadcast_to(offsets, (len(images), *offsets.shape))
    return linear.shift_and_add(images, of_images, kernel[rows, columns], "reflect")


def glass_blur(images: Tensor, draws: Draws, sigma: float, iterations: int) -> Tensor:
    """Blur, copy pixels from random neighbours, blur again.

    The pixels from the third row and column on take, at even odds, their own value or that of the
    neighbour above, to the left, or both. (Visited from the bottom right, as the definition says,
    a pixel is read before it is overwritten, so all can be moved at once.)

    Args:
        images: uint8 [N, 3, H, W].
        draws: random numbers.
        sigma: of both Gaussians, in pixels.
        iterations: how often pixels are copied.
    """
    shuffled = linear.gaussian_blur(images, sigma).to(torch.uint8)
    height, width = images.shape[-2:]
    for _ in range(iterations):
        choice = draws.bytes(1, height - 2, width - 2)
        above, left = (choice & 1).bool(), (choice & 2).bool()
        moved = torch.where(
            above,
            torch.where(left, shuffled[..., 1:-1, 1:-1], shuffled[..., 1:-1, 2:]),
            torch.where(left, shuffled[..., 2:, 1:-1], shuffled[..., 2:, 2:]),
        )
        shuffled[..., 2:, 2:] = moved
    return linear.gaussian_blur(shuffled, sigma)


def motion_blur(images: Tensor, draws: Draws, radius: int, sigma: float) -> Tensor:
    """Smear along a line at a random angle between -45 and 45 degrees to the horizontal."""
    return smear(images, draws.uniform() * 90 - 45, radius, sigma)


def smear(images: Tensor, degrees: Tensor, radius: int, sigma: float) -> Tensor:
    """Average along a line, with the weights of one half of a Gaussian.

    Args:
        images: integers 0 to 255, [N, C, H, W].
        degrees: float32 [N], direction in which the line leaves a pixel: 0 right, 90 down.
        radius: the line has 2 * radius + 1 pixels.
        sigma: of the Gaussian, in pixels.

    Returns:
        float32 [N, C, H, W]; edges are continued.
    """
    steps = np.arange(2 * radius + 1)
    gaussian = np.exp(-(steps**2) / (2 * sigma**2))
    # In the order of their angles many neighbours share an offset.
    order = degrees.argsort()
    radians = np.deg2rad(degrees[order].cpu().double().numpy())[:, None]
    line = np.stack([steps * np.sin(radians), steps * np.cos(radians)], -1)
    offsets = np.ceil(line - 0.5).astype(np.int64)
    smeared = linear.shift_and_add(images[order], offsets, gaussian / gaussian.sum(), "replicate")
    return smeared[order.argsort()]


def zoom_blur(images: Tensor, _draws: Draws, zooms: int) -> Tensor:
    """Average the image and `zooms` enlargements of its middle: by 1, 1.01, 1.02, …."""
    height, width = images.shape[-2:]
    pixels_first = images.cpu().reshape(-1, height * width).T.double().contiguous()
    total = _sum_of_zooms(height, width, zooms) @ pixels_first.numpy()
    average = torch.from_numpy(total.T / (zooms + 1))
    return average.reshape(images.shape).to(images.device)


@lru_cache
def _sum_of_zooms(height: int, width: int, zooms: int) -> sparse.csr_array:
    """Return the image plus its enlargements as a sparse float64 [H * W, H * W]."""
    total = sparse.eye_array(height * width, format="csr")
    for factor in np.arange(1, 2, 0.01)[:zooms].tolist():
        total = total + sparse.kron(
            sparse.csr_array(linear.zoom_matrix(height, factor).numpy()),
            sparse.csr_array(linear.zoom_matrix(width, factor).numpy()),
            format="csr",
        )
    return total
