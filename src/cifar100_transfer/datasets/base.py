"""What all stored artifacts have in common."""

from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import VersionNotFoundError

from cifar100_transfer.errors import UserError

Artifact = TypeVar("Artifact")


class ArtifactDataset(AbstractVersionedDataset[Artifact, Artifact], Generic[Artifact]):
    """A local file, versioned by Kedro on request. Subclasses say how it is read and written.

    Args:
        filepath: file, or with versions the folder that gets one subfolder a version.
        version: given by Kedro where the catalog says `versioned: true`.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version)
        self.metadata = metadata

    @abstractmethod
    def read(self, path: Path) -> Artifact:
        """Read the artifact from a file."""

    @abstractmethod
    def write(self, data: Artifact, path: Path) -> None:
        """Write the artifact to a file, atomically."""

    def load(self) -> Artifact:
        """Load the newest version, or the one that was asked for."""
        return self.read(self.load_path())

    def save(self, data: Artifact) -> None:
        """Store a new version."""
        self.write(data, Path(self._get_save_path()))

    def load_path(self) -> Path:
        """Return the file that `load` reads.

        Raises:
            UserError: nothing has been stored yet.
        """
        try:
            path = Path(self._get_load_path())
        except VersionNotFoundError:
            path = Path(self._filepath)
        if not path.is_file():
            raise UserError(f"{self._filepath} does not exist yet: run the pipeline that makes it")
        return path

    def files(self) -> list[Path]:
        """Return the file that `load` reads, for a checksum."""
        return [self.load_path()]

    @property
    def folder(self) -> Path:
        """The folder that holds the file, or its versions."""
        return Path(self._filepath).parent

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_file()
        except VersionNotFoundError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
