"""Every parameter is in one group, with the rate and decay its place in the network asks for."""

import pytest
from torch import nn

from cifar100_transfer.config import OptimizerConfig
from cifar100_transfer.models import build_network
from cifar100_transfer.training.parameter_groups import (
    head_parameters,
    layer_numbers,
    learning_rate_scales,
    parameter_groups,
)
from tests.training.tiny import tiny_network

ARCHITECTURES = ["simple_cnn", "resnet18", "squeezenet1_1", "convnext_tiny", "densenet121"]


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {name: build_network(name, 5, (32, 32)) for name in ARCHITECTURES}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_every_parameter_is_in_one_group(
    networks: dict[str, nn.Module], architecture: str, decay_all: bool, layer_decay: float
) -> None:
    network = networks[architecture]
    config = OptimizerConfig(
        weight_decay=0.1, decay_norms_and_biases=decay_all, layer_decay=layer_decay
    )
    groups = parameter_groups(network, config)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(found) == len(set(found))
    assert set(found) == {id(parameter) for parameter in network.parameters()}
    for group in groups:
        for parameter in group["params"]:
            expected = 0.1 if decay_all or parameter.ndim > 1 else 0.0
            assert group["weight_decay"] == expected


def test_without_options_backbone_and_head_are_the_groups_in_the_networks_order() -> None:
    network = tiny_network(5)
    backbone, head = parameter_groups(network, OptimizerConfig(weight_decay=0.1))
    found = [id(p) for p in (*backbone["params"], *head["params"])]
    assert found == [id(p) for p in network.parameters()]
    assert [id(network.get_parameter(name)) for name in head_parameters(network)] == [
        id(p) for p in head["params"]
    ]


def test_layers_are_the_links_of_the_chain() -> None:
    assert layer_numbers(tiny_network(5)) == {
        "stem.weight": 0,
        "stem.bias": 0,
        "norm.weight": 0,
        "norm.bias": 0,
        "body.0.weight": 1,
        "body.1.weight": 1,
        "body.1.bias": 1,
        "head.weight": 2,
        "head.bias": 2,
    }


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [("simple_cnn", 2), ("resnet18", 1 + 8 + 1), ("squeezenet1_1", 1 + 8 + 1)],
)
def test_a_block_is_a_layer(networks: dict[str, nn.Module], architecture: str, layers: int) -> None:
    numbers = layer_numbers(networks[architecture])
    assert sorted(set(numbers.values())) == list(range(layers))
    assert list(numbers.values()) == sorted(numbers.values())


def test_rates_fall_from_the_head_to_the_stem() -> None:
    config = OptimizerConfig(layer_decay=0.5, head_multiplier=3.0)
    scales = learning_rate_scales(tiny_network(5), config)
    assert scales["head.weight"] == scales["head.bias"] == 3.0
    assert scales["body.0.weight"] == scales["body.1.bias"] == 0.5
    assert scales["stem.weight"] == scales["norm.bias"] == 0.25


@pytest.mark.parametrize(
    ("architecture", "head"),
    [("resnet18", "fc"), ("squeezenet1_1", "classifier.1"), ("convnext_tiny", "classifier.2")],
)
def test_the_head_is_the_layer_of_the_logits(
    networks: dict[str, nn.Module], architecture: str, head: str
) -> None:
    assert head_parameters(networks[architecture]) == [f"{head}.weight", f"{head}.bias"]
