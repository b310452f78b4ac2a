"""Random numbers that belong to an image, whichever batch it comes in."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

BLOCK = 512
"""Images that share one random generator; also the number of images processed at a time."""
_AT_ONCE = 1 << 20


class Draws:
    """Random numbers for some images of one block.

    Images are counted off in blocks of `BLOCK`. Every block has its own generator, which draws in
    the block's order, and the images asked for get their rows. So what an image receives depends on
    its number alone. Numbers are drawn on the CPU: all devices see the same ones.

    Args:
        key: non-negative integers that name the generator, the number of the block among them.
        rows: the images within the block.
        device: where the numbers are needed.
    """

    def __init__(self, key: tuple[int, ...], rows: slice, device: torch.device) -> None:
        self._generator = np.random.default_rng(key)
        self._rows = rows
        self._device = device
        self._catch_up: Callable[[], None] = lambda: None

    def normal(self, *shape: int) -> Tensor:
        """Return float32 [images, *shape], standard normal."""
        return self._of_images(
            lambda count: self._generator.standard_normal(count, np.float32), shape
        )

    def uniform(self, *shape: int) -> Tensor:
        """Return float32 [images, *shape], uniform in [0, 1)."""
        return self._of_images(lambda count: self._generator.random(count, np.float32), shape)

    def bytes(self, *shape: int) -> Tensor:
        """Return uint8 [images, *shape], uniform in 0 … 255."""
        # Numpy makes bytes of whole words: so many that the block's last image has its own.
        return self._of_images(
            lambda count: self._generator.integers(1 << 32, size=count, dtype=np.uint32),
            shape,
            in_one=4,
        )

    def integers(self, bound: int, *shape: int) -> Tensor:
        """Return int64 [images, *shape], uniform in 0 … bound - 1."""
        return self._of_images(lambda count: self._generator.integers(bound, size=count), shape)

    def _of_images(
        self, draw: Callable[[int], np.ndarray], shape: tuple[int, ...], in_one: int = 1
    ) -> Tensor:
        """Draw for the block's images up to the last one asked for.

        Those of the others are drawn, and thrown away, when another request follows: for a few
        large images they would take most of the time, and gigabytes.

        Args:
            draw: returns so many of the generator's next numbers.
            shape: of an image's values.
            in_one: values that one of these numbers holds.
        """
        self._catch_up()
        each = math.prod(shape)
        count, of_all = (-(-images * each // in_one) for images in (self._rows.stop, BLOCK))
        values = draw(count).view(np.uint8) if in_one > 1 else draw(count)
        self._catch_up = partial(_throw_away, draw, of_all - count)
        block = values[: self._rows.stop * each].reshape(self._rows.stop, *shape)
        return torch.from_numpy(block[self._rows]).to(self._device)


def _throw_away(draw: Callable[[int], np.ndarray], count: int) -> None:
    for start in range(0, count, _AT_ONCE):
        draw(min(_AT_ONCE, count - start))
