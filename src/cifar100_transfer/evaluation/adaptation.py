"""Getting more out of trained classifiers on images of another kind than they were trained on.

Everything here is a predictor or turns predictors into another one, so that the ways compose:
`transductive_batch_norm(classifier, 0.5, lambda adapted: augmented(plain(adapted)))`. None of them
needs a label, and none changes the classifier it is given.
"""

import copy
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import (
    Classifier,
    inference_batch_size,
    mean_log_probabilities,
    predict_logits,
)

Predictor = Callable[[Tensor], Tensor]
"""From images uint8 [N, 3, H, W] to logits or log-probabilities float32 [N, classes]."""

# Rows and columns by which a view is moved: a single pixel to either side of one diagonal, which
# suffices to break the grid of strides and pooling and costs half of moving to all four corners.
SHIFTS = ((0, 0), (-1, -1), (1, 1))


def plain(classifier: Classifier) -> Predictor:
    """Return the predictor that uses a classifier as it was trained."""
    return lambda images: predict_logits(classifier, images)


def transductive_batch_norm(
    classifier: Classifier,
    source_weight: float,
    predictor_of: Callable[[Classifier], Predictor] = plain,
) -> Predictor:
    """Return the predictor that adapts batch normalisation to the very images it is asked about.

    It is transductive: the answer for one image depends on the images beside it, so it is
    defined for a set of images of one kind, not for one image, and gains nothing on a mixture of
    kinds. Its figures must not be compared with those of ordinary classifiers without saying so.

    Args:
        classifier: see `adapt_batch_norm`.
        source_weight: see `adapt_batch_norm`.
        predictor_of: how the adapted classifier is used.
    """
    return lambda images: predictor_of(adapt_batch_norm(classifier, images, source_weight))(images)


def augmented(predictor: Predictor) -> Predictor:
    """Return the predictor that averages log-probabilities over `views` of every image.

    To adapt batch normalisation, too, let it be adapted once, to the images as they are:
    `transductive_batch_norm(classifier, 0.5, lambda adapted: augmented(plain(adapted)))`.
    """
    return lambda images: mean_log_probabilities(predictor(view) for view in views(images))


def views(images: Tensor) -> Iterable[Tensor]:
    """Yield what test-time augmentation looks at: every image moved by `SHIFTS`, and mirrored.

    Args:
        images: uint8 [N, 3, H, W].

    Yields:
        Six times uint8 [N, 3, H, W], the images themselves first. Pixels that a shift leaves empty
        repeat the nearest row or column.
    """
    height, width = images.shape[-2:]
    for down, right in SHIFTS:
        rows = torch.arange(height, device=images.device).sub(down).clamp(0, height - 1)
        columns = torch.arange(width, device=images.device).sub(right).clamp(0, width - 1)
        # Indexing by both at once goes pixel by pixel, which takes twice the time on a CPU.
        moved = images.index_select(-2, rows).index_select(-1, columns)
        yield moved
        yield moved.flip(-1)


def has_batch_norm(classifier: Classifier) -> bool:
    """Tell whether there are batch normalisation layers whose statistics can be adapted."""
    return bool(_batch_norm_layers(classifier))


@torch.no_grad()
def adapt_batch_norm(classifier: Classifier, images: Tensor, source_weight: float) -> Classifier:
    """Re-estimate the statistics of batch normalisation on unlabelled images.

    Every layer gets `source_weight * trained + (1 - source_weight) * new` as running mean and
    running variance (Schneider et al. 2020; `source_weight=0` is that of Nado et al. 2020).

    The new statistics come from a single pass. In it every batch is normalised with its own mixed
    statistics, so that a layer sees inputs as the adapted layers before it make them. A layer's
    means and variances of the batches are then merged into those of all its inputs. (Averaging
    variances, as torch does with `momentum=None`, would leave out how far the batches lie apart.)
    This is exact for one batch, and for the first layer always; to be exact for all layers and
    batches it would take a pass for every layer.

    Args:
        classifier: with batch normalisation; it is not changed.
        images: uint8 [N, 3, H, W] or float in [0, 1], N at least 1, of one kind.
        source_weight: trust in the statistics of training, in [0, 1]; 1 changes nothing.

    Returns:
        An adapted copy in evaluation mode, on the device of `classifier`, whose weights it shares.
        Variances are those of the population, by which batch normalisation divides in training.

    Raises:
        UserError: the classifier has no batch normalisation, there are no images, or the weight
            is out of range.
    """
    if not 0 <= source_weight <= 1:
        raise UserError(f"source_weight must lie in [0, 1], got {source_weight}")
    if len(images) == 0:
        raise UserError("batch normalisation can't be adapted to zero images: give at least one")
    # Only statistics change, so the copy shares the weights.
    shared: dict[int, object] = {id(weight): weight for weight in classifier.parameters()}
    adapted = copy.deepcopy(classifier, shared).eval()
    layers = _batch_norm_layers(adapted)
    if not layers:
        raise UserError(
            f"{classifier.spec.architecture} has no batch normalisation to adapt: leave this "
            f"method out, or take another architecture"
        )
    estimates = [_Estimate(layer, source_weight) for layer in layers]
    # Batches of equal size: a small last one would have poor statistics.
    for batch in images.tensor_split(math.ceil(len(images) / inference_batch_size(classifier))):
        adapted(batch.to(classifier.mean.device))
    for estimate in estimates:
        estimate.finish()
    return adapted


class _Estimate:
    """Watches the inputs of one layer: normalises each batch, and remembers all of them.

    Args:
        layer: its running statistics change with every batch, until `finish`.
        source_weight: of the running statistics that the layer has now.
    """

    def __init__(self, layer: _BatchNorm, source_weight: float) -> None:
        self._layer = layer
        self._source = [statistic.clone() for statistic in _statistics(layer)]
        self._source_weight = source_weight
        self._count = 0
        self._mean, self._variance = (torch.zeros_like(statistic) for statistic in self._source)
        self._hook = layer.register_forward_pre_hook(self._observe)

    def finish(self) -> None:
        """Give the layer the statistics of all batches and stop watching."""
        self._hook.remove()
        self._set(self._mean, self._variance)

    def _observe(self, _layer: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0]
        per_channel = [dimension for dimension in range(values.ndim) if dimension != 1]
        # In bfloat16 the result would be rounded to three digits, too.
        variance, mean = torch.var_mean(values.float(), per_channel, correction=0)
        self._merge(mean, variance, values.numel() // values.shape[1])
        self._set(mean, variance)

    def _merge(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Merge two parts' statistics into those of both (Chan, Golub & LeVeque 1979)."""
        self._count += count
        share = count / self._count
        apart = mean - self._mean
        self._mean = self._mean + share * apart
        self._variance = torch.lerp(self._variance, variance, share)
        self._variance += share * (1 - share) * apart**2

    def _set(self, mean: Tensor, variance: Tensor) -> None:
        for running, source, new in zip(
            _statistics(self._layer), self._source, (mean, variance), strict=True
        ):
            running.copy_(torch.lerp(new, source, self._source_weight))


def _batch_norm_layers(classifier: Classifier) -> list[_BatchNorm]:
    return [
        module
        for module in classifier.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


def _statistics(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var
