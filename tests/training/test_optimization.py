"""Learning rates against torch's own schedulers, and what is done around a step."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from cifar100_transfer.config import OptimizerConfig, ScheduleConfig
from cifar100_transfer.training.optimization import (
    Optimizer,
    ascended,
    batch_norms,
    learning_rate_factor,
)
from tests.training.tiny import tiny_network


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
def test_step_is_torchs_step_lr(
    steps_per_epoch: int, epochs: int, step_epochs: int, gamma: float
) -> None:
    schedule = ScheduleConfig(name="step", step_epochs=step_epochs, gamma=gamma)
    scheduler = lr_scheduler.StepLR(optimizer(), step_epochs, gamma)
    expected = reference(scheduler, steps_per_epoch * epochs, every=steps_per_epoch)
    assert factors(schedule, steps_per_epoch, epochs) == pytest.approx(expected, rel=1e-9)


@given(**SIZES)
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


def quadratic(start: list[float]) -> nn.Linear:
    """Return a module whose weights w are stepped on w A w / 2, with A = diag(1, 4)."""
    network = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([start]))
    return network


def quadratic_gradient(network: nn.Linear) -> None:
    curvature = torch.tensor([[1.0, 4.0]])
    network.weight.grad = curvature * network.weight.detach()


PLAIN_SGD = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_optimizers_get_their_settings(name: str, kind: type[torch.optim.Optimizer]) -> None:
    config = OptimizerConfig(name=name, learning_rate=0.2, weight_decay=0.01, momentum=0.8)
    network, twin = tiny_network(5), tiny_network(5)
    twin.load_state_dict(network.state_dict())
    settings = {"momentum": 0.8, "nesterov": True} if name == "sgd" else {}
    reference = kind(twin.parameters(), lr=0.2, weight_decay=0.01, **settings)
    optimizer = Optimizer(network, config)
    for step in range(3):
        for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
            generator = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            other.grad = parameter.grad.clone()
        optimizer.step()
        reference.step()
    for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(parameter, other, atol=1e-6)


def test_sgd_without_momentum_is_plain() -> None:
    network = quadratic([1.0, 1.0])
    quadratic_gradient(network)
    Optimizer(network, OptimizerConfig(**PLAIN_SGD)).step()
    assert network.weight.tolist() == [pytest.approx([0.9, 0.6])]


def test_the_rate_of_every_group_is_set_by_its_scale() -> None:
    config = OptimizerConfig(**PLAIN_SGD, layer_decay=0.5, head_multiplier=3.0)
    network = tiny_network(5)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = Optimizer(network, config)
    optimizer.set_learning_rate(0.5)
    assert optimizer.learning_rate == 0.05
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        scale = {"h": 3.0, "b": 0.5}.get(name[0], 0.25)  # head and body; stem and norm
        step = before[name] - parameter.detach()
        assert torch.allclose(step, torch.full_like(step, 0.05 * scale), rtol=1e-4), name


@given(norm=st.floats(0.01, 100), limit=st.floats(0.01, 100))
def test_a_step_is_no_longer_than_the_clipped_gradient(norm: float, limit: float) -> None:
    network = quadratic([0.0, 0.0])
    network.weight.grad = norm * torch.tensor([[0.6, 0.8]])
    config = OptimizerConfig(name="sgd", learning_rate=1.0, momentum=0.0, clip_norm=limit)
    Optimizer(network, config).step()
    assert float(network.weight.detach().norm()) == pytest.approx(min(norm, limit), rel=1e-4)


def test_norms_and_biases_shrink_only_if_asked_to() -> None:
    for decay_all in (True, False):
        network = tiny_network(5)
        config = OptimizerConfig(**PLAIN_SGD, weight_decay=1.0, decay_norms_and_biases=decay_all)
        before = {n: parameter.detach().clone() for n, parameter in network.named_parameters()}
        optimizer = Optimizer(network, config)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for name, parameter in network.named_parameters():
            factor = 0.9 if decay_all or parameter.ndim > 1 else 1.0
            assert torch.allclose(parameter, factor * before[name]), name


@given(
    start=st.tuples(st.floats(0.5, 2), st.floats(-2, -0.5)), radius=st.sampled_from([0.0, 0.05, 1])
)
def test_sam_takes_the_gradient_uphill(start: tuple[float, float], radius: float) -> None:
    """On a quadratic all of it is known; a radius of 0 is the plain step."""
    network = quadratic(list(start))
    weights = network.weight.detach().clone()
    quadratic_gradient(network)
    gradient = torch.tensor([[1.0, 4.0]]) * weights
    with ascended(network, radius):
        assert torch.allclose(network.weight, weights + radius * gradient / gradient.norm())
        quadratic_gradient(network)
    assert torch.equal(network.weight, weights)
    Optimizer(network, OptimizerConfig(**PLAIN_SGD)).step()
    uphill = torch.tensor([[1.0, 4.0]]) * (weights + radius * gradient / gradient.norm())
    assert torch.allclose(network.weight, weights - 0.1 * uphill, atol=1e-6)


def test_sam_survives_a_gradient_of_zero() -> None:
    network = quadratic([0.0, 0.0])
    quadratic_gradient(network)
    with ascended(network, 0.05):
        assert torch.equal(network.weight, torch.zeros(1, 2))


def test_no_statistics_are_tracked_uphill() -> None:
    network = tiny_network(5)
    images = torch.rand(6, 3, 8, 8)
    network(images).sum().backward()
    before = {name: value.clone() for name, value in network.named_buffers()}
    with ascended(network, 0.05):
        outside = network(images + 1)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    assert all(norm.track_running_stats for norm in batch_norms(network))
    assert outside.shape == (6, 5)


def test_state_goes_back_and_forth() -> None:
    for name in ("adam", "sgd", "muon"):
        config = OptimizerConfig(name=name, learning_rate=0.1, layer_decay=0.5)
        network, twin = tiny_network(5), tiny_network(5)
        first, second = Optimizer(network, config), Optimizer(twin, config)
        for step in range(4):
            if step == 2:
                twin.load_state_dict(network.state_dict())
                second.load_state_dict(copy.deepcopy(first.state_dict()))
            for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
                parameter.grad = torch.cos(parameter.detach() * (step + 1))
                other.grad = parameter.grad.clone()
            first.step()
            if step >= 2:
                second.step()
        for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
            assert torch.equal(parameter, other), name


def test_gradients_keep_their_memory_and_frozen_parameters_get_none() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = Optimizer(network, OptimizerConfig(name="adamw", weight_decay=0.1))
    network[0].requires_grad_(False)
    before = [parameter.detach().clone() for parameter in network[0].parameters()]
    places = []
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.ones(1, 2)).sum().backward()
        places.append([parameter.grad.data_ptr() for parameter in network[1].parameters()])
        assert network[1].bias.grad.tolist() == [1.0, 1.0]  # of this pass alone
        optimizer.step()
    assert places[0] == places[1]
    for parameter, values in zip(network[0].parameters(), before, strict=True):
        assert parameter.grad is None
        assert torch.equal(parameter, values)
