"""Folders for what a long node keeps of its own, so that a killed run can go on."""

import shutil
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset

from cifar100_transfer.errors import UserError


class FolderDataset(AbstractDataset[NoReturn, Path]):
    """A folder whose path is given to a node. It is cleared when the run has succeeded.

    Args:
        filepath: the folder.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """Return the folder, made if absent."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def save(self, data: NoReturn) -> None:
        """Refuse: nodes write into the folder by themselves."""
        raise UserError(f"{self._folder} is a folder for resume points: nothing is saved to it")

    def clear(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder}
