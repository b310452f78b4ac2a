"""Some images of an epoch, found in its batches without waiting for the device."""

import numpy as np
import torch
from torch import Tensor


class Selection:
    """The images of an epoch that something is done to.

    How many of them a batch has is known on the CPU; where they stand in it lies on the device
    since the beginning of the epoch. A list made and sent for every batch would make a GPU's queue
    run empty each time: memory that is not pinned is sent only after all that was asked before.

    Args:
        chosen: bool [N] on the CPU, in the epoch's order.
        device: where the batches lie.
        values: [N, ...] on the CPU, what is to be known of every chosen image; None: nothing.
    """

    def __init__(self, chosen: Tensor, device: torch.device, values: Tensor | None = None) -> None:
        self._before = np.concatenate([[0], chosen.numpy().cumsum()])
        positions = chosen.nonzero().squeeze(1)
        self._positions = positions.to(device)
        self._values = (positions if values is None else values[positions]).to(device)

    def places(self, part: slice) -> Tensor:
        """Return where chosen images stand in a part of the epoch: int64 [chosen], from 0."""
        return self._positions[self._within(part)] - part.start

    def values(self, part: slice) -> Tensor:
        """Return the values of the chosen images in a part of the epoch: [chosen, ...]."""
        return self._values[self._within(part)]

    def _within(self, part: slice) -> slice:
        start, stop, _ = part.indices(len(self._before) - 1)
        return slice(int(self._before[start]), int(self._before[stop]))
