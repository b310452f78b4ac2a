"""From several trainings to one classifier that is judged and used as any other."""

import json
import logging
from pathlib import Path

import pandas as pd
import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset

from cifar100_transfer import preflight_checks
from cifar100_transfer.config import ComputeConfig, EnsembleConfig
from cifar100_transfer.data import ImageSet, Predictions
from cifar100_transfer.datasets import ImageSetDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import (
    Classifier,
    ClassifierSpec,
    average_classifiers,
    load_classifier,
    mean_log_probabilities,
)
from cifar100_transfer.pipeline_registry import register_pipelines
from cifar100_transfer.pipelines.ensemble.nodes import summarize_members
from tests.pipelines.conftest import Run, newest

TRAINED = ["simple_cnn.classifier", "simple_cnn.training_summary", "validation_set", "test_set"]
TRAINED += ["train_set"]


def seed(number: int) -> dict[str, object]:
    return {"simple_cnn": {"training": {"epochs": 2, "seed": number}}}


def ensemble_of(*models: str) -> dict[str, object]:
    return {"ensemble": {"members": list(models)}}


def test_seeds_of_a_model_become_one_that_is_judged_like_any(
    project: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (0, 1):
        run("simple_cnn", to_outputs=TRAINED, parameters=seed(number))
    with caplog.at_level(logging.INFO):
        run("ensemble", parameters=ensemble_of("simple_cnn"))
    said = [line for line in caplog.messages if line.startswith("member: ")]
    assert [line.split(", of run ")[0] for line in said] == [
        f"member: simple_cnn, seed {number}" for number in (0, 1)
    ]
    data = project / "data" / "sample"
    models, reporting = data / "06_models", data / "08_reporting" / "ensemble"
    ensemble = load_classifier(models / "ensemble" / "classifier.safetensors")
    versions = sorted((models / "simple_cnn" / "classifier.safetensors").iterdir())
    members = [load_classifier(version / "classifier.safetensors") for version in versions]
    test_set = ImageSetDataset(filepath=str(data / "05_model_input/test_set.safetensors")).load()
    images = test_set.images[:20]
    wanted = mean_log_probabilities(member(images) for member in members)
    seen = [one.spec.recipe["validation_images"] for one in (ensemble, *members)]
    assert len(set(seen)) == 1, "or images of another split could choose for it"
    torch.testing.assert_close(ensemble(images), wanted, rtol=1e-4, atol=1e-5)
    summary = json.loads(newest(reporting, "training_summary.json").read_text())
    metrics = json.loads(newest(reporting, "metrics.json").read_text())
    trained = [
        json.loads((data / f"08_reporting/simple_cnn/{name}/{version.name}/{name}").read_text())
        for name in ("training_summary.json",)
        for version in versions
    ]
    assert summary["seconds"] == pytest.approx(sum(one["seconds"] for one in trained))
    assert summary["parameters"] == sum(one["parameters"] for one in trained)
    assert summary["flops"] == sum(one["flops"] for one in trained)
    assert [one["classifier"] for one in summary["recipe"]["members"]] == [
        one["classifier"] for one in trained
    ]
    assert metrics["classifier"] == summary["classifier"]
    assert metrics["validation_accuracy"] == summary["validation_accuracy"]
    assert metrics["train_accuracy"] is None
    card = newest(models / "ensemble", "model_card.md").read_text()
    assert "The mean of the log-probabilities of 2 classifiers" in card
    assert f"| simple_cnn | simple_cnn | 1 | {versions[1].name} |" in card
    assert "rain accuracy" not in card, "nothing was trained"


def test_it_stands_in_the_comparison_beside_what_it_is_made_of(project: Path, run: Run) -> None:
    judged = ["simple_cnn.metrics", "simple_cnn.predictions", "class_counts", "sample_grid"]
    run("simple_cnn", to_outputs=[*TRAINED, *judged])
    run("ensemble", parameters=ensemble_of("simple_cnn"))
    run("comparison")
    reporting = project / "data" / "sample" / "08_reporting"
    rows = pd.read_csv(newest(reporting, "comparison.csv")).set_index("model")
    assert rows["train_accuracy"].isna().to_dict() == {"ensemble": True, "simple_cnn": False}
    counts = pd.read_csv(newest(reporting, "comparison.csv"), dtype=str).set_index("model")
    assert counts["epochs"]["simple_cnn"] == "2", "a number of epochs, though the ensemble has none"
    assert rows["test_accuracy"].nunique() == 1, "it has one member and says what that one says"
    page = newest(reporting, "report.html").read_text()
    assert "<td>the mean of simple_cnn (seed 0)</td>" in page
    assert "ensemble" not in page.split('id="overfitting"')[1].split('id="calibration"')[0]
    for odd in (">nan", "None", "{}"):
        assert odd not in page


def test_one_member_alone_is_warned_of(
    project: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run("simple_cnn", to_outputs=TRAINED)
    run("ensemble", to_nodes=["ensemble.average_members"], parameters=ensemble_of("simple_cnn"))
    assert "one member" in caplog.text
    assert "--params=simple_cnn.training.seed=1" in caplog.text


def test_a_model_that_is_not_stored_stops_the_run_before_it_starts(project: Path, run: Run) -> None:
    with pytest.raises(UserError, match=r"ensemble.members: .*'resnet50' is stored"):
        run("ensemble", env="local", parameters=ensemble_of("resnet50"))
    assert not list((project / "data").glob("**/*.safetensors"))


def test_on_the_embedded_data_members_are_trained_first(project: Path, run: Run) -> None:
    run(
        "robustness",
        namespaces=["ensemble"],
        to_nodes=["ensemble.choose_adaptation"],
        parameters=ensemble_of("simple_cnn") | {"robustness": {"methods": ["plain"]}},
    )
    models = project / "data" / "sample" / "06_models"
    assert sorted(path.name for path in models.iterdir()) == ["ensemble", "simple_cnn"]
    with pytest.raises(UserError, match=r"'simple_cn' is stored .*; there is simple_cnn$"):
        run("ensemble", parameters=ensemble_of("simple_cn"))


def test_what_this_run_trains_is_no_member_yet(run: Run) -> None:
    both = register_pipelines()["ensemble"] + register_pipelines()["simple_cnn"]
    settings = MemoryDataset({"members": ["simple_cnn"]})
    catalog = DataCatalog({"params:ensemble": settings})
    with pytest.raises(UserError, match="'simple_cnn' is trained by this very run"):
        preflight_checks._check_members(both, catalog)


def test_an_ensemble_is_no_member_of_itself() -> None:
    catalog = DataCatalog({"params:ensemble": MemoryDataset({"members": ["ensemble"]})})
    with pytest.raises(UserError, match="'ensemble' is an ensemble itself: name its members"):
        preflight_checks._check_members(register_pipelines()["ensemble"], catalog)


def test_members_that_were_validated_on_other_images_are_refused(project: Path, run: Run) -> None:
    run("simple_cnn", to_outputs=TRAINED)
    split = {"split": {"validation_share": 0.2, "seed": 1}}
    run("ingestion", to_outputs=["train_set", "validation_set", "test_set"], parameters=split)
    with pytest.raises(UserError, match=r"simple_cnn, seed 0, run 2.*: .* another split"):
        run("ensemble", parameters=ensemble_of("simple_cnn"))
    assert not (project / "data" / "sample" / "06_models" / "ensemble").exists()


def test_no_model_is_named_twice() -> None:
    with pytest.raises(ValueError, match="a: name every model once"):
        EnsembleConfig(members=("a", "b", "a"))
    with pytest.raises(ValueError, match="at least 1"):
        EnsembleConfig(members=())


def test_the_time_of_an_ensemble_is_unknown_where_that_of_a_member_is(image_set: ImageSet) -> None:
    spec = ClassifierSpec("simple_cnn", image_set.class_names, (0.5,) * 3, (0.2,) * 3, (12, 12))
    said = Predictions(torch.eye(6), torch.arange(6), image_set.class_names)
    for seconds, total in (([1.0, 2.0], 3.0), ([1.0, None], None)):
        recipe = {"members": [{"seconds": one} for one in seconds]}
        ensemble = average_classifiers([Classifier(spec)] * 2, recipe)
        summary = summarize_members(ensemble, said, ComputeConfig(device="cpu"))
        assert (summary["seconds"], summary["device"]) == (total, "cpu")
