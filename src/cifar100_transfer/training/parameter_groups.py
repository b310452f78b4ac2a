"""Which parameter learns at which rate: groups for torch's optimisers."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from cifar100_transfer.config import OptimizerConfig
from cifar100_transfer.models import head_name


def parameter_groups(network: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Divide a network's parameters by learning rate and weight decay.

    Args:
        network: the network; every parameter of it gets into exactly one group.
        config: `decay_norms_and_biases`, `layer_decay` and `head_multiplier` decide.

    Returns:
        Groups as torch's optimisers take them, each with `params`, `weight_decay` and `scale`, what
        the learning rate is multiplied with for it. In the order of the network; the head and what
        is before it are two groups where no option asks for more.
    """
    scales = learning_rate_scales(network, config)
    # Frozen epochs give the head alone a momentum, and torch's fused SGD takes no group of which
    # some parameters have one and others don't.
    head = set(head_parameters(network))
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        # Norms and biases are the parameters of one dimension; filters and matrices have more.
        decays = config.decay_norms_and_biases or parameter.ndim > 1
        kind = scales[name], config.weight_decay if decays else 0.0, name in head
        groups.setdefault(kind, []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": decay}
        for (scale, decay, _), parameters in groups.items()
    ]


def learning_rate_scales(network: nn.Module, config: OptimizerConfig) -> dict[str, float]:
    """Return what the learning rate of every parameter is multiplied with, by its name.

    A layer learns at `layer_decay` times the rate of the next one, and the head at
    `head_multiplier` (Clark et al., 2020, ELECTRA; Bao et al., 2021, BEiT).
    """
    layers = layer_numbers(network)
    head = set(head_parameters(network))
    last = max(layers.values())
    return {
        name: config.layer_decay ** (last - layer)
        * (config.head_multiplier if name in head else 1.0)
        for name, layer in layers.items()
    }


def layer_numbers(network: nn.Module) -> dict[str, int]:
    """Return the number of the layer that every parameter belongs to, by its name.

    A layer is a link of the network's chain: a child of the network, or of an `nn.Sequential` in
    that chain, with a filter or matrix; what has none, such as a normalisation, belongs to the
    layer before. So a residual block is one layer: ResNet-50 has 18 (stem, 16 blocks, head).
    """
    numbers = {name: 0 for name, _ in network.named_parameters()}
    layer = -1
    for prefix, module in _chain(network):
        layer += any(parameter.ndim > 1 for parameter in module.parameters())
        numbers |= {name: max(layer, 0) for name, _ in module.named_parameters(prefix)}
    return numbers


def head_parameters(network: nn.Module) -> list[str]:
    """Return the names of the parameters of the layer that makes the logits."""
    head = head_name(network)
    return [name for name, _ in network.get_submodule(head).named_parameters(head)]


def _chain(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential):
            yield from _chain(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
