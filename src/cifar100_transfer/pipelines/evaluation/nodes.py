"""Nodes of the evaluation template."""

from dataclasses import asdict
from typing import Any

from cifar100_transfer.config import ComputeConfig
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.annotations import (
    Classifier,
    DataFrame,
    Figure,
    ImageSet,
    Predictions,
)

# Of the training summary, what stands beside the test figures in metrics.json.
_TRAINING_FIGURES = ("train_accuracy", "train_loss", "validation_accuracy", "validation_loss")
_CONFUSED_PAIRS = 40
_ACTIVATION_IMAGES = 8


def predict_set(classifier: Classifier, images: ImageSet, compute: ComputeConfig) -> Predictions:
    """Classify an image set."""
    from cifar100_transfer.evaluation.prediction import predict
    from cifar100_transfer.models import choose_device

    return predict(classifier, images, choose_device(compute.device))


def predict_validation_set(
    classifier: Classifier, images: ImageSet, compute: ComputeConfig
) -> Predictions:
    """Classify the validation images, which must be those of the classifier's own training."""
    from cifar100_transfer.evaluation.prediction import check_validation

    check_validation(classifier, images)
    return predict_set(classifier, images, compute)


def fit_calibration(validation_predictions: Predictions) -> dict[str, Any]:
    """Fit the temperature on validation images, before any test image is looked at.

    Beside it stands the digest of the classifier that it is for.
    """
    from cifar100_transfer.evaluation.metrics import fit_temperature

    return {
        "temperature": fit_temperature(validation_predictions),
        "classifier": validation_predictions.classifier,
    }


def compute_metrics(
    predictions: Predictions,
    calibration: dict[str, Any],
    training_summary: dict[str, Any],
    classifier: Classifier,
    test_set: ImageSet,
) -> dict[str, Any]:
    """Compute the test metrics, beside the training and validation figures of the same weights.

    `test_ece_calibrated` and `test_loss_calibrated` are those at the fitted temperature,
    `classifier` is the digest of the classifier, `test_set` that of the images.

    Raises:
        UserError: summary, predictions or calibration are another classifier's, or the predictions
            are of other images.
    """
    from cifar100_transfer.evaluation.metrics import (
        classification_metrics,
        expected_calibration_error,
        mean_loss,
        wilson_interval,
        with_temperature,
    )
    from cifar100_transfer.evaluation.suspicion import warn_of_gap
    from cifar100_transfer.models import classifier_digest

    judged = classifier_digest(classifier)
    if judged != training_summary["classifier"]:
        raise UserError(
            "the training summary is not that of the classifier which is judged, so their figures "
            "must not stand side by side: name the same run for both with --load-versions="
            "MODEL.classifier:RUN,MODEL.training_summary:RUN"
        )
    _check_said_by(judged, predictions)
    _check_calibration(calibration, judged)
    _check_seen(predictions, test_set)
    test = {f"test_{name}": v for name, v in classification_metrics(predictions).items()}
    scaled = with_temperature(predictions, calibration["temperature"])
    images = training_summary["validation_images"]
    low, high = wilson_interval(round(training_summary["validation_accuracy"] * images), images)
    warn_of_gap(
        *(test["test_accuracy"], len(predictions)),
        *(training_summary["validation_accuracy"], images),
    )
    return {
        **test,
        "temperature": calibration["temperature"],
        "test_ece_calibrated": expected_calibration_error(scaled),
        "test_loss_calibrated": mean_loss(scaled),
        **{name: training_summary[name] for name in _TRAINING_FIGURES},
        "validation_accuracy_low": low,
        "validation_accuracy_high": high,
        "classifier": training_summary["classifier"],
        "test_set": test_set.digest(),
    }


def _check_said_by(classifier: str, predictions: Predictions) -> None:
    """Refuse predictions of another classifier; those of earlier releases don't say of which."""
    if predictions.classifier not in ("", classifier):
        raise UserError(
            "the stored predictions are another classifier's than the one that is judged: predict "
            "anew, with --from-nodes=MODEL.predict_test_set"
        )


def _check_calibration(calibration: dict[str, Any], classifier: str) -> None:
    if calibration.get("classifier", "") not in ("", classifier):
        raise UserError(
            "the stored calibration is another classifier's than the one that is judged: predict "
            "anew, with --from-nodes=MODEL.predict_validation_set"
        )


