"""Muon's steps are orthogonal matrices, whatever the filters' memory."""

import pytest
import torch
from torch import nn

from cifar100_transfer.config import OptimizerConfig
from cifar100_transfer.training.muon import FilterMuon, as_matrix
from cifar100_transfer.training.optimization import Optimizer
from tests.training.tiny import tiny_network


def filters(shape: tuple[int, ...], memory_format: torch.memory_format) -> nn.Parameter:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return nn.Parameter(values.to(memory_format=memory_format))


@pytest.mark.parametrize("shape", [(16, 4, 3, 3), (64, 2, 3, 3), (24, 24, 1, 1)])
def test_an_update_is_near_orthogonal(shape: tuple[int, ...]) -> None:
    parameter = filters(shape, torch.contiguous_format)
    before = parameter.detach().clone()
    generator = torch.Generator().manual_seed(2)
    parameter.grad = torch.randn(shape, generator=generator)
    FilterMuon([{"params": [parameter]}], lr=1.0, momentum=0.9).step()
    rows, columns = shape[0], before[0].numel()
    update = (before - parameter.detach()).flatten(1) / (0.2 * max(rows, columns) ** 0.5)
    # Newton-Schulz of five rounds leaves singular values in about [0.7, 1.2], not at 1.
    values = torch.linalg.svdvals(update)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    assert float(torch.linalg.svdvals(parameter.grad.flatten(1)).min()) != pytest.approx(1, abs=0.4)


def test_the_memory_of_the_filters_changes_nothing() -> None:
    steps = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        parameter = filters((16, 4, 3, 3), memory_format)
        before = parameter.detach().clone()
        muon = FilterMuon([{"params": [parameter]}], lr=0.1, momentum=0.9)
        generator = torch.Generator().manual_seed(2)
        for _ in range(2):
            gradient = torch.randn(16, 4, 3, 3, generator=generator)
            parameter.grad = gradient.to(memory_format=memory_format)
            muon.step()
        assert parameter.is_contiguous(memory_format=memory_format)
        steps.append(parameter.detach() - before)
    # The orthogonalisation computes in bfloat16, whose rounding depends on the order of columns.
    assert torch.allclose(steps[0], steps[1], atol=0.02 * float(steps[0].abs().max()))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_matrix_shares_the_filters_memory(memory_format: torch.memory_format) -> None:
    parameter = filters((16, 4, 3, 3), memory_format).detach()
    matrix = as_matrix(parameter, parameter)
    assert matrix.shape == (16, 36)
    assert matrix.data_ptr() == parameter.data_ptr()


def test_filters_are_muons_and_the_rest_is_adamws() -> None:
    network = tiny_network(5, batch_norm=False, dropout=0.0)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = Optimizer(network, OptimizerConfig(name="muon", learning_rate=0.1))
    optimizer.set_learning_rate(1.0)
    network(torch.rand(4, 3, 8, 8)).logsumexp(1).sum().backward()
    optimizer.step()
    muon = {"stem.weight", "body.0.weight"}
    for name, parameter in network.named_parameters():
        step = (before[name] - parameter.detach()).abs()
        # AdamW's first step is the learning rate in every entry with a gradient.
        moved = step[parameter.grad != 0]
        is_adamw = torch.allclose(moved, torch.full_like(moved, 0.1), atol=0.01)
        assert is_adamw == (name not in muon), name


def test_parameters_without_a_gradient_stay() -> None:
    parameter = filters((16, 4, 3, 3), torch.contiguous_format)
    before = parameter.detach().clone()
    FilterMuon([{"params": [parameter]}], lr=1.0, momentum=0.9).step()
    assert torch.equal(parameter, before)


def test_muon_and_adamw_decay_their_parameters_alike() -> None:
    network = tiny_network(5)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    config = OptimizerConfig(name="muon", learning_rate=0.1, weight_decay=0.5)
    optimizer = Optimizer(network, config)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), 0.95 * before[name], msg=name)
