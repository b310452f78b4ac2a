"""Resume points: all that a killed run needs to go on at its last finished epoch.

An epoch is a pure function of (seed, epoch) and of the weights and optimiser state before it, so no
random state is kept.
"""

import contextlib
import hashlib
import io
import json
import logging
import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from cifar100_transfer.nested import leaves
from cifar100_transfer.storage import atomic_path, mark_as_used

logger = logging.getLogger(__name__)

_FILE = "resume.pt"
_VERSION = 3


@dataclass(frozen=True)
class ResumePoint:
    """The state of a training after an epoch.

    Attributes:
        identity: what was trained on what and how, as flat plain values; see `identify`.
        circumstances: what the roundings depend on besides, as flat plain values.
        epoch: the last finished epoch.
        weights: the classifier's state dict after it.
        optimizer: the optimiser's state dict after it.
        average: state of the average of the weights; None if the recipe has none.
        best_weights: state dict of the best epoch so far; None if that is `epoch` itself.
        history: the records so far, as plain dictionaries.
    """

    identity: dict[str, Any]
    circumstances: dict[str, Any]
    epoch: int
    weights: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any] | None
    best_weights: dict[str, Any] | None
    history: list[dict[str, Any]]


def identify(description: dict[str, Any]) -> dict[str, Any]:
    """Flatten the description of a training; equal ones make equal trainings.

    Args:
        description: nested plain values.
    """
    # Through JSON, so that a tuple equals the list that it comes back as.
    return {name: json.loads(json.dumps(value)) for name, value in leaves(description)}


def save_resume_point(folder: Path, point: ResumePoint) -> None:
    """Replace the folder's resume point, atomically; there is never more than one.

    The file begins with the SHA-256 of the rest: torch reads altered weights without a word.

    Raises:
        OSError: as raised by the file system. The earlier resume point stays, as it does where
            Ctrl-C comes while the new one is written.
    """
    try:
        _write(folder / _FILE, point)
    except FileNotFoundError:  # another training of this model ended, and cleared the folder
        _write(folder / _FILE, point)


def _write(path: Path, point: ResumePoint) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(hashlib.sha256().digest_size))
        written = _Digested(file)
        try:
            # Not `asdict`, which would copy every tensor first.
            torch.save({"version": _VERSION, **vars(point)}, cast(BinaryIO, written))
        except RuntimeError as error:
            # After a write that failed torch still closes its archive, which fails in its turn.
            raise error.__context__ or error from None
        file.seek(0)
        file.write(written.digest())


class _Digested:
    """A file that torch can save to, and the digest of what was written.

    Nothing of the size of the content is held in memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self._file.write(content)
        self._sha.update(content)
        return len(content)

    def flush(self) -> None:
        pass

    def digest(self) -> bytes:
        """Return the SHA-256."""
        return self._sha.digest()


def load_resume_point(
    folder: Path, identity: dict[str, Any], circumstances: dict[str, Any]
) -> ResumePoint | None:
    """Return the folder's resume point, or None if there is none that fits.

    One of another training, or a damaged one, is left unused; a warning names the difference, so
    that the training can be stopped before the file is replaced. One
    from other circumstances is used, and a warning says that results will differ.

    Args:
        folder: where `save_resume_point` wrote.
        identity: of the training that is about to start.
        circumstances: those in which it is about to start.
    """
    file = folder / _FILE
    if not file.is_file():
        return None
    try:
        point = _read(file)
    except (OSError, ValueError) as error:
        logger.warning("%s is not used: %s", file, error)
        return None
    if difference := _difference(point.identity, identity):
        logger.warning(
            "%s of epoch %d is not used, and the first epoch will replace it: %s",
            *(file, point.epoch, difference),
        )
        return None
    if difference := _difference(point.circumstances, circumstances):
        logger.warning("The result will not be that of an undisturbed run: %s", difference)
    logger.info("Going on after epoch %d of an interrupted run (%s)", point.epoch, file)
    mark_as_used(file)
    return point


def stored_identity(folder: Path) -> dict[str, Any] | None:
    """Return what training the folder's resume point is of; None if there is none to be read."""
    with contextlib.suppress(OSError, ValueError):
        return _read(folder / _FILE).identity
    return None  # a damaged one gets its warning when the training looks for it


def _read(file: Path) -> ResumePoint:
    with file.open("rb") as opened:
        digest = opened.read(hashlib.sha256().digest_size)
        content = opened.read()
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("it is damaged, or no resume point")
    # Whoever can write a digest can still write a hostile pickle.
    try:
        stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError("it is no resume point") from error
    names = {entry.name for entry in fields(ResumePoint)}
    if (
        not isinstance(stored, dict)
        or stored.pop("version", None) != _VERSION
        or set(stored) != names
    ):
        raise ValueError("it is of another version")
    return ResumePoint(**stored)


def _difference(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} was {stored.get(name)!r} and is {wanted.get(name)!r}"
        for name in sorted(stored.keys() | wanted.keys())
        if stored.get(name) != wanted.get(name)
    )
