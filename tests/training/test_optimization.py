"""Learning rates against torch's own schedulers, step by step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from cifar100_transfer.config import OptimizerConfig, ScheduleConfig
from cifar100_transfer.training.optimization import (
    build_optimizer,
    learning_rate_factor,
    set_learning_rate,
)


def optimizer(learning_rate: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)


def factors(schedule: ScheduleConfig, steps_per_epoch: int, epochs: int) -> list[float]:
    return [
        learning_rate_factor(schedule, step, steps_per_epoch, epochs)
        for step in range(steps_per_epoch * epochs)
    ]


def reference(scheduler: lr_scheduler.LRScheduler, steps: int, every: int = 1) -> list[float]:
    """Return the rates that a scheduler sets when it is called after every `every` steps."""
    rates = []
    for step in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        if (step + 1) % every == 0 and step + 1 < steps:
            scheduler.step()
    return rates


SIZES = {"steps_per_epoch": st.integers(1, 9), "epochs": st.integers(1, 9)}


@given(**SIZES)
def test_constant_stays(steps_per_epoch: int, epochs: int) -> None:
    found = factors(ScheduleConfig(name="constant"), steps_per_epoch, epochs)
    assert found == [1.0] * steps_per_epoch * epochs


@given(**SIZES, step_epochs=st.integers(1, 5), gamma=st.floats(0.05, 1))
@settings(deadline=None)
def test_step_is_torchs_step_lr(
    steps_per_epoch: int, epochs: int, step_epochs: int, gamma: float
) -> None:
    schedule = ScheduleConfig(name="step", step_epochs=step_epochs, gamma=gamma)
    scheduler = lr_scheduler.StepLR(optimizer(), step_epochs, gamma)
    expected = reference(scheduler, steps_per_epoch * epochs, every=steps_per_epoch)
    assert factors(schedule, steps_per_epoch, epochs) == pytest.approx(expected, rel=1e-9)


@given(**SIZES)
@settings(deadline=None)
def test_cosine_without_warm_up_is_torchs_cosine_annealing(
    steps_per_epoch: int, epochs: int
) -> None:
    total = steps_per_epoch * epochs
    expected = reference(lr_scheduler.CosineAnnealingLR(optimizer(), T_max=total), total)
    schedule = ScheduleConfig(name="cosine", warmup_share=0)
    assert factors(schedule, steps_per_epoch, epochs) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), [(4, 2), (8, 5), (10, 10)])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_cosine_warms_up_like_torchs_linear_lr(
    steps_per_epoch: int, epochs: int, share: float
) -> None:
    total = steps_per_epoch * epochs
    warmup = int(total * share)
    base = optimizer()
    scheduler = lr_scheduler.SequentialLR(
        base,
        [
            lr_scheduler.LinearLR(base, start_factor=1 / warmup, total_iters=warmup - 1),
            lr_scheduler.CosineAnnealingLR(base, T_max=total - warmup),
        ],
        milestones=[warmup],
    )
    schedule = ScheduleConfig(name="cosine", warmup_share=share)
    expected = reference(scheduler, total)
    assert factors(schedule, steps_per_epoch, epochs) == pytest.approx(expected, abs=1e-9)


@given(steps_per_epoch=st.integers(2, 9), epochs=st.integers(5, 9), share=st.floats(0.21, 0.9))
@settings(deadline=None)
def test_one_cycle_is_torchs_one_cycle_lr(steps_per_epoch: int, epochs: int, share: float) -> None:
    total = steps_per_epoch * epochs
    scheduler = lr_scheduler.OneCycleLR(
        optimizer(), max_lr=1.0, total_steps=total, pct_start=share, cycle_momentum=False
    )
    schedule = ScheduleConfig(name="one_cycle", warmup_share=share)
    expected = reference(scheduler, total)
    assert factors(schedule, steps_per_epoch, epochs) == pytest.approx(expected, abs=1e-9)


@given(
    **SIZES,
    name=st.sampled_from(["constant", "step", "one_cycle", "cosine"]),
    share=st.floats(0, 1, exclude_max=True),
)
def test_every_rate_is_a_share_of_the_peak(
    steps_per_epoch: int, epochs: int, name: str, share: float
) -> None:
    found = factors(ScheduleConfig(name=name, warmup_share=share), steps_per_epoch, epochs)
    assert all(0 < factor <= 1 + 1e-12 for factor in found)


def test_a_single_step_trains() -> None:
    assert factors(ScheduleConfig(name="one_cycle"), 1, 1) == [1.0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_optimizers_get_their_settings(name: str, kind: type[torch.optim.Optimizer]) -> None:
    config = OptimizerConfig(name=name, learning_rate=0.2, weight_decay=0.01, momentum=0.8)
    built = build_optimizer([torch.nn.Parameter(torch.ones(2))], config, torch.device("cpu"))
    assert type(built) is kind
    group = built.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.2, 0.01)
    if name == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.8, True)


def test_sgd_without_momentum_is_plain() -> None:
    config = OptimizerConfig(name="sgd", learning_rate=0.5, momentum=0)
    parameter = torch.nn.Parameter(torch.ones(2))
    built = build_optimizer([parameter], config, torch.device("cpu"))
    parameter.sum().backward()
    built.step()
    assert torch.equal(parameter.detach(), torch.full((2,), 0.5))


def test_the_rate_of_every_group_is_set() -> None:
    built = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 2.0)]
    )
    set_learning_rate(built, 0.25)
    assert [group["lr"] for group in built.param_groups] == [0.25, 0.25]
