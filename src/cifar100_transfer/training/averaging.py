"""Averages of the weights over a training: EMA and SWA."""

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cifar100_transfer.config import AveragingConfig
from cifar100_transfer.models import Classifier

from .optimization import batch_norms


class Average:
    """The mean of a classifier's weights over its training, as a classifier of its own.

    Not torch's `AveragedModel`, whose counter would make a GPU wait at every step.

    Args:
        classifier: with its initial weights.
        config: which mean.

    Attributes:
        classifier: the mean; a copy of the initial weights until `updates` is 1.
        updates: how often weights went into the mean.
    """

    def __init__(self, classifier: Classifier, config: AveragingConfig) -> None:
        self.classifier = copy.deepcopy(classifier)
        self.updates = 0
        self._config = config

    @classmethod
    def of(cls, classifier: Classifier, config: AveragingConfig) -> Self | None:
        """Return the mean that the recipe asks for, None if it asks for none."""
        return None if config.name == "none" else cls(classifier, config)

    def update(self, classifier: Classifier) -> None:
        """Take the present weights and statistics of a classifier into the mean.

        `swa` is the plain mean of all updates (Izmailov et al., 2018). `ema` multiplies the mean by
        `ema_decay` each time, by less among the first updates, so that the initial weights don't
        linger: (1 + n) / (10 + n) after n updates, as TensorFlow's ExponentialMovingAverage does.
        """
        n = self.updates
        decay = n / (n + 1)
        if self._config.name == "ema":
            decay = min(self._config.ema_decay, (1 + n) / (10 + n))
        means, values = [], []
        for mean, value in zip(
            self.classifier.state_dict().values(), classifier.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                means.append(mean)
                values.append(value)
            else:  # a counter
                mean.copy_(value)
        get_ema_multi_avg_fn(decay)(means, values, None)  # type: ignore[no-untyped-call]
        self.updates += 1

    @torch.no_grad()
    def reestimate_batch_norm(
        self, parts: Iterable[Tensor], precision: Callable[[], AbstractContextManager[object]]
    ) -> None:
        """Measure the statistics of batch normalisation for the mean weights.

        Those of the weights that went into the mean don't fit it (Izmailov et al., 2018). As
        torch's `update_bn`, but that a small part of the images weighs less than a large one. Costs
        one forward pass over the images, if there is any batch normalisation.

        Args:
            parts: images [B, 3, H, W] that pass the network together, or [views, B, 3, H, W].
            precision: makes the context of a forward pass.
        """
        norms = batch_norms(self.classifier)
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        was_training = self.classifier.training
        self.classifier.train()
        for norm in norms:
            norm.reset_running_stats()
        seen = 0
        for part in parts:
            images = part.flatten(0, -4)  # several views of an image are as many images
            seen += len(images)
            for norm in norms:
                norm.momentum = len(images) / seen  # the running mean over all images until now
            # Around this alone: what makes the parts must not choose a reduced precision.
            with precision():
                self.classifier(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.classifier.train(was_training)

    def state_dict(self) -> dict[str, Any]:
        """Return all state as tensors and plain values."""
        return {"updates": self.updates, "weights": self.classifier.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a stored state."""
        self.updates = state["updates"]
        self.classifier.load_state_dict(state["weights"])
