"""Stored results are those of the command that stands beside them."""

import importlib
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.pipelines.conftest import copy_project

RUNS = sorted((ROOT / "docs" / "results" / "runs").glob("*.json"))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script in a project of its own."""
    module = importlib.import_module("results")
    copy_project(tmp_path)
    (tmp_path / "src").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return module


@pytest.fixture
def store_run(tmp_path: Path) -> Callable[[str, str], None]:
    """Store a manifest and metrics as a run does."""

    def store(version: str, model: str) -> None:
        reports = tmp_path / "data" / "sample" / "08_reporting"
        manifest = {"run": version, "status": "running", "process": 0}
        metrics = reports / model / "metrics.json" / version / "metrics.json"
        for file, content in (
            (reports / "runs" / f"{version}.json", manifest),
            (metrics, {"test_accuracy": 0.5}),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content))

    return store


def test_what_runs_beside_it_made_is_not_stored(
    results: ModuleType,
    store_run: Callable[[str, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_alone = subprocess.Popen

    def start_beside_others(*arguments: Any, **options: Any) -> Any:
        store_run("2020-01-02T00.00.00.000Z", "simple_cnn")
        store_run("2099-01-01T00.00.00.000Z", "express")
        return start_alone(*arguments, **options)

    store_run("2020-01-01T00.00.00.000Z", "simple_cnn")
    monkeypatch.setattr(subprocess, "Popen", start_beside_others)
    options = ["--pipelines=simple_cnn", "--env=sample", "--params=simple_cnn.training.epochs=2"]
    options.append("--to-outputs=simple_cnn.metrics")  # no figures
    results.run("tiny", options)
    record = json.loads((tmp_path / "runs" / "tiny.json").read_text())
    assert list(record["models"]) == ["simple_cnn"]
    assert record["models"]["simple_cnn"]["training"]["epochs"] == 2
    assert record["models"]["simple_cnn"]["metrics"].keys() > {"test_accuracy", "test_loss"}


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_stored_figures_are_of_what_the_command_ran(file: Path) -> None:
    record = json.loads(file.read_text())
    options = dict(
        word.split("=", 1) for word in shlex.split(record["command"]) if word.startswith("--")
    )
    pipeline = options.get("--pipelines")
    if pipeline == "robustness":
        assert list(record["models"]) == [options["--namespaces"]]
        assert list(record["models"][options["--namespaces"]]) == ["robustness"]
    elif pipeline:
        assert list(record["models"]) == [pipeline]
