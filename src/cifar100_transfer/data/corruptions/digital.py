"""What cameras, codecs and screens do: colour, contrast, scale, compression, distortion."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import linear
from .draws import Draws


def brightness(images: Tensor, _draws: Draws, amount: float) -> Tensor:
    """Add `amount` (of the range) to the value of hue, saturation and value."""
    rgb = images.float()
    value = rgb.amax(1, keepdim=True)
    brighter = (value + 255 * amount).clamp_(max=255)
    return torch.where(value > 0, rgb * (brighter / value), brighter)


def saturate(images: Tensor, _draws: Draws, factor: float, amount: float) -> Tensor:
    """Scale the saturation by `factor`, add `amount`. Greys, having no hue, turn red."""
    rgb = images.float()
    value = rgb.amax(1, keepdim=True)
    missing = value - rgb
    chroma = missing.amax(1, keepdim=True)
    saturation = (chroma / value.clamp(min=1) * factor + amount).clamp_(max=1)
    red = torch.tensor([0.0, 1.0, 1.0], device=images.device).view(3, 1, 1)
    share = torch.where(chroma > 0, missing / chroma, red)
    return value - value * saturation * share


def contrast(images: Tensor, _draws: Draws, factor: float) -> Tensor:
    """Scale the distance of every value from its channel's mean."""
    mean = images.sum((2, 3), keepdim=True).double() / (images.shape[2] * images.shape[3])
    return (images - mean) * factor + mean


def pixelate(images: Tensor, _draws: Draws, share: float) -> Tensor:
    """Shrink both sides to `share` with Pillow's box filter, and back."""
    height, width = images.shape[-2:]
    small = _box_resize(images, int(height * share), int(width * share))
    return _box_resize(small, height, width)


def _box_resize(values: Tensor, height: int, width: int) -> Tensor:
    """Resize [..., H, W] as Pillow does: the horizontal pass is rounded before the vertical."""
    columns = linear.box_matrix(values.shape[-1], width).to(values.device)
    rows = linear.box_matrix(values.shape[-2], height).to(values.device)
    horizontal = (values.double() @ columns.T + 0.5).floor_()
    return (rows @ horizontal + 0.5).floor_()


def jpeg_compression(images: Tensor, _draws: Draws, quality: int) -> Tensor:
    """Compress as JPEG of `quality`, colours at half the resolution, and decompress."""
    half_resolution = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *half_resolution]
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()[..., ::-1]
    decoded = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        _, encoded = cv2.imencode(".jpg", image, options)
        decoded[i] = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    rgb = np.ascontiguousarray(decoded[..., ::-1].transpose(0, 3, 1, 2))
    return torch.from_numpy(rgb).to(images.device)


def elastic_transform(
    images: Tensor, draws: Draws, amplitude: float, sigma: float, jitter: float
) -> Tensor:
    """Bend the image: a random affine map, then smooth random displacements.

    Args:
        images: uint8 [N, 3, H, W].
        draws: random numbers.
        amplitude: factor of the displacements, as a share of the shorter side.
        sigma: of the Gaussian that smooths them, as a share of the shorter side.
        jitter: how far the three points that define the affine map may move, likewise.
    """
    height, width = images.shape[-2:]
    side = min(height, width)
    points = torch.tensor([[1, 1], [1, -1], [-1, -1]], dtype=torch.float64) * (side // 3)
    points = points + torch.tensor([width // 2, height // 2])
    moved = points + (draws.uniform(3, 2).cpu().double() * 2 - 1) * (jitter * side)
    to_source = torch.linalg.solve(F.pad(moved, (0, 1), value=1), points.expand_as(moved))

    axes = torch.arange(width).double(), torch.arange(height).double()
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1)
    across, along, shift = to_source[:, None, None].unbind(-2)
    source = (grid[..., :1] * across + grid[..., 1:] * along + shift).to(images.device)
    bent = _sample(images.float(), source, edge_repeated=False)
    if amplitude == 0:
        return bent

    noise = draws.uniform(2, height, width) * 2 - 1
    smooth = linear.apply_separable(
        noise,
        linear.gaussian_matrix(height, sigma * side, "reflect", 3),
        linear.gaussian_matrix(width, sigma * side, "reflect", 3),
    )
    displaced = grid.to(images.device) + smooth.permute(0, 2, 3, 1) * (amplitude * side)
    return _sample(bent, displaced, edge_repeated=True)


def _sample(images: Tensor, points: Tensor, edge_repeated: bool) -> Tensor:
    """Interpolate linearly, mirroring the image at its edges.

    Args:
        images: float32 [N, C, H, W].
        points: [N, H', W', 2], x and y in pixels, (0, 0) being the middle of the first pixel.
        edge_repeated: whether the mirror stands behind the last pixel or in its middle.

    Returns:
        float32 [N, C, H', W'].
    """
    size = torch.tensor([images.shape[3], images.shape[2]], device=images.device)
    scaled = (points * 2 + 1) / size - 1 if edge_repeated else points * 2 / (size - 1) - 1
    return F.grid_sample(
        images,
        scaled.float(),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=not edge_repeated,
    )
