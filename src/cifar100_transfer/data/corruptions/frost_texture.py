"""Ice for the frost corruption, grown from noise.

The original pastes photographs of frosted glass. These textures take their place: needles in
patches of differing direction over slow changes of brightness. The distribution of brightness and
the amount of fine structure are chosen so that the corrupted images have the statistics of the
originals.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

TEXTURE_SIZE = 256
"""Side of a texture in pixels. Textures go on beyond their edges: they tile."""

_TEXTURES = 5
_DIRECTIONS = 6
# Fitted to the statistics of the original (mean and standard deviation of the textures' values).
_MEAN, _STD = 164, 50
# Share of the needles in the noise, and by how much red and green lie below blue (ice is bluish).
_NEEDLES = 0.55
_TINT = np.array([-6, 1, 5])


@lru_cache
def frost_textures() -> Tensor:
    """Return uint8 [5, TEXTURE_SIZE, TEXTURE_SIZE, 3], always the same ones."""
    generator = np.random.default_rng(2019)
    textures = [_texture(generator) for _ in range(_TEXTURES)]
    return torch.from_numpy(np.stack(textures))


def _texture(generator: np.random.Generator) -> NDArray[np.uint8]:
    """Grow one texture, uint8 [TEXTURE_SIZE, TEXTURE_SIZE, 3]."""
    # Where a direction's field is the strongest, needles grow along it.
    patches = np.stack([_streaks(generator, 14, 14, 0) for _ in range(_DIRECTIONS)])
    strength = np.exp(4 * patches)
    strength /= strength.sum(0)
    turn = generator.uniform(0, np.pi)
    needles = np.zeros_like(patches[0])
    for i in range(_DIRECTIONS):
        streaks = _streaks(generator, 5, 0.6, turn + i * np.pi / _DIRECTIONS)
        needles += strength[i] * (1.25 - 2 * np.abs(streaks))
    clouds = _streaks(generator, 12, 7, turn)
    mixed = _NEEDLES * needles / needles.std() + (1 - _NEEDLES**2) ** 0.5 * clouds

    ranks = stats.rankdata(mixed, method="ordinal").reshape(mixed.shape)
    brightness: NDArray[np.float64] = _MEAN + _STD * stats.norm.ppf((ranks - 0.5) / mixed.size)
    texture: NDArray[np.uint8] = (brightness[..., None] + _TINT).clip(0, 255).astype(np.uint8)
    return texture


def _streaks(
    generator: np.random.Generator, along: float, across: float, angle: float
) -> NDArray[np.float64]:
    """Return noise smoothed by a Gaussian that is longer in one direction, mean 0, std 1.

    Args:
        generator: source of the noise.
        along: sigma of the Gaussian along `angle`, in pixels.
        across: sigma across it.
        angle: in radians.

    Returns:
        [TEXTURE_SIZE, TEXTURE_SIZE], periodic.
    """
    y = np.fft.fftfreq(TEXTURE_SIZE)[:, None]
    x = np.fft.fftfreq(TEXTURE_SIZE)
    u = along * (x * np.cos(angle) + y * np.sin(angle))
    v = across * (y * np.cos(angle) - x * np.sin(angle))
    response = np.exp(-2 * np.pi**2 * (u**2 + v**2))
    response[0, 0] = 0
    noise = generator.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * response).real
    standardised: NDArray[np.float64] = smooth / smooth.std()
    return standardised
