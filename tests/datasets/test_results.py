"""The collection of all models' results."""

from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError, Version

from cifar100_transfer.datasets import JSONDataset, ResultsDataset, TableDataset


def store(folder: Path, version: str, accuracy: float) -> None:
    for name, values in (
        ("metrics.json", {"test_accuracy": accuracy}),
        ("training_summary.json", {"epochs": 2}),
    ):
        JSONDataset(filepath=str(folder / name), version=Version(None, version)).save(values)
    history = TableDataset(filepath=str(folder / "history.csv"), version=Version(None, version))
    history.save(pd.DataFrame({"epoch": [1, 2]}))


def test_the_newest_results_of_complete_models_are_found(tmp_path: Path) -> None:
    store(tmp_path / "b", "2024-01-02", 0.2)
    store(tmp_path / "b", "2024-01-01", 0.1)
    store(tmp_path / "a", "2024-01-01", 0.3)
    # Trained but not yet judged; a stray file; a folder of something else.
    summary = tmp_path / "c" / "training_summary.json"
    JSONDataset(filepath=str(summary), version=Version(None, "1")).save({"epochs": 1})
    (tmp_path / "report.html").write_text("stray")
    (tmp_path / "empty").mkdir()
    results = ResultsDataset(filepath=str(tmp_path)).load()
    assert [(r["model"], r["run"], r["metrics"]["test_accuracy"]) for r in results] == [
        ("a", "2024-01-01", 0.3),
        ("b", "2024-01-02", 0.2),
    ]
    assert results[0]["summary"] == {"epochs": 2}
    assert results[0]["history"]["epoch"].tolist() == [1, 2]


def test_without_results_there_are_none(tmp_path: Path) -> None:
    assert ResultsDataset(filepath=str(tmp_path / "missing")).load() == []


def test_results_are_never_written(tmp_path: Path) -> None:
    dataset = ResultsDataset(filepath=str(tmp_path), metadata={})
    assert str(tmp_path) in str(dataset)
    with pytest.raises(DatasetError, match="never written"):
        dataset.save([])
