"""Random numbers that belong to an image, whichever batch it comes in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BLOCK = 512
"""Images that share one random generator; also the number of images processed at a time."""


class Draws:
    """Random numbers for some images of one block.

    Images are counted off in blocks of `BLOCK`. Every block has its own generator, every request
    draws for the whole block, and the images asked for get their rows. So what an image receives
    depends on its number alone. Numbers are drawn on the CPU: all devices see the same ones.

    Args:
        key: non-negative integers that name the generator, the number of the block among them.
        rows: the images within the block.
        device: where the numbers are needed.
    """

    def __init__(self, key: tuple[int, ...], rows: slice, device: torch.device) -> None:
        self._generator = np.random.default_rng(key)
        self._rows = rows
        self._device = device

    def normal(self, *shape: int) -> Tensor:
        """Return float32 [images, *shape], standard normal."""
        return self._of_images(self._generator.standard_normal((BLOCK, *shape), dtype=np.float32))

    def uniform(self, *shape: int) -> Tensor:
        """Return float32 [images, *shape], uniform in [0, 1)."""
        return self._of_images(self._generator.random((BLOCK, *shape), dtype=np.float32))

    def bytes(self, *shape: int) -> Tensor:
        """Return uint8 [images, *shape], uniform in 0 … 255."""
        return self._of_images(
            np.frombuffer(
                bytearray(self._generator.bytes(BLOCK * int(np.prod(shape)))), dtype=np.uint8
            ).reshape(BLOCK, *shape)
        )

    def integers(self, bound: int, *shape: int) -> Tensor:
        """Return int64 [images, *shape], uniform in 0 … bound - 1."""
        return self._of_images(self._generator.integers(bound, size=(BLOCK, *shape)))

    def _of_images(self, block: np.ndarray) -> Tensor:
        return torch.from_numpy(block[self._rows]).to(self._device)
