"""2x2 max-pooling: values and gradients to the bit those of torch, ties included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cifar100_transfer.models.fast_pooling import max_pool_2x2


def value_and_gradient(pool, images: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    pooled = pool(images)
    pooled.backward(gradient)
    return pooled.detach(), images.grad


@given(
    shape=st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(2, 9)] * 2),
    # Few levels: most squares hold their maximum more than once.
    levels=st.sampled_from([1, 3, 1000]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    channels_last=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_values_and_gradients_are_those_of_torch(
    shape: tuple[int, int, int, int],
    levels: int,
    dtype: torch.dtype,
    channels_last: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(-levels, levels, shape, generator=generator).to(dtype)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    pooled_shape = *shape[:2], shape[2] // 2, shape[3] // 2
    gradient = torch.randn(pooled_shape, generator=generator).to(dtype)
    found = value_and_gradient(max_pool_2x2, images, gradient)
    expected = value_and_gradient(lambda values: F.max_pool2d(values, 2), images, gradient)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_works_where_no_gradient_is_asked_for(mode: type) -> None:
    images = torch.rand(1, 2, 4, 4)
    with mode():
        assert torch.equal(max_pool_2x2(images), F.max_pool2d(images, 2))


def test_infinite_and_undefined_values_stay_visible() -> None:
    images = torch.tensor([[[[1.0, torch.nan], [torch.inf, 0.0]]]])
    assert bool(max_pool_2x2(images).isnan().all())
    assert float(max_pool_2x2(images.nan_to_num(0.0, posinf=torch.inf))) == torch.inf
