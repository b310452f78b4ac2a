"""Weather: snow, frost, fog, and what splashes on the lens."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import linear
from .blur import smear
from .draws import Draws
from .frost_texture import TEXTURE_SIZE, frost_textures


def snow(
    images: Tensor,
    draws: Draws,
    mean: float,
    std: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    blend: float,
) -> Tensor:
    """Whiten the image and let flakes drift over it, in two layers turned by 180 degrees.

    Args:
        images: uint8 [N, 3, H, W].
        draws: random numbers.
        mean: of the normal noise the flakes are cut from.
        std: its standard deviation.
        zoom: enlargement of the noise.
        threshold: noise above it is a flake.
        radius: of the movement, in pixels.
        sigma: of the movement, in pixels.
        blend: share of the image; the rest is the image or its brightened grey, if lighter.
    """
    height, width = images.shape[-2:]
    noise = draws.normal(1, height, width) * std + mean
    layer = linear.apply_separable(
        noise, linear.zoom_matrix(height, zoom), linear.zoom_matrix(width, zoom)
    )
    flakes = (layer.where(layer >= threshold, 0).clamp_(0, 1) * 255).floor_()
    drift = smear(flakes, draws.uniform() * 90 - 135, radius, sigma).floor_()

    rgb = images.float()
    luma = rgb[:, :1] * 0.299 + rgb[:, 1:2] * 0.587 + rgb[:, 2:] * 0.114
    white = torch.maximum(rgb, luma * 1.5 + 127.5)
    return rgb * blend + white * (1 - blend) + drift + drift.flip(2, 3)


def frost(images: Tensor, draws: Draws, image_share: float, frost_share: float) -> Tensor:
    """Add a random part of one of five frost textures to the dimmed image."""
    height, width = images.shape[-2:]
    textures = frost_textures().to(images.device)
    which = draws.integers(len(textures))
    top, left = draws.integers(TEXTURE_SIZE), draws.integers(TEXTURE_SIZE)
    rows = (top[:, None] + torch.arange(height, device=images.device)) % TEXTURE_SIZE
    columns = (left[:, None] + torch.arange(width, device=images.device)) % TEXTURE_SIZE
    ice = textures[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return images * image_share + ice.permute(0, 3, 1, 2) * frost_share


def fog(images: Tensor, draws: Draws, amount: float, decay: float) -> Tensor:
    """Add `amount` of a plasma fractal, then scale back to the image's own maximum."""
    height, width = images.shape[-2:]
    mist = _plasma(draws, max(height, width), decay)[:, None, :height, :width]
    brightest = images.amax((1, 2, 3), keepdim=True) / 255
    return (images + mist * (amount * 255)) * (brightest / (brightest + amount))


def _plasma(draws: Draws, size: int, decay: float) -> Tensor:
    """Return plasma fractals by the diamond-square method on a torus, stretched to [0, 1].

    Args:
        draws: random numbers.
        size: least side of the map; the next power of two is taken.
        decay: by how much the scale of the noise falls from one level to the next; its amplitude
            falls by the square.

    Returns:
        float32 [N, side, side].
    """
    side = 1 << (size - 1).bit_length()
    plasma = torch.zeros_like(draws.uniform(1, 1)).expand(-1, side, side).clone()
    step, amplitude = side, 1.0
    while step >= 2:
        half = step // 2
        count = side // step

        def noise(amplitude: float = amplitude, count: int = count) -> Tensor:
            return (draws.uniform(count, count) * 2 - 1) * amplitude

        corners = plasma[:, ::step, ::step]
        in_row = corners + corners.roll(-1, 1)
        centres = (in_row + in_row.roll(-1, 2)) / 4 + noise()
        plasma[:, half::step, half::step] = centres
        across = centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)
        plasma[:, ::step, half::step] = across / 4 + noise()
        down = centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)
        plasma[:, half::step, ::step] = down / 4 + noise()
        step, amplitude = half, amplitude / decay**2
    plasma -= plasma.amin((1, 2), keepdim=True)
    return plasma / plasma.amax((1, 2), keepdim=True)


def spatter(
    images: Tensor,
    draws: Draws,
    mean: float,
    std: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: bool,
) -> Tensor:
    """Splash water or mud on the lens.

    Args:
        images: uint8 [N, 3, H, W].
        draws: random numbers.
        mean: of the normal noise the drops are cut from.
        std: its standard deviation.
        sigma: of the Gaussian that smooths the noise, in pixels.
        threshold: noise above it is liquid.
        strength: of water: its opacity; of mud: the sigma of its edge, in pixels.
        mud: whether the liquid is mud.
    """
    noise = draws.normal(1, *images.shape[-2:]) * std + mean
    layer = linear.gaussian_blur(noise, sigma)
    liquid = layer.where(layer >= threshold, 0)
    if mud:
        cover = linear.gaussian_blur((liquid > threshold).float(), strength)
        cover = cover.where(cover >= 0.8, 0)
        brown = torch.tensor([63.0, 42.0, 20.0], device=images.device).view(3, 1, 1)
        return images * (1 - cover) + brown * cover
    depth = (liquid[:, 0] * 255).to(torch.uint8).cpu().numpy()
    relief = np.stack([_water_relief(drops) for drops in depth])
    water = torch.from_numpy(relief).to(images.device)[:, None] * strength
    turquoise = torch.tensor([175.0, 238.0, 238.0], device=images.device).view(3, 1, 1)
    return images + water * turquoise


def _water_relief(drops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Light the drops from one side: float32 [H, W] in [0, 1] from the liquid uint8 [H, W]."""
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    smooth = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    lit = cv2.blur(cv2.filter2D(cv2.equalizeHist(smooth), cv2.CV_8U, emboss), (3, 3))
    relief = drops.astype(np.float32) * lit
    return relief / np.float32(max(relief.max(), 1))
