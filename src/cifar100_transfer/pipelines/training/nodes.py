"""Nodes of the training template."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cifar100_transfer.config import ComputeConfig, ModelConfig, TrainingConfig
from cifar100_transfer.errors import UserError
from cifar100_transfer.manifest import hardware_name
from cifar100_transfer.pipelines.annotations import (
    Classifier,
    DataFrame,
    Figure,
    ImageSet,
    Tensor,
)

logger = logging.getLogger(__name__)


def train_classifier(
    train_set: ImageSet,
    validation_set: ImageSet,
    normalization: dict[str, Any],
    model: ModelConfig,
    training: TrainingConfig,
    compute: ComputeConfig,
    resume_folder: Path,
    pretrained_weights: dict[str, Tensor] | None = None,
    *,
    name: str,
) -> tuple[Classifier, DataFrame, dict[str, Any]]:
    """Build a classifier, train it by its recipe, and keep the best validation epoch.

    A run that was killed goes on at its last finished epoch. `name` is the model's, for the log.

    Returns the classifier, its history (one row an epoch) and a summary of the training.
    """
    import pandas as pd

    from cifar100_transfer.data import check_division
    from cifar100_transfer.models import classifier_digest, count_flops
    from cifar100_transfer.tracking import epoch_listener
    from cifar100_transfer.training import (
        Compute,
        EpochRecord,
        build_classifier,
        choose_batch_size,
        train_on_devices,
    )
    from cifar100_transfer.training.suspicion import warn_at_chance

    check_division(train_set, validation_set, normalization)
    where = Compute.of(compute)

    def build(recipe: TrainingConfig) -> Classifier:
        return build_classifier(train_set, normalization, model, recipe, pretrained_weights)

    track = epoch_listener()

    def watch(record: EpochRecord) -> None:
        warn_at_chance(record, name, classes=train_set.num_classes, images=len(validation_set))
        if track:
            track(record)

    with _naming_model(name):
        classifier = build(training)
        sets = (train_set, validation_set)
        if training.batch_size == "auto":
            training = choose_batch_size(
                classifier, *sets, training, where, resume_folder, compute.devices
            )
            classifier = build(training)  # its recipe names the number
        logger.info(
            "Training %s (%s) on %s images", name, model.architecture, f"{len(train_set):,}"
        )
        result = train_on_devices(
            compute.devices, classifier, *sets, training, where, resume_folder, watch
        )
    trained = _naming_validation(result.classifier, validation_set)
    history = pd.DataFrame([asdict(record) for record in result.history])
    summary = {
        **result.summary(),
        "classifier": classifier_digest(trained),
        "flops": count_flops(trained.spec),
        "device": str(where.device),
        "devices": compute.devices,
        "hardware": hardware_name(str(where.device)),
        "precision": str(where.precision).removeprefix("torch."),
        "train_images": len(train_set),
        "validation_images": len(validation_set),
        "recipe": trained.spec.recipe,
    }
    return trained, history, summary


@contextmanager
def _naming_model(name: str) -> Iterator[None]:
    """Put the model's name before the parameters of its recipe that an error is about."""
    try:
        yield
    except UserError as error:
        if str(error).startswith(("training.", "model.")):
            raise UserError(f"{name}.{error}") from error
        raise


def _naming_validation(classifier: Classifier, validation_set: ImageSet) -> Classifier:
    """Let a classifier say by which images its epoch was chosen: all others it may have seen."""
    from cifar100_transfer.evaluation.prediction import VALIDATION_IMAGES

    recipe = {**classifier.spec.recipe, VALIDATION_IMAGES: validation_set.digest()}
    classifier.spec = replace(classifier.spec, recipe=recipe)
    return classifier


def draw_learning_curves(history: DataFrame, *, model: str) -> Figure:
    """Draw training and validation loss and accuracy over the epochs."""
    from cifar100_transfer.evaluation import figures

    return figures.learning_curves(history, title=f"Learning curves: {model}")
