"""Optimisers from torch, and learning rates as a pure function of the step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from cifar100_transfer.config import OptimizerConfig, ScheduleConfig

# Defaults of torch's OneCycleLR: div_factor, and on top of it final_div_factor.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimizerConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Build the optimiser, fused into one kernel where torch offers it."""
    fused = device.type in ("cpu", "cuda")
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            weight_decay=config.weight_decay,
            fused=fused,
        )
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)


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


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
