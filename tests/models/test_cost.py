"""Operations against a count by the layers' own shapes."""

from typing import Any

import pytest
import torch
from torch import nn

from cifar100_transfer.models import Classifier, ClassifierSpec, count_flops
from cifar100_transfer.models.pooled_convolution import PooledConv2d


@pytest.mark.parametrize(
    ("architecture", "image_size"),
    [("simple_cnn", None), ("resnet18", None), ("squeezenet1_1", 48), ("regnet_y_400mf", 32)],
)
def test_operations_are_two_for_every_weight_and_place(
    architecture: str, image_size: int | None
) -> None:
    names = tuple(f"class_{k}" for k in range(7))
    spec = ClassifierSpec(
        architecture, names, (0.5,) * 3, (0.25,) * 3, (24, 24), image_size=image_size
    )
    classifier = Classifier(spec).eval()
    expected = 0

    def count(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal expected
        places = output[0, 0].numel() if output.ndim == 4 else 1
        if isinstance(module, PooledConv2d):
            places *= 4
        expected += 2 * module.weight.numel() * places

    for module in classifier.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        classifier(torch.zeros(1, 3, 24, 24))

    state = torch.get_rng_state()
    assert count_flops(spec) == expected > 0
    assert torch.get_rng_state().equal(state), "a training's random numbers are its own"
