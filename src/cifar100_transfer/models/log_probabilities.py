"""Averaging what several classifiers, or one on several views, say about the same images."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from cifar100_transfer.errors import UserError


def mean_log_probabilities(logits: Iterable[Tensor]) -> Tensor:
    """Average log-softmax over several logits of the same images, holding two at a time.

    The mean of log-probabilities (the geometric mean of probabilities) is sharper than that of
    probabilities: a member or view that rules a class out is heard.

    Args:
        logits: at least one floating point [N, classes]; log-probabilities count as logits.

    Returns:
        float32 [N, classes]; exponentials of a row sum to at most 1.

    Raises:
        UserError: there is nothing to average.
    """
    total, count = torch.zeros(()), 0
    for count, one in enumerate(logits, start=1):  # noqa: B007 - the number is used after the loop
        # Of fewer digits under autocast, which are too few for a sum of many.
        total = total.to(one.device) + log_softmax(one.float(), dim=1)
    if count == 0:
        raise UserError("an ensemble of no classifiers predicts nothing: name at least one member")
    return total / count
