"""Where a classifier looks: Grad-CAM (Selvaraju et al. 2017), computed by Captum."""

from collections.abc import Iterator
from typing import Any

import torch
from captum.attr import LayerGradCam
from torch import nn

from cifar100_transfer.data import Predictions
from cifar100_transfer.models import Classifier

# On a coarser feature map every class would look at the whole image. ResNet-50 in its published
# form reduces 32 pixels to a single one; its second of four stages is the last with 4 x 4.
SMALLEST_MAP = 4


def surest_examples(predictions: Predictions, count: int) -> torch.Tensor:
    """Choose the images of which a classifier was surest: half of them mistaken, half recognised.

    Args:
        predictions: of N images.
        count: how many images to choose; fewer where there are not as many.

    Returns:
        Indices int64 [at most count]: mistakes first, each kind by falling confidence. Where one
        kind is too rare the other fills its place.
    """
    order = predictions.confidence.argsort(descending=True, stable=True)
    right = predictions.correct[order]
    mistakes, hits = order[~right], order[right]
    shown_mistakes = min(len(mistakes), max(count // 2, count - len(hits)))
    return torch.cat([mistakes[:shown_mistakes], hits[: count - shown_mistakes]])


def grad_cam(classifier: Classifier, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Compute how much each region of an image speaks for a class.

    Taken at the last feature map of at least 4 x 4 pixels; of an ensemble, the mean over members.

    Args:
        classifier: on any device; its mode is put back.
        images: uint8 [N, 3, H, W].
        classes: the class in question for each image, int64 [N].

    Returns:
        Float32 [N, H, W] on the CPU, in [0, 1]: the positive part of the class's evidence, each
        image divided by its largest value; all 0 where nothing speaks for the class.
    """
    was_training = classifier.training
    classifier.eval()
    try:
        heats = [_heat_map(member, images, classes) for member in classifier.members]
    finally:
        classifier.train(was_training)
    return _scaled(torch.stack(heats).mean(0)).cpu()


def _heat_map(classifier: Classifier, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    device = classifier.mean.device
    inputs = classifier.preprocess(images.to(device))
    layer = _last_map(classifier.network, inputs[:1])
    heat = LayerGradCam(classifier.network, layer).attribute(
        inputs, target=classes.to(device), relu_attributions=True
    )
    heat = nn.functional.interpolate(
        heat.detach().float(), size=images.shape[-2:], mode="bilinear"
    ).squeeze(1)
    return _scaled(heat)


def _scaled(heat: torch.Tensor) -> torch.Tensor:
    """Divide each image [H, W] of non-negative values by its largest."""
    return heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def _last_map(network: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Return the stage, or layer of a plain sequence, that is last to give a map of 4 x 4 or more.

    The insides of residual and other blocks are passed over: a part of a block says less.
    """
    maps: list[tuple[int, nn.Module]] = []

    def record(module: nn.Module, _inputs: Any, output: Any) -> None:
        is_map = isinstance(output, torch.Tensor) and output.ndim == 4
        # An adaptive pool may blow a single pixel up to a map.
        if is_map and not isinstance(module, nn.AdaptiveAvgPool2d):
            maps.append((min(output.shape[-2:]), module))

    hooks = [stage.register_forward_hook(record) for stage in _stages(network)]
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    smallest = min(SMALLEST_MAP, max(size for size, _ in maps))
    return [module for size, module in maps if size >= smallest][-1]


def _stages(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield child
        if isinstance(child, nn.Sequential):
            yield from _stages(child)
