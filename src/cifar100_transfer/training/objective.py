"""What a batch is trained for: its loss, whatever its targets and views."""

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar100_transfer.config import TrainingConfig


def batch_loss(logits: Tensor, targets: Tensor, config: TrainingConfig) -> Tensor:
    """Return the mean loss of a batch, in nats.

    Args:
        logits: [B, classes], or [views, B, classes] of several views of each image.
        targets: labels int64 [B], or shares of the classes float [B, classes].
        config: how targets are smoothed and views are held together.

    Returns:
        The cross-entropy of the first view, plus the consistency of all.
    """
    first, smoothing = first_view(logits), config.label_smoothing
    loss = F.cross_entropy(first, targets, label_smoothing=smoothing)
    if logits.ndim == 2:
        return loss
    return loss + config.augmentation.augmix_jsd * jensen_shannon(logits.log_softmax(-1))


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    """Count the images whose largest logit (in the first view) is of the largest target."""
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    return (first_view(logits).argmax(1) == labels).sum()


def first_view(logits: Tensor) -> Tensor:
    """Return the logits [B, classes] of each image's first, least changed view."""
    return logits if logits.ndim == 2 else logits[0]


def jensen_shannon(log_probabilities: Tensor) -> Tensor:
    """Return the mean Jensen-Shannon divergence of several predictions for each image, in nats.

    The mean over the views of the Kullback-Leibler divergence from their mixture (Hendrycks et al.,
    2020, AugMix): 0 where all views agree, at most log(views).

    Args:
        log_probabilities: of the predictions, [views, B, classes]. Their logarithms are finite
            where probabilities underflow to 0, of which the gradient would be NaN.
    """
    # A mixture that underflowed has no logarithm, either; AugMix's code uses the same bound.
    mixture = log_probabilities.exp().mean(0).clamp_min(1e-7).log()
    return torch.stack(
        [
            F.kl_div(mixture, view, reduction="batchmean", log_target=True)
            for view in log_probabilities
        ]
    ).mean()
