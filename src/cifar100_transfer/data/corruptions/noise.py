"""Noise that strikes every value of an image on its own."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from .draws import Draws


def gaussian_noise(images: Tensor, draws: Draws, sigma: float) -> Tensor:
    """Add normal noise of the standard deviation `sigma` (as a share of the range)."""
    return draws.normal(*images.shape[1:]).mul_(255 * sigma).add_(images)


def speckle_noise(images: Tensor, draws: Draws, sigma: float) -> Tensor:
    """Add normal noise of the standard deviation `sigma` times the value itself."""
    return draws.normal(*images.shape[1:]).mul_(sigma).add_(1).mul_(images)


def impulse_noise(images: Tensor, draws: Draws, share: float) -> Tensor:
    """Replace `share` of the values, half of them by 0, half by 255."""
    chance = draws.uniform(*images.shape[1:])
    return images.masked_fill(chance < share / 2, 0).masked_fill_(chance >= 1 - share / 2, 255)


def shot_noise(images: Tensor, draws: Draws, photons: float) -> Tensor:
    """Count `photons` at full brightness: every value becomes a Poisson variable, rescaled.

    There are 256 brightnesses, so the quantiles of their distributions are looked up in a table.
    """
    quantile = draws.bytes(*images.shape[1:], 2).view(torch.uint16).squeeze(-1)
    table = _poisson_quantiles(photons).to(images.device)
    return table.take(images.long() * 2**16 + quantile.long())


@lru_cache(maxsize=5)  # all severities, so that threads at work on several share them
def _poisson_quantiles(photons: float) -> Tensor:
    """Return uint8 [256, 65536]: what brightness v becomes at quantile q / 65536."""
    rate = np.arange(256)[:, None] / 255 * photons
    count = np.arange(int(photons + 10 * photons**0.5) + 10)
    cumulative = np.round(stats.poisson.cdf(count, rate) * 2**16).astype(np.int64)
    cumulative[:, -1] = 2**16
    value = np.minimum(255 * count / photons, 255).astype(np.uint8)
    repeats = np.diff(cumulative, axis=1, prepend=0)
    return torch.from_numpy(np.repeat(np.tile(value, 256), repeats.ravel()).reshape(256, 2**16))
