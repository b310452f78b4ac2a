"""Averages of the weights over a training: EMA and SWA."""

import copy
from typing import Any, Self

from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn

from cifar100_transfer.config import AveragingConfig
from cifar100_transfer.models import Classifier

from .batches import ResidentBatches


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

    def reestimate_batch_norm(self, batches: ResidentBatches, seed: int, epoch: int) -> None:
        """Measure the statistics of batch normalisation for the mean weights.

        Those of the weights that went into the mean don't fit it (Izmailov et al., 2018). Costs one
        forward pass over an epoch's batches, if there is any batch normalisation.
        """
        # Several views of an image are as many images.
        loader = (images.flatten(0, -4) for images, _ in batches.epoch(seed, epoch))
        update_bn(loader, self.classifier)

    def state_dict(self) -> dict[str, Any]:
        """Return all state as tensors and plain values."""
        return {"updates": self.updates, "weights": self.classifier.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a stored state."""
        self.updates = state["updates"]
        self.classifier.load_state_dict(state["weights"])
