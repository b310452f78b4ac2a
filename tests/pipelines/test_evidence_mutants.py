"""Comparison, calibration and robustness: changes of the code that no other test had noticed."""

from typing import Any

import pytest
import torch

from cifar100_transfer.config import ComparisonConfig, ComputeConfig, RobustnessConfig
from cifar100_transfer.data import ImageSet, Predictions
from cifar100_transfer.evaluation.metrics import (
    expected_calibration_error,
    mean_loss,
    wilson_interval,
    with_temperature,
)
from cifar100_transfer.models import Classifier, ClassifierSpec
from cifar100_transfer.pipeline_registry import MODELS, register_pipelines
from cifar100_transfer.pipelines.comparison.nodes import compare_models, compare_pairs
from cifar100_transfer.pipelines.evaluation.nodes import compute_metrics
from cifar100_transfer.pipelines.robustness.nodes import measure_on_test, measure_on_validation
from tests.pipelines.test_comparison_nodes import RUN, result, table


def judged(model: str, accuracy: float, run: str = RUN, newest: bool = True) -> dict[str, Any]:
    parts = {"test": accuracy / 2, "validation": 0.0}
    plain = {part: {"mean_corruption_accuracy": share} for part, share in parts.items()}
    metrics = {"train_accuracy": 0.9, "validation_accuracy": 0.6, "test_accuracy": accuracy}
    return {
        **{"model": model, "run": run, "newest": newest, "metrics": metrics, "summary": {}},
        **{"manifest": None, "robustness": {"methods": {"plain": plain}}},
    }


def test_models_stand_by_their_test_accuracy_with_their_gaps() -> None:
    results = [judged("a", 0.25), judged("b", 0.5), judged("b", 0.75, "2023", newest=False)]
    rows = compare_models(results, ComparisonConfig())
    assert rows["model"].tolist() == ["b", "a"]
    assert rows["train_test_gap"].tolist() == pytest.approx([0.4, 0.65])
    assert rows["train_validation_gap"].tolist() == pytest.approx([0.3, 0.3])
    assert rows["validation_test_gap"].tolist() == pytest.approx([0.1, 0.35])
    assert rows["corrupted_accuracy"].tolist() == [0.25, 0.125]
    every = compare_models(results, ComparisonConfig(all_runs=True))
    assert every["test_accuracy"].tolist() == [0.75, 0.5, 0.25]


def test_a_pair_says_which_of_the_two_was_right_more_often() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    said = {"a": [0, 0, 0, 0], "b": [0, 1, 1, 1]}  # two that only a, one that only b got right
    results = [
        result(name, RUN, Predictions(torch.eye(2)[classes], labels, ("x", "y")))
        for name, classes in said.items()
    ]
    (pair,) = compare_pairs(results, table(results)).to_dict("records")
    assert (pair["first"], pair["first_only"], pair["second_only"]) == ("a", 2, 1)
    assert pair["accuracy_difference"] == 0.25


def test_metrics_are_those_at_the_fitted_temperature_and_of_the_validation_images() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(50, 3, generator=generator)
    labels = torch.randint(3, (50,), generator=generator)
    predictions = Predictions(logits, labels, ("a", "b", "c"))
    shares = dict.fromkeys(("train_accuracy", "train_loss", "validation_loss"), 0.5)
    summary = {"validation_images": 20, "validation_accuracy": 0.35, **shares}
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


def test_as_many_images_as_asked_are_corrupted_with_the_seed(
    image_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[tuple[int, int]] = set()

    def corrupt(images: torch.Tensor, _: str, __: int, seed: int) -> torch.Tensor:
        asked.add((len(images), seed))
        return images

    monkeypatch.setattr("cifar100_transfer.evaluation.robustness.corrupt", corrupt)
    spec = ClassifierSpec("simple_cnn", image_set.class_names, (0.5,) * 3, (0.2,) * 3, (12, 12))
    settings = RobustnessConfig(images=12, seed=5), ComputeConfig(device="cpu")
    for measure in (measure_on_validation, measure_on_test):
        table, _ = measure(
            image_set, {"source_weight": None}, *settings, Classifier(spec).eval(), model="m"
        )
        assert set(table["images"]) == {12}
    assert asked == {(12, 5)}
