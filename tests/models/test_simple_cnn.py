"""The smallest baseline against its definition."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cifar100_transfer.models import SimpleCNN


@given(
    classes=st.integers(1, 12),
    height=st.integers(2, 13),
    width=st.integers(2, 13),
    seed=st.integers(0, 99),
)
@settings(max_examples=30)
def test_it_is_convolution_relu_pooling_linear(
    classes: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    network = SimpleCNN(classes, (height, width))
    images = torch.randn(3, 3, height, width)
    reference = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 2) * (width // 2), classes),
    )
    state = zip(reference.state_dict(), network.state_dict().values(), strict=True)
    reference.load_state_dict(dict(state))
    assert torch.allclose(network(images), reference(images), atol=1e-5)


def test_it_has_the_seed_reports_size() -> None:
    assert sum(parameter.numel() for parameter in SimpleCNN(100).parameters()) == 820_196