def _check_seen(predictions: Predictions, test_set: ImageSet) -> None:
    """Refuse predictions of other images; those of earlier releases don't say of which."""
    images_differ = predictions.image_set not in ("", test_set.digest())
    if images_differ or not predictions.labels.equal(test_set.labels):
        raise UserError(
            "the stored predictions are of other test images than those of now: predict anew, with "
            "--from-nodes=MODEL.predict_test_set"
        )


def tabulate_classes(predictions: Predictions) -> DataFrame:
    """Tabulate precision, recall and F1 of every class and what it is mistaken for."""
    from cifar100_transfer.evaluation.metrics import per_class_table

    return per_class_table(predictions)


def list_confused_pairs(predictions: Predictions) -> DataFrame:
    """List the most frequent mistakes."""
    from cifar100_transfer.evaluation.metrics import most_confused_pairs

    return most_confused_pairs(predictions, _CONFUSED_PAIRS)


def draw_confusion_matrix(predictions: Predictions, *, model: str) -> Figure:
    """Draw which classes are taken for which."""
    from cifar100_transfer.evaluation import figures

    return figures.confusion_matrix(predictions, f"Test set confusion: {model}")


def draw_coarse_confusion_matrix(predictions: Predictions, *, model: str) -> Figure:
    """Draw which coarse classes are taken for which, in percent."""
    from cifar100_transfer.evaluation import figures

    return figures.coarse_confusion_matrix(predictions, f"Coarse confusion: {model}")


def draw_reliability_diagram(
    predictions: Predictions, calibration: dict[str, Any], *, model: str
) -> Figure:
    """Draw how far confidence can be believed, before and after temperature scaling."""
    from cifar100_transfer.evaluation import figures

    if predictions.classifier:
        _check_calibration(calibration, predictions.classifier)
    return figures.reliability_diagram(
        predictions, f"Reliability: {model}", calibration["temperature"]
    )


def draw_per_class_accuracy(predictions: Predictions, *, model: str) -> Figure:
    """Draw the accuracy on every class."""
    from cifar100_transfer.evaluation import figures

    return figures.per_class_accuracy(predictions, f"Accuracy by class: {model}")


def draw_confused_pairs(
    pairs: DataFrame, predictions: Predictions, test_set: ImageSet, *, model: str
) -> Figure:
    """Draw images of the most frequent mistakes."""
    from cifar100_transfer.evaluation import figures

    _check_seen(predictions, test_set)
    title = f"Most confused pairs: {model}"
    return figures.confused_pairs(pairs, predictions, test_set.images, title)


def draw_confident_mistakes(predictions: Predictions, test_set: ImageSet, *, model: str) -> Figure:
    """Draw the mistakes of which the classifier was surest."""
    from cifar100_transfer.evaluation import figures

    _check_seen(predictions, test_set)
    title = f"Most confident mistakes: {model}"
    return figures.confident_mistakes(predictions, test_set.images, title)


def draw_class_activation(
    classifier: Classifier, predictions: Predictions, test_set: ImageSet, *, model: str
) -> Figure:
    """Draw where the evidence for the predicted class lies, on a handful of images."""
    from cifar100_transfer.evaluation import figures
    from cifar100_transfer.evaluation.saliency import grad_cam, surest_examples
    from cifar100_transfer.models import classifier_digest

    _check_said_by(classifier_digest(classifier), predictions)
    _check_seen(predictions, test_set)
    chosen = surest_examples(predictions, _ACTIVATION_IMAGES)
    heat = grad_cam(classifier, test_set.images[chosen], predictions.predicted[chosen])
    title = f"What speaks for the predicted class: {model}"
    return figures.class_activation(predictions, test_set.images, chosen, heat, title)


def write_model_card(
    classifier: Classifier,
    metrics: dict[str, Any],
    summary: dict[str, Any],
    predictions: Predictions,
    *,
    model: str,
) -> str:
    """Write down what the classifier is and what it can do.

    Raises:
        UserError: metrics, summary or predictions are another classifier's.
    """
    from cifar100_transfer.evaluation.metrics import per_class_table
    from cifar100_transfer.evaluation.report import render_model_card
    from cifar100_transfer.models import classifier_digest

    described = classifier_digest(classifier)
    if {part.get("classifier", described) for part in (metrics, summary)} != {described}:
        raise UserError(
            "the stored metrics or training summary are another classifier's than the one that is "
            "described: judge it first, with --from-nodes=MODEL.predict_test_set"
        )
    _check_said_by(described, predictions)
    per_class = per_class_table(predictions)
    return render_model_card(model, asdict(classifier.spec), metrics, summary, per_class)
