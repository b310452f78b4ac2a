"""Networks by name: our own, and every convolutional classifier of torchvision.

Torchvision takes as long to import as torch, so it is loaded only for a network of its own.
"""

import difflib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
from torch import nn

from cifar100_transfer.errors import UserError

from .express import LAYOUTS, ExpressCNN
from .fast_convolution import accelerate_convolutions
from .simple_cnn import SimpleCNN
from .wide_resnet import WIDE_RESNETS, WideResNet

SIMPLE_CNN = "simple_cnn"


def _of_any_size(
    build: Callable[[int], nn.Module],
) -> Callable[[int, tuple[int, int]], nn.Module]:
    """Let a network that is built for any image size be told one."""
    return lambda num_classes, _: build(num_classes)


# This project's own: by name, what builds it for a number of classes and a height and width.
_OWN: dict[str, Callable[[int, tuple[int, int]], nn.Module]] = {
    SIMPLE_CNN: SimpleCNN,
    **{name: _of_any_size(partial(ExpressCNN, layout=layout)) for name, layout in LAYOUTS.items()},
    **{name: _of_any_size(partial(WideResNet, *shape)) for name, shape in WIDE_RESNETS.items()},
}
# The challenge admits convolutional networks only.
_TRANSFORMERS = ("vit_", "swin_", "maxvit")
# Auxiliary classifiers would return tuples in training mode.
_WITHOUT_AUXILIARY_HEADS = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
# Of GoogLeNet and Inception v3, which are published with them.
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
# DenseNets are published with dots that names of modules no longer may hold; torchvision's own
# loader takes them out.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
# What torch's DataParallel and DistributedDataParallel put before every key.
_OF_SEVERAL_DEVICES = "module."


def architectures() -> list[str]:
    """Return the names of all networks that `build_network` can build, sorted."""
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    return sorted([*_OWN, *(name for name in names if not name.startswith(_TRANSFORMERS))])


def check_architecture(name: str) -> None:
    """Raise a `UserError` with the nearest known names if there is no such architecture."""
    if name in _OWN:
        return
    known = architectures()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=5, cutoff=0.4) or known
        raise UserError(f"'{name}' is no known architecture: did you mean {', '.join(near)}?")


def build_network(
    architecture: str,
    num_classes: int,
    image_size: tuple[int, int],
    dropout: float | None = None,
) -> nn.Module:
    """Build a network with random weights, drawn from torch's global generator.

    Args:
        architecture: one of `architectures()`.
        num_classes: number of logits, at least 1.
        image_size: height and width in pixels of the images it will see.
        dropout: probability of zeroing a feature before the head, in [0, 1); None leaves the
            network as published (most have none, SqueezeNet and VGG 0.5).

    Returns:
        A module from normalised float images [N, 3, H, W] to logits [N, num_classes].

    Raises:
        UserError: unknown architecture, or images too small for it.
    """
    check_architecture(architecture)
    network = _as_published(architecture, num_classes, image_size)
    if dropout is not None:
        _set_dropout(network, dropout)
    network = network.to(memory_format=memory_format(architecture))
    if architecture != SIMPLE_CNN:
        accelerate_convolutions(network)
    _check_image_size(network, architecture, image_size)
    return network


