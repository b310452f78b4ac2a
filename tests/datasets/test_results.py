"""The collection of all models' results."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from kedro.io import DatasetError, Version

from cifar100_transfer.data import Predictions
from cifar100_transfer.datasets import (
    FigureDataset,
    JSONDataset,
    PredictionsDataset,
    ResultsDataset,
    RunManifestsDataset,
    TableDataset,
)

REPORTING = "08_reporting"


def store_json(path: Path, version: str, values: dict[str, Any]) -> None:
    JSONDataset(filepath=str(path), version=Version(None, version)).save(values)


def store(folder: Path, version: str, accuracy: float, **metrics: str) -> None:
    store_json(folder / "metrics.json", version, {"test_accuracy": accuracy, **metrics})
    summary = {"epochs": version, "classifier": f"of {version}"}
    store_json(folder / "training_summary.json", version, summary)
    history = TableDataset(filepath=str(folder / "history.csv"), version=Version(None, version))
    history.save(pd.DataFrame({"epoch": [1, 2]}))


def store_predictions(root: Path, model: str, version: str, scale: float) -> None:
    PredictionsDataset(
        filepath=str(root / "07_model_output" / model / "predictions.safetensors"),
        version=Version(None, version),
    ).save(Predictions(scale * torch.eye(2), torch.tensor([0, 1]), ("x", "y")))


def results_in(folder: Path) -> list[Any]:
    return ResultsDataset(filepath=str(folder)).load()


def test_every_run_of_complete_models_is_found_oldest_first(tmp_path: Path) -> None:
    store(tmp_path / REPORTING / "b", "2024-01-02", 0.2)
    store(tmp_path / REPORTING / "b", "2024-01-01", 0.1)
    store(tmp_path / REPORTING / "a", "2024-01-01", 0.3)
    # Trained but not yet judged; a stray file; a folder of something else.
    store_json(tmp_path / REPORTING / "c" / "training_summary.json", "2024-01-01", {"epochs": 1})
    (tmp_path / REPORTING / "report.html").write_text("stray")
    (tmp_path / REPORTING / "empty").mkdir()

    results = results_in(tmp_path)

    assert [(r["model"], r["run"], r["metrics"]["test_accuracy"]) for r in results] == [
        ("a", "2024-01-01", 0.3),
        ("b", "2024-01-01", 0.1),
        ("b", "2024-01-02", 0.2),
    ]
    assert [r["summary"]["epochs"] for r in results] == ["2024-01-01", "2024-01-01", "2024-01-02"]
    assert results[0]["history"]["epoch"].tolist() == [1, 2]
    assert results[0]["manifest"] is results[0]["robustness"] is results[0]["predictions"] is None
    assert results[0]["search"] is None
    assert results[0]["pictures"] == {}


def test_an_ensemble_has_no_history_and_a_training_without_one_is_left_out(tmp_path: Path) -> None:
    for model in ("ensemble", "lost"):
        store(tmp_path / REPORTING / model, "2024-01-01", 0.1)
        (tmp_path / REPORTING / model / "history.csv" / "2024-01-01" / "history.csv").unlink()
    (stored,) = (tmp_path / REPORTING / "ensemble").glob("training_summary.json/*/*.json")
    stored.write_text('{"epochs": null, "classifier": "of 2024-01-01"}')
    (found,) = results_in(tmp_path)
    assert found["model"] == "ensemble"
    assert found["history"] is None
    assert found["metrics"] == {"test_accuracy": 0.1}


def test_a_model_judged_anew_keeps_its_training_and_its_predictions(tmp_path: Path) -> None:
    store(tmp_path / REPORTING / "a", "2024-01-01", 0.1)
    store_predictions(tmp_path, "a", "2024-01-01", scale=1)
    store_json(tmp_path / REPORTING / "a" / "metrics.json", "2024-01-02", {"test_accuracy": 0.2})
    store_predictions(tmp_path, "a", "2024-01-03", scale=3)

    results = results_in(tmp_path)

    assert [(r["run"], r["summary"]["epochs"]) for r in results] == [
        ("2024-01-01", "2024-01-01"),
        ("2024-01-02", "2024-01-01"),
    ]
    for result in results:
        assert torch.equal(result["predictions"]().logits, torch.eye(2))


def test_what_later_runs_add_belongs_to_the_classifier_they_judged(tmp_path: Path) -> None:
    for day in ("01", "03", "05"):
        store(tmp_path / REPORTING / "a", f"2024-01-{day}", 0.1)
    judged = {"02": ["01"], "05": ["05"], "06": ["01"], "07": ["03", "05"]}
    summaries = {
        day: {"day": day, "classifiers": [f"of 2024-01-{run}" for run in runs], "methods": {}}
        for day, runs in judged.items()
    }
    for day, summary in summaries.items():
        path = tmp_path / REPORTING / "a" / "robustness_summary.json"
        store_json(path, f"2024-01-{day}", summary)
        heat_map = tmp_path / REPORTING / "a" / "robustness_heat_map.png"
        FigureDataset(filepath=str(heat_map), version=Version(None, f"2024-01-{day}")).save(
            day.encode()
        )
    store_json(tmp_path / REPORTING / "a" / "search_summary.json", "2023-12-31", {"study": "s"})

    results = results_in(tmp_path)

    assert [r["robustness"] for r in results] == [summaries["06"], None, summaries["05"]]
    shown = [r["pictures"].get("robustness_heat_map") for r in results]
    assert [path and path.read_bytes() for path in shown] == [b"06", None, b"05"]
    assert results[0]["search"] == {"study": "s"}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ({}, {"plain": 1, "tta": 2}),
        ({"seed": 1}, {"tta": 2}),
        ({"test_images": 20}, {"tta": 2}),
        ({"methods": {"plain": 1, "tta": 1}}, {"plain": 1, "tta": 2}),
    ],
)
def test_methods_that_were_measured_one_by_one_stand_together(
    tmp_path: Path, first: dict[str, Any], expected: dict[str, int]
) -> None:
    store(tmp_path / REPORTING / "a", "2024-01-01", 0.1)
    path = tmp_path / REPORTING / "a" / "robustness_summary.json"
    alike = {"classifiers": ["of 2024-01-01"], "seed": 0, "test_images": 10}
    store_json(path, "2024-01-02", {**alike, "methods": {"plain": 1}, **first})
    store_json(path, "2024-01-03", {**alike, "methods": {"tta": 2}})
    (result,) = results_in(tmp_path)
    assert result["robustness"] == {**alike, "methods": expected}


def test_a_judgement_of_other_test_images_does_not_stand_beside_the_metrics(tmp_path: Path) -> None:
    folder = tmp_path / REPORTING / "a"
    store(folder, "2024-01-01", 0.1, test_set="now")
    for day, test_set in (("02", "now"), ("03", "before")):
        summary = {"classifiers": ["of 2024-01-01"], "test_set": test_set, "methods": {}}
        store_json(folder / "robustness_summary.json", f"2024-01-{day}", summary)
    (result,) = results_in(tmp_path)
    assert result["robustness"]["test_set"] == "now"


def test_manifest_predictions_and_pictures_stand_beside_a_run(tmp_path: Path) -> None:
    run = "2024-01-01"
    store(tmp_path / REPORTING / "a", run, 0.1)
    RunManifestsDataset(filepath=str(tmp_path / REPORTING / "runs")).save({"run": run, "git": None})
    store_predictions(tmp_path, "a", run, scale=1)
    picture = tmp_path / REPORTING / "a" / "learning_curves.png"
    FigureDataset(filepath=str(picture), version=Version(None, run)).save(b"png")

    (result,) = results_in(tmp_path)

    assert result["manifest"] == {"run": run, "git": None}
    assert torch.equal(result["predictions"]().logits, torch.eye(2))
    assert result["pictures"]["learning_curves"].read_bytes() == b"png"


def test_without_results_there_are_none(tmp_path: Path) -> None:
    assert results_in(tmp_path / "missing") == []


def test_results_are_never_written(tmp_path: Path) -> None:
    dataset = ResultsDataset(filepath=str(tmp_path), metadata={})
    assert str(tmp_path) in str(dataset)
    with pytest.raises(DatasetError, match="never written"):
        dataset.save([])


def test_a_manifest_is_written_anew_under_its_run(tmp_path: Path) -> None:
    manifests = RunManifestsDataset(filepath=str(tmp_path / "runs"))
    assert manifests.load() == {}
    manifests.save({"run": "2", "status": "running"})
    manifests.save({"run": "1", "where": tmp_path})
    manifests.save({"run": "2", "status": "finished"})

    assert manifests.load() == {
        "1": {"run": "1", "where": str(tmp_path)},
        "2": {"run": "2", "status": "finished"},
    }
    assert str(tmp_path) in str(manifests)


def test_metrics_stand_beside_the_training_of_the_classifier_they_judge(tmp_path: Path) -> None:
    folder = tmp_path / REPORTING / "a"
    store(folder, "2024-01-01", 0.1)
    # Judged anew, while a training that began before goes on, and ends later.
    judged = {"test_accuracy": 0.1, "classifier": "of 2024-01-01"}
    store_json(folder / "metrics.json", "2024-01-03", judged)
    store(folder, "2024-01-02", 0.2)

    results = results_in(tmp_path)

    assert [(r["run"], r["summary"]["epochs"]) for r in results] == [
        ("2024-01-01", "2024-01-01"),
        ("2024-01-02", "2024-01-02"),
        ("2024-01-03", "2024-01-01"),
    ]


def test_a_manifest_that_is_being_written_is_none_yet(tmp_path: Path) -> None:
    manifests = RunManifestsDataset(filepath=str(tmp_path))
    manifests.save({"run": "2024-01-01"})
    (tmp_path / ".2024-01-02-x1y2.json").touch()
    assert list(manifests.load()) == ["2024-01-01"]
