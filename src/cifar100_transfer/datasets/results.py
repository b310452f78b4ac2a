"""All results that stand in the reporting folder, whichever run made them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import pandas as pd

from .artifacts import JSONDataset, TableDataset
from .base import InputDataset
from .manifests import RunManifestsDataset

if TYPE_CHECKING:
    from cifar100_transfer.data import Predictions

_PREDICTIONS = "predictions.safetensors"
_ROBUSTNESS = "robustness_summary.json"
_SUMMARY = "training_summary.json"
_ADDED_LATER = {"robustness_heat_map.png"}
_LAST = "9999"  # after every version, which start with the year


class ModelResults(TypedDict):
    """What one run says about one model."""

    model: str
    run: str
    metrics: dict[str, Any]
    summary: dict[str, Any]
    history: pd.DataFrame | None
    robustness: dict[str, Any] | None
    search: dict[str, Any] | None
    manifest: dict[str, Any] | None
    pictures: dict[str, Path]
    predictions: "Callable[[], Predictions] | None"


class ResultsDataset(InputDataset[list[ModelResults]]):
    """Everything that was stored about every model that has metrics and a summary.

    Args:
        filepath: folder that holds `08_reporting` and `07_model_output`, each with one subfolder
            a model.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def load(self) -> list[ModelResults]:
        """Return all runs of all models, by model and then oldest first; empty if there are none.

        A run is one that stored metrics. Beside them stand the training of the classifier that
        they judge, which may be an earlier run's, and otherwise the newest artifacts that were
        there by then. `robustness`, which a later run adds, is the newest that judged the very
        classifier, `search` the newest of all. `predictions` are loaded when called. An ensemble
        has no `history`.
        """
        reporting = self._path / "08_reporting"
        manifests = RunManifestsDataset(filepath=str(reporting / "runs")).load()
        return [
            results
            for folder in sorted(reporting.glob("*/"))
            for results in self._of_model(folder, manifests)
        ]

    def _of_model(self, folder: Path, manifests: dict[str, dict[str, Any]]) -> list[ModelResults]:
        runs = sorted(path.parent.name for path in folder.glob("metrics.json/*/metrics.json"))
        judgements = _judgements(folder)
        found = []
        for run in runs:
            metrics = _numbers(folder / "metrics.json" / run / "metrics.json")
            trained = _training(folder, metrics.get("classifier"), run)
            if not trained:
                continue
            history = _newest(folder / "history.csv", trained[0])
            if not history and trained[1].get("epochs") is not None:
                continue
            summary = trained[1]
            predictions = _newest(self._path / "07_model_output" / folder.name / _PREDICTIONS, run)
            names = {path.name for path in folder.glob("*.png")}
            pictures = {name: _newest(folder / name, run) for name in sorted(names)}
            judged = judgements.get(summary.get("classifier"))
            for name in names & _ADDED_LATER:
                pictures[name] = _of_run(folder / name, judged)
            found.append(
                ModelResults(
                    model=folder.name,
                    run=run,
                    metrics=metrics,
                    summary=summary,
                    history=TableDataset(filepath=str(history)).load() if history else None,
                    robustness=_read(_of_run(folder / _ROBUSTNESS, judged)),
                    search=_read(_newest(folder / "search_summary.json", _LAST)),
                    manifest=manifests.get(run),
                    pictures={
                        name.removesuffix(".png"): path for name, path in pictures.items() if path
                    },
                    predictions=partial(_load_predictions, predictions) if predictions else None,
                )
            )
        return found


def _newest(path: Path, until: str) -> Path | None:
    """Return the newest of Kedro's versions of a file, at most `until`."""
    versions = [file for file in path.glob(f"*/{path.name}") if file.parent.name <= until]
    return max(versions, default=None)


def _of_run(path: Path, run: str | None) -> Path | None:
    """Return the very version of a file that a run stored, if there is one."""
    file = path / (run or "") / path.name
    return file if run and file.is_file() else None


def _training(
    folder: Path, classifier: str | None, until: str
) -> tuple[str, dict[str, Any]] | None:
    """Return the newest run, at most `until`, that trained a classifier, and its summary.

    Args:
        folder: of the model's reports.
        classifier: its digest. Metrics of earlier releases have none: then the newest of all runs.
        until: the run that judged the classifier.
    """
    versions = {path.parent.name: path for path in folder.glob(f"{_SUMMARY}/*/{_SUMMARY}")}
    for version in sorted((one for one in versions if one <= until), reverse=True):
        summary = _numbers(versions[version])
        if classifier in (None, summary.get("classifier")):
            return version, summary
    return None


def _judgements(folder: Path) -> dict[str | None, str]:
    """Return by classifier the newest run that judged it, and it alone, on corrupted images."""
    found: dict[str | None, str] = {}
    for path in sorted(folder.glob(f"{_ROBUSTNESS}/*/{_ROBUSTNESS}")):
        judged = _numbers(path).get("classifiers", [])
        if len(judged) == 1:
            found[judged[0]] = path.parent.name
    return found


def _read(path: Path | None) -> dict[str, Any] | None:
    return _numbers(path) if path else None


def _numbers(path: Path) -> dict[str, Any]:
    return JSONDataset(filepath=str(path)).load()


def _load_predictions(path: Path) -> "Predictions":
    from .tensors import PredictionsDataset

    return PredictionsDataset(filepath=str(path)).load()
