"""The robustness pipelines on the embedded data, and what they let choose."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from cifar100_transfer.config import ComputeConfig, RobustnessConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.data.corruptions import CORRUPTIONS
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation.robustness import measure_robustness
from cifar100_transfer.models import Classifier, ClassifierSpec
from cifar100_transfer.pipeline_registry import ENSEMBLE, MODELS, register_pipelines
from cifar100_transfer.pipelines.evaluation.nodes import predict_validation_set
from cifar100_transfer.pipelines.robustness import create_pipeline
from cifar100_transfer.pipelines.robustness.nodes import (
    choose_adaptation,
    measure_on_test,
    measure_on_validation,
)
from tests.pipelines.conftest import Run, newest

FEW = {"robustness": {"images": 4}}


@pytest.fixture(autouse=True)
def quick_corruptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Darken instead of corrupting: what the corruptions do is tested elsewhere."""

    def darken(images: Tensor, corruption: str, severity: int, seed: int) -> Tensor:
        return images // (severity + len(corruption) % 3)

    monkeypatch.setattr("cifar100_transfer.evaluation.robustness.corrupt", darken)


def test_one_model_is_judged_on_both_sets(
    project: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    # The smallest network with batch normalisation: 95 corruptions are judged four times.
    model = {"architecture": "wrn_10_1", "zero_init_residual": False}
    small = {**FEW, "resnet50": {"model": model, "training": {"epochs": 1}}}
    run("resnet50", to_outputs=["resnet50.metrics"], parameters=small)
    methods = ["plain", "batch_norm"]
    with caplog.at_level("INFO"):
        run("robustness", namespaces=["resnet50"], parameters=small)
    said = [record.getMessage() for record in caplog.records if "robustness" in record.name]
    assert len(said) == 3 * len(CORRUPTIONS) + len(methods)
    assert all(line.startswith("resnet50, ") for line in said)
    reporting = project / "data" / "sample" / "08_reporting"
    table = pd.read_csv(newest(reporting / "resnet50", "robustness.csv"))
    assert table.groupby(["set", "method"]).size().to_dict() == {
        (part, method): 95 for part in ("validation", "test") for method in methods
    }
    summary = json.loads(newest(reporting / "resnet50", "robustness_summary.json").read_text())
    training = json.loads(newest(reporting / "resnet50", "training_summary.json").read_text())
    assert summary["classifiers"] == [training["classifier"]], "which the comparison pairs them by"
    metrics = json.loads(newest(reporting / "resnet50", "metrics.json").read_text())
    assert (summary["test_set"], summary["seed"]) == (metrics["test_set"], 0), "and these images"
    candidates = summary["adaptation"]["candidates"]
    chosen = summary["adaptation"]["source_weight"]
    assert set(candidates) == {"0.0", "0.5"}
    assert candidates[str(chosen)] == max(candidates.values())
    for method in methods:
        own = table[(table["set"] == "test") & (table["method"] == method)]
        figures = summary["methods"][method]["test"]
        assert abs(figures["mean_corruption_accuracy"] - own["accuracy"].mean()) < 1e-12
        assert summary["methods"][method]["transductive"] == method.startswith("batch_norm")
    assert (
        candidates[str(chosen)]
        == (summary["methods"]["batch_norm"]["validation"]["mean_corruption_accuracy"])
    )
    heat_map = newest(reporting / "resnet50", "robustness_heat_map.png")
    assert heat_map.read_bytes().startswith(b"\x89PNG")
    assert not (reporting / "transfer").exists()


def test_a_model_without_batch_norm_has_no_such_row(project: Path, run: Run) -> None:
    run("simple_cnn", to_outputs=["simple_cnn.metrics"])
    run("robustness", namespaces=["simple_cnn"], parameters=FEW)
    reporting = project / "data" / "sample" / "08_reporting" / "simple_cnn"
    summary = json.loads(newest(reporting, "robustness_summary.json").read_text())
    assert set(summary["methods"]) == {"plain"}
    assert summary["adaptation"] == {"source_weight": None, "candidates": {}}


def test_validation_images_of_another_split_are_refused(project: Path, run: Run) -> None:
    run("simple_cnn", to_outputs=["simple_cnn.metrics"])
    sets = ["train_set", "validation_set", "test_set"]
    run("ingestion", to_outputs=sets, parameters={"split": {"validation_share": 0.2, "seed": 1}})
    for arguments in (
        {"pipeline": "robustness", "parameters": FEW, "namespaces": ["simple_cnn"]},
        {"pipeline": "simple_cnn", "node_names": ["simple_cnn.predict_validation_set"]},
    ):
        with pytest.raises(UserError, match=r"another split than .* \(simple_cnn\), .* ingestion"):
            run(**arguments)
    run("ingestion", to_outputs=sets)
    judging = ["simple_cnn.measure_on_validation"]
    run("robustness", parameters=FEW, namespaces=["simple_cnn"], to_nodes=judging)


@pytest.mark.parametrize(
    "node",
    [
        lambda images, *rest: choose_adaptation(images, *rest, model="m"),
        lambda images, *rest: measure_on_validation(
            images, {"source_weight": None}, *rest, model="m"
        ),
        lambda images, _, *rest: predict_validation_set(rest[1], images, rest[0]),
    ],
    ids=["choose", "measure", "predict"],
)
def test_every_node_that_takes_validation_images_asks_whose_they_are(
    image_set: ImageSet, node: Callable[..., Any]
) -> None:
    spec = ClassifierSpec("simple_cnn", image_set.class_names, (0.5,) * 3, (0.2,) * 3, (12, 12))

    def run_with(**changes: Any) -> Any:
        settings = RobustnessConfig(images=4), ComputeConfig(device="cpu")
        return node(image_set, *settings, Classifier(replace(spec, **changes)).eval())

    run_with(recipe={"validation_images": image_set.digest()})
    run_with()  # no pipeline trained it
    with pytest.raises(UserError, match="another split"):
        run_with(recipe={"validation_images": "of others"})
    other = tuple(f"not {name}" for name in image_set.class_names)
    with pytest.raises(UserError, match="other classes"):
        run_with(recipe={"validation_images": "of others"}, class_names=other)


def test_choosing_never_sees_test_images() -> None:
    registered = register_pipelines()
    for model in (*MODELS, ENSEMBLE):
        choosing = registered["robustness"].to_outputs(f"{model}.adaptation")
        assert "validation_set" in choosing.inputs()
        assert "test_set" not in choosing.inputs()
        validation = registered["robustness"].to_outputs(f"{model}.validation_robustness")
        assert "test_set" not in validation.inputs()


def test_the_heat_map_is_titled_by_the_model(image_set: ImageSet) -> None:
    nodes = create_pipeline("transfer").nodes
    (draw,) = (node for node in nodes if node.name == "transfer.draw_robustness_heat_map")
    predictors = {"plain": lambda images: torch.zeros(len(images), 6)}
    figure = draw.func(measure_robustness(predictors, image_set, "test", 0))
    assert figure.get_suptitle() == "Accuracy on corrupted images: transfer"


def test_a_single_mixing_weight_is_taken_without_a_look_at_images(image_set: ImageSet) -> None:
    spec = ClassifierSpec("resnet18", image_set.class_names, (0.5,) * 3, (0.2,) * 3, (12, 12))
    settings = RobustnessConfig(source_weights=(0.25,)), ComputeConfig(device="cpu")
    none = replace(image_set, images=image_set.images[:0], labels=image_set.labels[:0])
    chosen = choose_adaptation(none, *settings, Classifier(spec), model="one")
    assert chosen == {"source_weight": 0.25, "candidates": {}}


def test_the_corruptions_are_drawn_without_a_model(project: Path, run: Run) -> None:
    run("ingestion")
    run("robustness", node_names=["draw_corruption_grid"])
    grid = newest(project / "data" / "sample" / "08_reporting", "corruption_grid.png")
    assert grid.read_bytes().startswith(b"\x89PNG")


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
