"""What all trials of a study share."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cifar100_transfer.data import ImageSet
from cifar100_transfer.sealed import tensors_digest
from cifar100_transfer.training import Compute, EpochRecord, TrainingResult, build_classifier, train

from .space import Recipe


@dataclass(frozen=True, eq=False)
class TrialData:
    """Images, loaded once for all trials, and where they are trained on.

    Attributes:
        train_set: images to learn from.
        validation_set: images to judge by. There are no test images here.
        normalization: `mean` and `std`, three numbers each.
        compute: where and in which numbers to train.
        pretrained_weights: state dict for recipes that start from one.
    """

    train_set: ImageSet
    validation_set: ImageSet
    normalization: Mapping[str, Any]
    compute: Compute
    pretrained_weights: Mapping[str, torch.Tensor] | None = None

    def train(
        self, recipe: Recipe, on_epoch: Callable[[EpochRecord], None] | None = None
    ) -> TrainingResult:
        """Train one recipe; see `training.train`."""
        classifier = build_classifier(
            self.train_set,
            self.normalization,
            recipe.model,
            recipe.training,
            self.pretrained_weights,
        )
        return train(
            classifier,
            self.train_set,
            self.validation_set,
            recipe.training,
            self.compute,
            on_epoch=on_epoch,
        )

    def identity(self, **settings: Any) -> str:
        """Return eight hexadecimal digits that differ where trials are not comparable.

        Args:
            settings: plain values that trials also depend on.
        """
        weights = self.pretrained_weights or {}
        tensors = [
            *(self.train_set.images, self.train_set.labels),
            *(self.validation_set.images, self.validation_set.labels),
            *(weights[name] for name in sorted(weights)),
        ]
        described = {
            "images and weights": tensors_digest(*tensors),
            "normalization": [list(self.normalization[name]) for name in ("mean", "std")],
            "precision": str(self.compute.precision),
            **settings,
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]
