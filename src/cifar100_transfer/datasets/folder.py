"""Folders for what a long node keeps of its own, so that a killed run can go on."""

import shutil
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset

from cifar100_transfer.errors import UserError


class FolderDataset(AbstractDataset[NoReturn, Path]):
    """A folder whose path is given to a node. Its part is cleared when the run has succeeded.

    What another run, that was stopped, has left there stays for the next one of its kind, unless
    this run has touched it.

    Args:
        filepath: the folder.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._found: dict[Path, int] = {}
        self.metadata = metadata

    def load(self) -> Path:
        """Return the folder, made if absent."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._found = {path: path.stat().st_mtime_ns for path in self._folder.iterdir()}
        return self._folder

    def save(self, data: NoReturn) -> None:
        """Refuse: nodes write into the folder by themselves."""
        raise UserError(f"{self._folder} is a folder for resume points: nothing is saved to it")

    def clear(self) -> None:
        """Remove what is new since the folder was given to a node, and what writing left half done.

        In another process than the node's, everything.
        """
        paths = set(self._folder.iterdir()) if self._folder.is_dir() else set()
        kept = {path for path in paths if self._is_as_found(path) and path.name[0] != "."}
        if not kept:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        for path in paths - kept:
            if path.is_file():  # nodes make no folders in it
                path.unlink(missing_ok=True)

    def _is_as_found(self, path: Path) -> bool:
        found = self._found.get(path)
        return found is not None and path.exists() and path.stat().st_mtime_ns == found

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder}
