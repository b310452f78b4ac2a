"""A convolution and 2x2 max-pooling in one: values and gradients of torch, ties included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cifar100_transfer.models.pooled_convolution import PooledConv2d


def pooled(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    module = PooledConv2d(weight.shape[1], weight.shape[0])
    return torch.func.functional_call(module, {"weight": weight, "bias": bias}, (images,))


def by_torch(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.max_pool2d(F.conv2d(images, weight, bias, padding=1), 2)


def value_and_gradients(function, arguments: list[Tensor], gradient: Tensor) -> list[Tensor]:
    arguments = [argument.clone().requires_grad_() for argument in arguments]
    maxima = function(*arguments)
    maxima.backward(gradient)
    return [maxima.detach(), *(argument.grad for argument in arguments)]


def integers(generator: torch.Generator, *shape: int, levels: int = 2) -> Tensor:
    """Few small integers: sums are exact in any order, and squares often hold a maximum twice."""
    return torch.randint(1 - levels, levels, shape, generator=generator).float()


@given(
    images=st.integers(0, 3),
    channels=st.integers(1, 3),
    filters=st.integers(1, 4),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    levels=st.sampled_from([1, 2, 50]),
    seed=st.integers(0, 1000),
)
def test_values_and_gradients_are_those_of_torch(
    images: int, channels: int, filters: int, height: int, width: int, levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    arguments = [
        integers(generator, images, channels, height, width, levels=levels),
        integers(generator, filters, channels, 3, 3),
        integers(generator, filters),
    ]
    gradient = integers(generator, images, filters, height // 2, width // 2, levels=9)
    found = value_and_gradients(pooled, arguments, gradient)
    expected = value_and_gradients(by_torch, arguments, gradient)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_in_bfloat16_gradients_go_where_those_of_torch_go() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = (4, 3, 8, 8), (5, 3, 3, 3), (5,)
    arguments = [integers(generator, *shape) for shape in shapes]
    gradient = integers(generator, 4, 5, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients(pooled, arguments, gradient)
        expected = value_and_gradients(by_torch, arguments, gradient)
    assert found[0].dtype == torch.bfloat16
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_works_where_no_gradient_is_asked_for(mode: type) -> None:
    arguments = [torch.rand(1, 2, 4, 4), torch.rand(3, 2, 3, 3), torch.rand(3)]
    with mode():
        torch.testing.assert_close(pooled(*arguments), by_torch(*arguments))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_infinite_and_undefined_values_stay_visible(value: float) -> None:
    images = torch.zeros(1, 1, 2, 2)
    images[0, 0, 1, 1] = value
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    found, expected = (f(images, weight, torch.zeros(1)) for f in (pooled, by_torch))
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_where_subnormal_numbers_count_as_zero_equals_stay_equal() -> None:
    generator = torch.Generator().manual_seed(0)
    arguments = [integers(generator, 1, 1, 4, 4, levels=9), torch.zeros(2, 1, 3, 3), torch.zeros(2)]
    gradient = torch.ones(1, 2, 2, 2)
    torch.set_flush_denormal(True)
    try:
        found = value_and_gradients(pooled, arguments, gradient)
    finally:
        torch.set_flush_denormal(False)
    expected = value_and_gradients(by_torch, arguments, gradient)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
