"""Muon for convolution filters."""

from collections.abc import Callable
from typing import Any

import torch


class FilterMuon(torch.optim.Muon):
    """torch's Muon over convolution filters, too (Jordan et al., 2024).

    A filter bank [O, C, k, k] is the matrix [O, C k k], whose updates are made orthogonal. Steps
    are scaled as Liu et al. (2025) do, so that their size and hence the learning rate are AdamW's.

    Args:
        groups: parameter groups with `params` of two or more dimensions.
        lr: learning rate.
        momentum: weight of the past, in [0, 1).
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float) -> None:
        # The matrices share the filters' memory: a step on the one is a step on the other.
        self._matrices = [
            (parameter, as_matrix(parameter.detach(), parameter))
            for group in groups
            for parameter in group["params"]
        ]
        matrices = iter(self._matrices)
        super().__init__(
            [{**group, "params": [next(matrices)[1] for _ in group["params"]]} for group in groups],
            lr=lr,
            momentum=momentum,
            weight_decay=0.0,  # the groups' own
            adjust_lr_fn="match_rms_adamw",
        )

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step along the gradients of the filters; those without one stay."""
        for parameter, matrix in self._matrices:
            gradient = parameter.grad
            matrix.grad = None if gradient is None else as_matrix(gradient, parameter)
        return super().step(closure)  # type: ignore[no-untyped-call]


def as_matrix(values: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Return a filter bank's values [O, C, k, k] as a matrix [O, C k k], a view where they allow.

    Args:
        values: the filters or their gradients, [O, ...].
        parameter: whose memory decides the order of the columns. Muon's result is the same in any.
    """
    if values.ndim == 4 and not parameter.is_contiguous():  # channels_last
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)
