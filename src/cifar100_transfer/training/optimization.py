"""Optimisers from torch, what is done around their step, and the learning rate at every step."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cifar100_transfer.config import OptimizerConfig, ScheduleConfig

from .muon import FilterMuon
from .parameter_groups import head_parameters, parameter_groups

# Defaults of torch's OneCycleLR: div_factor, and on top of it final_div_factor.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4


class Optimizer:
    """One or two of torch's optimisers over all parameters of a network.

    Args:
        network: its parameters are trained; they must not change device afterwards.
        config: which optimiser, and its settings.
    """

    def __init__(self, network: nn.Module, config: OptimizerConfig) -> None:
        self.learning_rate = config.learning_rate
        self._peak = config.learning_rate
        self._clip_norm = config.clip_norm
        self._parameters = list(network.parameters())
        self._parts = _build(network, config)

    def set_learning_rate(self, factor: float) -> None:
        """Set the learning rate to a multiple of the peak, in each group by its scale."""
        self.learning_rate = self._peak * factor
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = self.learning_rate * group["scale"]

    def zero_grad(self) -> None:
        """Forget all gradients.

        On a CPU they keep their memory. Taken anew in every backward pass it would lie among the
        activations that are freed there, and leave gaps too small for those of the next step.
        """
        for parameter in self._parameters:
            if parameter.device.type != "cpu" or not parameter.requires_grad:
                parameter.grad = None
            elif parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()

    def step(self) -> None:
        """Clip the gradients if asked to, and step along them."""
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return all state as tensors and plain values."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a stored state of the same optimiser."""
        for part, stored in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(stored)


def _build(network: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    groups = parameter_groups(network, config)
    rate = config.learning_rate
    # One kernel for all parameters, where torch offers it.
    fused = next(network.parameters()).device.type in ("cpu", "cuda")
    if config.name == "adam":
        return [torch.optim.Adam(groups, lr=rate, fused=fused)]
    if config.name == "adamw":
        return [torch.optim.AdamW(groups, lr=rate, fused=fused)]
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return [
            torch.optim.SGD(
                groups, lr=rate, momentum=config.momentum, nesterov=nesterov, fused=fused
            )
        ]
    # Muon is for matrices between features; the head's rows are classes (Jordan et al., 2024).
    head = {network.get_parameter(name) for name in head_parameters(network)}
    parts: list[torch.optim.Optimizer] = []
    if filters := _select(groups, lambda p: p.ndim in (2, 4) and p not in head):
        parts.append(FilterMuon(filters, lr=rate, momentum=config.momentum))
    others = _select(groups, lambda p: p.ndim not in (2, 4) or p in head)
    return [*parts, torch.optim.AdamW(others, lr=rate, fused=fused)]


def _select(
    groups: list[dict[str, Any]], wanted: Callable[[nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Return the groups with the wanted parameters only, without those left empty."""
    chosen = [{**group, "params": list(filter(wanted, group["params"]))} for group in groups]
    return [group for group in chosen if group["params"]]


@contextmanager
def ascended(network: nn.Module, radius: float) -> Iterator[None]:
    """Hold the weights where the loss rises fastest, for the second gradient of SAM.

    Sharpness-aware minimisation (Foret et al., 2021) steps from the weights along the gradient at
    `weights + radius * gradient / |gradient|`. Batch statistics are not tracked up there.

    Args:
        network: in training mode, with gradients; its weights are put back at the end.
        radius: length of the ascent, in the Euclidean norm over all parameters with a gradient.
    """
    pairs = [(p, p.grad) for p in network.parameters() if p.grad is not None]
    before = [parameter.detach().clone() for parameter, _ in pairs]
    # Smaller than any norm in training; it only keeps a gradient of zero from dividing by zero.
    length = nn.utils.get_total_norm([gradient for _, gradient in pairs]) + 1e-12
    tracking = [module for module in batch_norms(network) if module.track_running_stats]
    with torch.no_grad():
        for parameter, gradient in pairs:
            parameter.add_(gradient * (radius / length))
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True
        with torch.no_grad():
            for (parameter, _), values in zip(pairs, before, strict=True):
                parameter.copy_(values)


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch normalisations of a network."""
    # Every one of torch's derives from this class, which has no public name.
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def learning_rate_factor(
    schedule: ScheduleConfig, step: int, steps_per_epoch: int, epochs: int
) -> float:
    """Return what the peak learning rate is multiplied with at a step.

    A function of the step alone, so a resumed run needs no schedule state.

    Args:
        schedule: which curve. `step` multiplies by gamma every `step_epochs` epochs (torch's
            StepLR called once an epoch). `cosine` rises linearly over the warm-up and falls along
            half a cosine to 0 (Loshchilov & Hutter, 2017). `one_cycle` does both along half
            cosines, from 1/25 of the peak to 4e-6 of it at the last step (Smith & Topin, 2018;
            torch's OneCycleLR); without warm-up it starts at the peak.
        step: number of the batch over all epochs, from 0.
        steps_per_epoch: batches in an epoch.
        epochs: epochs of the whole run.
    """
    total = steps_per_epoch * epochs
    if schedule.name == "constant" or total == 1:
        return 1.0
    if schedule.name == "step":
        return float(schedule.gamma ** (step // steps_per_epoch // schedule.step_epochs))
    warmup = schedule.warmup_share * total
    if schedule.name == "cosine":
        if step < warmup:
            return min((step + 1) / warmup, 1.0)
        return _half_cosine(1.0, 0.0, (step - warmup) / (total - warmup))
    peak, last = max(warmup - 1, 0.0), total - 1
    if step < peak:
        return _half_cosine(_ONE_CYCLE_START, 1.0, step / peak)
    return _half_cosine(1.0, _ONE_CYCLE_END, (step - peak) / (last - peak))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
