"""Metrics of the evaluation, and which images its nodes and the ingestion's see."""

import torch

from cifar100_transfer.data import Predictions
from cifar100_transfer.evaluation.metrics import (
    expected_calibration_error,
    mean_loss,
    wilson_interval,
    with_temperature,
)
from cifar100_transfer.pipeline_registry import MODELS, register_pipelines
from cifar100_transfer.pipelines.evaluation.nodes import compute_metrics


def test_metrics_are_those_at_the_fitted_temperature_and_of_the_validation_images() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(50, 3, generator=generator)
    labels = torch.randint(3, (50,), generator=generator)
    predictions = Predictions(logits, labels, ("a", "b", "c"))
    shares = dict.fromkeys(("train_accuracy", "train_loss", "validation_loss"), 0.5)
    summary = {"validation_images": 20, "validation_accuracy": 0.35, "classifier": "a", **shares}
    metrics = compute_metrics(predictions, {"temperature": 4.0}, summary)
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
