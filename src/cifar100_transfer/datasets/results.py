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
# What tells which images a judgement is of, and how they were corrupted.
_JUDGED_ON = ("test_set", "seed", "test_images", "validation_images")
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
        there by then. `robustness`, which later runs add, is the newest that judged the very
        classifier, with the methods that earlier ones measured on the same images; `search` is the
        newest of all. `predictions` are loaded when called. An ensemble has no `history`.
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
            judged = [
                one
                for one in judgements.get(summary.get("classifier"), [])
                if _may_be_of(metrics.get("test_set"), one[1])
            ]
            for name in names & _ADDED_LATER:
                pictures[name] = _of_run(folder / name, judged[-1][0]) if judged else None
            found.append(
                ModelResults(
                    model=folder.name,
                    run=run,
                    metrics=metrics,
                    summary=summary,
                    history=TableDataset(filepath=str(history)).load() if history else None,
                    robustness=_with_earlier_methods([one for _, one in judged]),
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


def _judgements(folder: Path) -> dict[str | None, list[tuple[str, dict[str, Any]]]]:
    """Return by classifier the runs that judged it, and it alone, on corrupted images.

    Each with its summary, the newest last.
    """
    found: dict[str | None, list[tuple[str, dict[str, Any]]]] = {}
    for path in sorted(folder.glob(f"{_ROBUSTNESS}/*/{_ROBUSTNESS}")):
        summary = _numbers(path)
        judged = summary.get("classifiers", [])
        if len(judged) == 1:
            found.setdefault(judged[0], []).append((path.parent.name, summary))
    return found


def _may_be_of(test_set: str | None, judgement: dict[str, Any]) -> bool:
    """Whether a judgement is of these test images; those of earlier releases don't say."""
    return None in (test_set, judgement.get("test_set")) or test_set == judgement["test_set"]


def _with_earlier_methods(summaries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the newest of a classifier's judgements, with all methods measured on its images."""
    if not summaries:
        return None
    newest = summaries[-1]
    alike = [
        one for one in summaries if all(one.get(name) == newest.get(name) for name in _JUDGED_ON)
    ]
    methods = {method: value for one in alike for method, value in one["methods"].items()}
    return {**newest, "methods": methods}


def _read(path: Path | None) -> dict[str, Any] | None:
    return _numbers(path) if path else None


def _numbers(path: Path) -> dict[str, Any]:
    return JSONDataset(filepath=str(path)).load()


def _load_predictions(path: Path) -> "Predictions":
    from .tensors import PredictionsDataset

    return PredictionsDataset(filepath=str(path)).load()
