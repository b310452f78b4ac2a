"""From parameters to an untrained classifier."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from cifar100_transfer.config import ModelConfig, TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import (
    Classifier,
    ClassifierSpec,
    ExpressCNN,
    load_backbone,
    zero_init_residual,
)

from .batches import epoch_seed

# Of 500 images of CIFAR-100: a covariance of 12 x 12 values needs no more, and their patches are
# 24 MB.
_STEM_PIXELS = 500 * 32 * 32


def build_classifier(
    images: ImageSet,
    normalization: Mapping[str, Any],
    model: ModelConfig,
    training: TrainingConfig,
    pretrained_weights: Mapping[str, torch.Tensor] | None = None,
) -> Classifier:
    """Build a classifier for an image set, with its initial weights.

    Args:
        images: the images it will be trained on; gives classes and size, and to `express` its
            first filters.
        normalization: `mean` and `std`, three numbers each.
        model: the network.
        training: the recipe; gives the seed, and is written into the classifier.
        pretrained_weights: weights for everything but the head, used if `model.pretrained`.

    Raises:
        UserError: unknown architecture, images too small for it, `model.zero_init_residual` of a
            network that is no ResNet, `model.pretrained` without weights, or weights of another
            architecture.
    """
    torch.manual_seed(epoch_seed(training.seed, 0))
    classifier = Classifier(
        ClassifierSpec(
            architecture=model.architecture,
            class_names=images.class_names,
            mean=tuple(normalization["mean"]),
            std=tuple(normalization["std"]),
            input_size=images.image_size,
            image_size=model.image_size,
            dropout=model.dropout,
            coarse_names=images.coarse_names,
            coarse_of_class=images.coarse_of_class,
            recipe={
                "model": model.model_dump(mode="json"),
                "training": training.model_dump(mode="json"),
                "track": training.augmentation.track,
            },
        )
    )
    if isinstance(classifier.network, ExpressCNN):
        count = max(1, _STEM_PIXELS // math.prod(classifier.network_size))
        few = images.images[:: math.ceil(len(images) / count)]  # they may be sorted by class
        classifier.network.stem.fit(classifier.preprocess(few))
    if model.zero_init_residual:
        zero_init_residual(classifier.network)
    if model.pretrained:
        if pretrained_weights is None:
            raise UserError(
                "model.pretrained is true, but this pipeline has no input pretrained_weights: "
                "register the model as pretrained in pipeline_registry.py, or set it to false"
            )
        load_backbone(classifier.network, pretrained_weights, "pretrained_weights")
    return classifier
