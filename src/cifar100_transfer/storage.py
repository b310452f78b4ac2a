"""Writing files so that a reader never meets half of one, and knowing them again."""

import contextlib
import hashlib
import os
import secrets
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
    temporary = destination.with_name(
        f".{destination.stem}-{secrets.token_hex(8)}{destination.suffix}"
    )
    # Not by `tempfile`, whose files are private: this one is as readable as any other of the user.
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(destination)
        sync(destination.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
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


def mark_as_used(file: Path) -> None:
    """Make a file that a run goes on from as new as what it writes, so that both go with it."""
    with contextlib.suppress(OSError):  # it may be gone by now
        os.utime(file)
