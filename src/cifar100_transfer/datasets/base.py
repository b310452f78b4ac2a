"""What all inputs, and all stored artifacts, have in common."""

from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, Generic, NoReturn, TypeVar

from kedro.io import AbstractDataset, AbstractVersionedDataset, Version
from kedro.io.core import VersionNotFoundError

from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import checksums, file_digest

Artifact = TypeVar("Artifact")


class InputDataset(AbstractDataset[NoReturn, Artifact], Generic[Artifact]):
    """A file or folder that nodes read and no node writes. Subclasses say how it is read.

    Args:
        filepath: the file or folder.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def save(self, data: NoReturn) -> None:
        """Refuse."""
        raise UserError(
            f"{self._path} is an input, read and never written: give what a node makes a catalog "
            f"entry of another type"
        )

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._path}


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
        self._saved: Path | None = None
        self._stamp: tuple[int, ...] = ()
        self._digest = ""

    @abstractmethod
    def read(self, path: Path) -> Artifact:
        """Read the artifact from a file."""

    @abstractmethod
    def write(self, data: Artifact, path: Path) -> None:
        """Write the artifact to a file, atomically."""

    def load(self) -> Artifact:
        """Load what this run has stored, else the newest version or the one asked for."""
        return self.read(self.load_path())

    def save(self, data: Artifact) -> None:
        """Store a new version."""
        path = Path(self._get_save_path())
        self.write(data, path)
        # Another run may store its own meanwhile: its results must not mix with these.
        self._saved = path
        self._stamp, self._digest = _stamp(path), file_digest(path, "sha256")

    def resolve_load_version(self) -> str | None:
        """Return the version that `load` reads; Kedro warns of a save that leads to another one."""
        if self._saved and self.is_versioned:
            return self._saved.parent.name
        version: str | None = super().resolve_load_version()
        return version

    def load_path(self) -> Path:
        """Return the file that `load` reads.

        Raises:
            UserError: nothing has been stored yet, or what this run stored was replaced.
        """
        try:
            path = self._saved or self._saved_by_a_process() or Path(self._get_load_path())
        except VersionNotFoundError:
            path = Path(self._filepath)
        if not path.is_file():
            raise UserError(f"{self._filepath} does not exist yet: run the pipeline that makes it")
        if self._saved and self._is_replaced(path):
            raise UserError(
                f"{path} was replaced by another run, with other content: let runs that differ in "
                f"their data follow one another, or give each a data_root of its own"
            )
        return path

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the file that `load` reads, by its name."""
        path = self.load_path()
        # Of what was saved it is known, and `load_path` has seen that it is still there.
        return {path.name: self._digest} if self._saved else checksums([path])

    @property
    def path(self) -> Path:
        """The file, or with versions the folder that holds them."""
        return Path(self._filepath)

    @property
    def folder(self) -> Path:
        """The folder that holds the file, or its versions."""
        return self.path.parent

    @property
    def is_versioned(self) -> bool:
        """Whether every run that stores it makes a version of its own."""
        return self._version is not None

    def has_version(self, version: str) -> bool:
        """Whether the run of this version has stored it."""
        return self.is_versioned and Path(self._get_versioned_path(version)).is_file()

    def newest_version(self) -> str:
        """Return the newest version there is; empty if there is none, or versions are not kept."""
        return max(self.versions(), default="")

    def versions(self) -> list[str]:
        """Return the versions that are stored, oldest first; none where versions are not kept."""
        if not self.is_versioned:
            return []
        path = Path(self._filepath)
        return sorted(file.parent.name for file in path.glob(f"*/{path.name}"))

    def _saved_by_a_process(self) -> Path | None:
        """Return what another process of this run has stored, as with Kedro's ParallelRunner."""
        version = self._version.save if self._version else None
        if not version or not self.has_version(version):
            return None
        return Path(self._get_versioned_path(version))

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_file()
        except VersionNotFoundError:
            return False

    def _is_replaced(self, path: Path) -> bool:
        return _stamp(path) != self._stamp and file_digest(path, "sha256") != self._digest

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}


def _stamp(path: Path) -> tuple[int, ...]:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
