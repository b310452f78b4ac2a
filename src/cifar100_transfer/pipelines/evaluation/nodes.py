"""Nodes of the evaluation template."""

from typing import Any

from cifar100_transfer.config import ComputeConfig
from cifar100_transfer.pipelines.annotations import Classifier, Figure, ImageSet, Predictions

# Of the training summary, what stands beside the test figures in metrics.json.
_TRAINING_FIGURES = ("train_accuracy", "train_loss", "validation_accuracy", "validation_loss")


def predict_test_set(
    classifier: Classifier, test_set: ImageSet, compute: ComputeConfig
) -> Predictions:
    """Classify the test images."""
    from cifar100_transfer.evaluation.prediction import predict
    from cifar100_transfer.models import choose_device

    return predict(classifier, test_set, choose_device(compute.device))


def compute_metrics(predictions: Predictions, training_summary: dict[str, Any]) -> dict[str, float]:
    """Compute the test metrics, beside the training and validation figures of the same weights."""
    from cifar100_transfer.evaluation.metrics import classification_metrics
    from cifar100_transfer.evaluation.suspicion import warn_of_gap

    test = {f"test_{name}": v for name, v in classification_metrics(predictions).items()}
    warn_of_gap(
        *(test["test_accuracy"], len(predictions)),
        *(training_summary["validation_accuracy"], training_summary["validation_images"]),
    )
    return {**test, **{name: training_summary[name] for name in _TRAINING_FIGURES}}


def draw_confusion_matrix(predictions: Predictions, training_summary: dict[str, Any]) -> Figure:
    """Draw which classes are taken for which."""
    from cifar100_transfer.evaluation import figures

    return figures.confusion_matrix(
        predictions, title=f"Test set confusion: {training_summary['architecture']}"
    )
