"""All results that stand in the reporting folder, whichever run made them."""

from pathlib import Path
from typing import Any, NoReturn, TypedDict

import pandas as pd
from kedro.io import AbstractDataset

from cifar100_transfer.errors import UserError

from .artifacts import JSONDataset, TableDataset


class ModelResults(TypedDict):
    """The newest results of one model."""

    model: str
    run: str
    metrics: dict[str, float]
    summary: dict[str, Any]
    history: pd.DataFrame


class ResultsDataset(AbstractDataset[NoReturn, list[ModelResults]]):
    """Metrics, training summary and history of every model that has all three.

    Args:
        filepath: the reporting folder, with one subfolder a model.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> list[ModelResults]:
        """Return the newest results of every model, sorted by name; empty if there are none."""
        found = []
        for folder in sorted(self._folder.glob("*/")):
            files = [
                _newest(folder / name)
                for name in ("metrics.json", "training_summary.json", "history.csv")
            ]
            if all(files):
                metrics, summary, history = (file for file in files if file)
                found.append(
                    ModelResults(
                        model=folder.name,
                        run=metrics.parent.name,
                        metrics=JSONDataset(filepath=str(metrics)).load(),
                        summary=JSONDataset(filepath=str(summary)).load(),
                        history=TableDataset(filepath=str(history)).load(),
                    )
                )
        return found

    def save(self, data: NoReturn) -> None:
        """Refuse: results are made by the models' own pipelines."""
        raise UserError(f"{self._folder}: results are read here, never written")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder}


def _newest(path: Path) -> Path | None:
    """Return the newest of Kedro's versions of a file, if there is any."""
    return max(path.glob(f"*/{path.name}"), default=None)
