"""Writing files so that a reader never meets half of one, and knowing them again."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import filelock


@contextmanager
def atomic_path(destination: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `destination` when the block ends without an error.

    The temporary file lies in the same folder, so the final rename is atomic; it is flushed to
    the disk before and its folder after, so the file survives a power cut once this returns. On an
    error it is removed and an existing `destination` stays as it was.

    Args:
        destination: the file to write. Missing parent folders are made.

    Yields:
        Path of the file to write. It exists, is empty, and keeps the suffix of `destination`.

    Raises:
        OSError: as raised by the file system (disk full, no permission, …).
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=destination.parent, prefix=f".{destination.stem}-", suffix=destination.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; artifacts are as readable as anything else the user makes.
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        temporary.replace(destination)
        sync(destination.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename = str(destination)  # the name that the user knows
        raise


def checksums(paths: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of those of some files that are there, by file name."""
    return {path.name: file_digest(path, "sha256") for path in paths if path.is_file()}


def machine_lock(name: str) -> "filelock.FileLock":
    """Return a lock that one process of this user on this machine can hold at a time.

    Its file stays in the folder for temporary files: whoever removed it could take it from another.

    Args:
        name: what is locked, as a part of a file name.
    """
    import filelock  # not sooner: a training without Kedro needs none

    user = os.getuid() if hasattr(os, "getuid") else ""
    return filelock.FileLock(Path(tempfile.gettempdir(), f"cifar100-transfer-{user}-{name}.lock"))


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hexadecimal digest of a file; `algorithm` is a name `hashlib` knows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
