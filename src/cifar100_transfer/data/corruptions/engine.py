"""The nineteen corruptions, their constants, and the one function that applies them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cifar100_transfer.errors import UserError

from . import blur, digital, noise, weather
from .draws import BLOCK, Draws

SEVERITIES = (1, 2, 3, 4, 5)
"""From faint to strong."""

# Function and, for every severity, its constants behind `images` and `draws`.
_DEFINITIONS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[Any, ...], ...]]] = {
    "gaussian_noise": (noise.gaussian_noise, ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,))),
    "shot_noise": (noise.shot_noise, ((500,), (250,), (100,), (75,), (50,))),
    "impulse_noise": (noise.impulse_noise, ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,))),
    "defocus_blur": (
        blur.defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    ),
    "glass_blur": (blur.glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    "motion_blur": (blur.motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (blur.zoom_blur, ((7,), (12,), (16,), (21,), (26,))),
    "snow": (
        weather.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "frost": (weather.frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (weather.fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (digital.brightness, ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,))),
    "contrast": (digital.contrast, ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,))),
    "elastic_transform": (
        digital.elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": (digital.pixelate, ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,))),
    "jpeg_compression": (digital.jpeg_compression, ((80,), (65,), (58,), (50,), (40,))),
    "speckle_noise": (noise.speckle_noise, ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,))),
    "gaussian_blur": (blur.gaussian_blur, ((0.4,), (0.6,), (0.7,), (0.8,), (1,))),
    "spatter": (
        weather.spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
    ),
    "saturate": (digital.saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
}

CORRUPTIONS: tuple[str, ...] = tuple(_DEFINITIONS)
"""Names in the order of the challenge's files: `CORRUPTIONS[0]` made `distortion00`."""


def corrupt(
    images: Tensor, corruption: str, severity: int, seed: int, first_index: int = 0
) -> Tensor:
    """Corrupt images as the makers of CIFAR-10-C and CIFAR-100-C did.

    What happens to an image depends on its pixels, on `corruption`, `severity` and `seed`, and on
    its index (`first_index` plus its position), but not on the images beside it: a set may be cut
    into batches of any size. Source of the definitions and constants: Hendrycks and Dietterich,
    Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, 2019.

    Args:
        images: uint8 [N, 3, H, W] on any device, H and W at least 8. N may be 0. Those on Apple's
            MPS are corrupted on the CPU.
        corruption: one of `CORRUPTIONS`.
        severity: one of `SEVERITIES`.
        seed: at least 0.
        first_index: index of the first image in its set, at least 0.

    Returns:
        New uint8 [N, 3, H, W] on the device of `images`.

    Raises:
        UserError: the name or the severity is unknown, an index or the seed is negative, or the
            images are of another type or shape.
    """
    _check(images, corruption, severity, seed, first_index)
    home, images = images.device, images.to(computing_device(images.device))
    corrupted = torch.empty_like(images)
    if len(images) == 0:
        return corrupted.to(home)
    function, constants = _DEFINITIONS[corruption]
    end = first_index + len(images)
    for block in range(first_index // BLOCK, (end - 1) // BLOCK + 1):
        start, stop = max(first_index, block * BLOCK), min(end, (block + 1) * BLOCK)
        rows = slice(start - block * BLOCK, stop - block * BLOCK)
        key = (seed, CORRUPTIONS.index(corruption), severity, block)
        draws = Draws(key, rows, images.device)
        batch = slice(start - first_index, stop - first_index)
        result = function(images[batch], draws, *constants[severity - 1])
        # Truncated, not rounded: so were the files of the challenge.
        corrupted[batch] = result.clamp(0, 255)
    return corrupted.to(home)


def computing_device(device: torch.device) -> torch.device:
    """Return a device that has float64, as the corruptions' exact sums need: MPS has none."""
    return torch.device("cpu") if device.type == "mps" else device


def _check(images: Tensor, corruption: str, severity: int, seed: int, first_index: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise UserError(
            f"images must be uint8 [N, 3, H, W], got {images.dtype} {list(images.shape)}"
        )
    if min(images.shape[2:]) < 8:
        raise UserError(f"images must be at least 8 x 8 pixels, got {list(images.shape[2:])}")
    if corruption not in _DEFINITIONS:
        near = difflib.get_close_matches(corruption, CORRUPTIONS) or CORRUPTIONS
        raise UserError(f"corruption '{corruption}' is unknown: take {' or '.join(near)}")
    if severity not in SEVERITIES:
        raise UserError(f"severity {severity} is unknown: take one of {SEVERITIES}")
    if seed < 0 or first_index < 0:
        raise UserError(
            f"seed and first_index must not be negative, got seed {seed}, first_index {first_index}"
        )
