"""One file a run: what it was asked for, on which code, data and machine, and what it took."""

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from cifar100_transfer.storage import atomic_path

from .artifacts import JSONDataset


class RunManifestsDataset(AbstractDataset[dict[str, Any], dict[str, dict[str, Any]]]):
    """A folder of run manifests. Saving writes that of one run, loading gives all of them.

    Args:
        filepath: the folder; it gets `<run>.json`.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, dict[str, Any]]:
        """Return every manifest by its run, oldest first; empty if there are none."""
        return {
            path.stem: JSONDataset(filepath=str(path)).load()
            for path in sorted(self._folder.glob("[!.]*.json"))  # hidden ones are not finished
        }

    def save(self, data: dict[str, Any]) -> None:
        """Write, or write anew, the manifest of the run that it names."""
        text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
        with atomic_path(self._folder / f"{data['run']}.json") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder}
