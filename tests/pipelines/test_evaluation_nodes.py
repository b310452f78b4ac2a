"""Metrics of the evaluation, and which images its nodes and the ingestion's see."""

from functools import partial

import pytest
import torch

from cifar100_transfer.config import ModelConfig, TrainingConfig
from cifar100_transfer.data import ImageSet, Predictions, channel_statistics
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation.metrics import (
    expected_calibration_error,
    mean_loss,
    wilson_interval,
    with_temperature,
)
from cifar100_transfer.evaluation.prediction import predict
from cifar100_transfer.models import Classifier, classifier_digest
from cifar100_transfer.pipeline_registry import MODELS, register_pipelines
from cifar100_transfer.pipelines.evaluation.nodes import (
    compute_metrics,
    draw_class_activation,
    draw_confident_mistakes,
    draw_confused_pairs,
    draw_reliability_diagram,
    fit_calibration,
    list_confused_pairs,
    write_model_card,
)
from cifar100_transfer.training import build_classifier
from tests.conftest import random_image_set


def build(images: ImageSet, seed: int) -> Classifier:
    return build_classifier(
        images,
        vars(channel_statistics(images.images)),
        ModelConfig(architecture="simple_cnn"),
        TrainingConfig(seed=seed),
    )


def test_a_summary_of_another_training_is_refused() -> None:
    images = random_image_set(classes=2, per_class=2, size=8)
    judged, other = build(images, seed=0), build(images, seed=1)
    summary = {"classifier": classifier_digest(other)}
    with pytest.raises(UserError, match="not that of the classifier which is judged"):
        compute_metrics(predict(judged, images), {"temperature": 1.0}, summary, judged, images)


@pytest.mark.parametrize("labels", ["others", "the same"])
def test_predictions_of_other_images_are_refused(labels: str) -> None:
    images = random_image_set(classes=2, per_class=2, size=8)
    others = images.with_images(255 - images.images)
    if labels == "others":
        others = images.subset(torch.tensor([3, 2, 1, 0]))
    classifier = build(images, seed=0)
    summary = {"classifier": classifier_digest(classifier)}
    predictions = predict(classifier, others)
    with pytest.raises(UserError, match="predictions are of other test images than those of now"):
        compute_metrics(predictions, {"temperature": 1.0}, summary, classifier, images)


def test_what_another_classifier_said_is_refused() -> None:
    images = random_image_set(classes=2, per_class=2, size=8)
    judged, other = build(images, seed=0), build(images, seed=1)
    own, others = predict(judged, images), predict(other, images)
    summary = {"classifier": classifier_digest(judged)}
    with pytest.raises(UserError, match=r"predictions are another .* --from-nodes=MODEL.predict_t"):
        compute_metrics(others, fit_calibration(own), summary, judged, images)
    with pytest.raises(UserError, match=r"calibration is another .* --from-nodes=MODEL.predict_v"):
        compute_metrics(own, fit_calibration(others), summary, judged, images)


def test_figures_and_card_are_of_one_classifier_and_its_images() -> None:
    images = random_image_set(classes=2, per_class=2, size=8)
    judged, other = build(images, seed=0), build(images, seed=1)
    own, others = predict(judged, images), predict(other, images)
    elsewhere = images.with_images(255 - images.images)
    pairs = list_confused_pairs(own)
    digests = {"classifier": classifier_digest(judged)}, {"classifier": classifier_digest(other)}
    for draw in (
        partial(draw_reliability_diagram, own, fit_calibration(others)),
        partial(draw_class_activation, judged, others, images),
        partial(write_model_card, judged, *digests, own),
        partial(write_model_card, judged, *digests[::-1], own),
        partial(write_model_card, judged, digests[0], digests[0], others),
    ):
        with pytest.raises(UserError, match="another classifier's"):
            draw(model="m")
    for draw in (
        partial(draw_class_activation, judged, own, elsewhere),
        partial(draw_confused_pairs, pairs, own, elsewhere),
        partial(draw_confident_mistakes, own, elsewhere),
    ):
        with pytest.raises(UserError, match="of other test images"):
            draw(model="m")


def test_metrics_are_those_at_the_fitted_temperature_and_of_the_validation_images() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(51, 3, generator=generator)
    images = random_image_set(classes=3, per_class=17, size=8)
    predictions = Predictions(logits, images.labels, ("a", "b", "c"))
    classifier = build(images, seed=0)
    shares = dict.fromkeys(("train_accuracy", "train_loss", "validation_loss"), 0.5)
    digest = classifier_digest(classifier)
    summary = {"validation_images": 20, "validation_accuracy": 0.35, "classifier": digest, **shares}
    metrics = compute_metrics(predictions, {"temperature": 4.0}, summary, classifier, images)
    assert (metrics["classifier"], metrics["test_set"]) == (digest, images.digest())
    scaled = with_temperature(predictions, 4.0)
    assert metrics["test_ece_calibrated"] == expected_calibration_error(scaled)
    assert metrics["test_ece"] == expected_calibration_error(predictions)
    assert metrics["test_loss_calibrated"] == mean_loss(scaled)
    interval = metrics["validation_accuracy_low"], metrics["validation_accuracy_high"]
    assert interval == wilson_interval(7, 20)


def test_calibration_never_sees_test_images() -> None:
    registered = register_pipelines()
    for model in MODELS:
        fitting = registered[model].only_nodes(f"{model}.fit_calibration")
        assert fitting.inputs() == {f"{model}.validation_predictions"}
        judging = registered[model].only_nodes(f"{model}.predict_validation_set")
        assert "test_set" not in judging.inputs()


def test_statistics_are_those_of_training_images_alone() -> None:
    ingestion = register_pipelines()["ingestion"]
    assert ingestion.only_nodes("compute_normalization").inputs() == {"train_set"}