def _as_published(architecture: str, num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    if architecture in _OWN:
        return _OWN[architecture](num_classes, image_size)
    import torchvision

    options = _WITHOUT_AUXILIARY_HEADS.get(architecture, {})
    return cast(
        nn.Module,
        torchvision.models.get_model(
            architecture, weights=None, num_classes=num_classes, **options
        ),
    )


def zero_init_residual(network: nn.Module) -> None:
    """Let every residual block of a ResNet start as the identity (Goyal et al., 2017).

    The last batch normalisation of each block gets a scale of zero.

    Raises:
        UserError: the network has no ResNet block.
    """
    from torchvision.models.resnet import BasicBlock, Bottleneck

    last = [
        module.bn3 if isinstance(module, Bottleneck) else module.bn2
        for module in network.modules()
        if isinstance(module, Bottleneck | BasicBlock)
    ]
    if not last:
        raise UserError("model.zero_init_residual is true, but this network is no ResNet")
    for normalization in last:
        nn.init.zeros_(normalization.weight)


def check_zero_init(architecture: str) -> None:
    """Raise a `UserError` if `zero_init_residual` does nothing for an architecture."""
    from torchvision.models import get_model_builder

    if architecture in _OWN or not get_model_builder(architecture).__module__.endswith(".resnet"):
        raise UserError(f"{architecture} is no ResNet: set it to false")


def memory_format(architecture: str) -> torch.memory_format:
    """Return the memory format in which a network runs fastest.

    Channels-last suits every network with many channels. The single convolution of `simple_cnn`,
    on three channels, runs about 3 times slower in it (two AVX2 cores, batch 128).
    """
    return torch.contiguous_format if architecture == SIMPLE_CNN else torch.channels_last


def head_name(network: nn.Module) -> str:
    """Return the dotted name of the layer that makes the logits: the last with parameters.

    In every network here that layer is the last linear layer or 1x1 convolution defined.
    """
    heads = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return heads[-1]


def load_backbone(network: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy pretrained weights into everything but the head, which keeps its random weights.

    Args:
        network: the network to fill, as `build_network` makes it.
        state: state dict of the same architecture with any number of classes, as torchvision
            publishes it or as it was trained on several devices (keys `module.…`).
        source: where the state is from, for the error message.

    Raises:
        UserError: keys or shapes differ, so the state is of another architecture.
    """
    load_current_state(network, _fitting(network, state, source), strict=False)


def check_backbone(architecture: str, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Check ahead of time what `load_backbone` checks.

    Args:
        architecture: one of `architectures()`.
        state: as for `load_backbone`.
        source: where the state is from, for the error message.

    Raises:
        UserError: keys or shapes differ, so the state is of another architecture.
    """
    # The size of images matters to heads alone.
    _fitting(_as_published(architecture, 1, (32, 32)), state, source)


def _fitting(
    network: nn.Module, state: Mapping[str, torch.Tensor], source: str
) -> dict[str, torch.Tensor]:
    """Return the weights of everything but the head; raise if they don't fit the network."""
    state = _current_names(state)
    head = head_name(network) + "."
    own = {key: value for key, value in network.state_dict().items() if not key.startswith(head)}
    given = {key: value for key, value in state.items() if not key.startswith(head)}
    missing = sorted(own.keys() - given.keys())
    # Published weights of old torchvision versions lack the batch counters; they start at zero.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    unexpected = sorted(given.keys() - own.keys())
    reshaped = sorted(
        f"{key} {list(given[key].shape)} instead of {list(own[key].shape)}"
        for key in own.keys() & given.keys()
        if own[key].shape != given[key].shape
    )
    if missing or unexpected or reshaped:
        problems = [
            f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
            for kind, keys in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("of another shape", reshaped),
            )
            if keys
        ]
        raise UserError(
            f"{source} does not fit this architecture: keys {'; '.join(problems)}. "
            f"Set model.architecture to the one the weights are from, or name others with "
            f"--params=weights=NAME_OR_FILE."
        )
    return given


def _current_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict as the networks here name it, without auxiliary classifiers."""
    if all(key.startswith(_OF_SEVERAL_DEVICES) for key in state):
        state = {key.removeprefix(_OF_SEVERAL_DEVICES): value for key, value in state.items()}
    return {
        _OLD_DENSENET.sub(r"\1\2", key): value
        for key, value in state.items()
        if not key.startswith(_AUXILIARY_HEADS)
    }


def load_current_state(
    module: nn.Module, state: Mapping[str, torch.Tensor], strict: bool = True
) -> None:
    """Load a state dict that lost torch's version marks, as every plain dictionary has.

    Some modules (MNASNet) refuse a state without them. Shapes are checked all the same.

    Raises:
        RuntimeError: keys (if strict) or shapes differ.
    """
    marked = OrderedDict(state)
    marked._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(marked, strict=strict)


class _DropoutLinear(nn.Linear):
    """A linear head with dropout in front, under the parameter names of a plain one."""

    dropout = 0.0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(
            nn.functional.dropout(features, p=self.dropout, training=self.training)
        )


def _set_dropout(network: nn.Module, probability: float) -> None:
    """Set the dropout in front of the head, putting one there where the network has none."""
    name = head_name(network)
    parent = network.get_submodule(name.rpartition(".")[0])
    head = network.get_submodule(name)
    children = list(parent.children())
    # Only layers between the last other parameters and the head work on the head's features.
    for module in reversed(children[: children.index(head)]):
        if isinstance(module, nn.Dropout):
            module.p = probability
            return
        if any(True for _ in module.parameters()):
            break
    if not isinstance(head, nn.Linear):
        raise UserError("dropout can't be set: this network ends in a convolution without one")
    # Changing the class keeps the parameters and their names, so published weights still load.
    head.__class__ = _DropoutLinear
    head.dropout = probability  # type: ignore[assignment]


def _check_image_size(network: nn.Module, architecture: str, image_size: tuple[int, int]) -> None:
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, *image_size))
    except RuntimeError as error:
        raise UserError(
            f"{architecture} can't take images of {image_size[0]} x {image_size[1]} pixels "
            f"({str(error).splitlines()[0]}): set model.image_size larger, for example to 64 or 224"
        ) from error
    finally:
        network.train(was_training)
