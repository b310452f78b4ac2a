"""The challenge "shifted test set": nineteen files of distorted test images, and what to hand in.

Files and the form of a submission: https://github.com/DL4DS/ood-test-files and the challenge's
page. Each file holds the test images in test order under one distortion at five severities:
severity s is rows (s - 1) n … s n. Imports torch.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import atomic_path, file_digest

from .corruptions import CORRUPTIONS, SEVERITIES, corrupt
from .fetch import fetch

logger = logging.getLogger(__name__)

CLASSES = 100
SIDE = 32
IMAGES_PER_SEVERITY = 10_000
URL = "https://github.com/DL4DS/ood-test-files/raw/refs/heads/main/ood-test"
FILE_SHA256 = (
    "776391036473e944144809983ce9cb0c7831593e84a1be7cf29ccc72f194a120",
    "4d661214412045f79fdbc8a5095506e8682a883bcb61693dc17b48a9f7d7a51b",
    "7dcf455178224fb63c956d2f2bd50c1da71c57671ac7f7238610752f91a23e84",
    "134ab1cb3765e4551b7ee121f099c8dafb88c096f45deee5bee98e96a16c0d61",
    "4c612859c74e1cf1751763eddaaf55e742650f4f9c67b8321faf47e524707d5b",
    "cb2d7dc6dcbabf3f0ac398197386846ec57985a6c4f4dab10999f17835555233",
    "f0c746dec1c23438fa4e22a90e18eed7b6b96b71fd35776cad709b163bef0a56",
    "359b96dc23af57c3210fefbd37a007576e8190ac492881920d475517e0ee5647",
    "9ca999b14435f20b60412cdf9c4d054bad563d656d80cf71795f0a9a3d2271d2",
    "0a8c65f809028fd7867271988932477e3efb7d781a367927f28674076389bc20",
    "5a81b1cb9365e6ce853fca57740a4156c6b724e97d95b0673df3820ee2056ab9",
    "a838439f52a70006cf20825ef78c59b25574ff77689a97f69056df50e272dddb",
    "690437cd574582378fbd57b25923b87d39f7069166e7a319beec6e5b612e2aab",
    "4fa41f887ffeccc2ab0c3c235345c8dfd8e19d0fcb3cd104d5a274d5ba4d337d",
    "97d3e7fa79f231b4423901965a8f7a992e22831e99735e7cd3bb8bdfbd3ab892",
    "a2b4023cd3126fe90c2fca620f27314fcb1b82c88d16344c3a82345db27221ba",
    "3b86a720346874b218f2f06a3527b56039a4b9a55c624ea021d9efc78ab01a59",
    "73053d163a221d61f7c2840a11bad9ee001e256af5ce737a4a69e6551f2b7c1b",
    "8212ef47526c11d851f74eff306948e77dbca72b0229b8ba4d9890f40bf72c27",
)
# What NumPy raises over a damaged header, which it reads as a literal of Python.
_DAMAGED = (OSError, ValueError, EOFError, TypeError, OverflowError, tokenize.TokenError)
DISTORTIONS = tuple(f"distortion{index:02}" for index in range(len(FILE_SHA256)))
"""Names of the files without suffix, in the order of the submission."""

_WRITE_CHUNK = 1024  # images corrupted between two writes: 3 MB
_DIGESTS = ".sha256.json"
_OWN_MEANT = "if files of your own are meant, say so with --params=challenge_source=own"
_SOURCE = ".source.json"


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path`, as `atomic_path`.

    Raises:
        UserError: the file system refuses (disk full, no permission, …); `path` stays as it was.
    """
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(
            f"{path} can't be written ({error.strerror or error}): nothing half done was left; "
            f"mend that and run again, finished files are kept"
        ) from error


@dataclass(frozen=True)
class ChallengeFiles:
    """The nineteen files, checked but not read.

    Attributes:
        folder: where they lie.
        images_per_severity: n; every file has 5 n images.
        digests: SHA-256 of every file, in order; they tell which images were classified.
    """

    folder: Path
    images_per_severity: int
    digests: tuple[str, ...]

    def open(self, distortion: int) -> NDArray[np.uint8]:
        """Map a file into memory; only what is used of it gets read.

        Args:
            distortion: number of the file, 0 … 18.

        Returns:
            Read-only uint8 [5 n, 32, 32, 3]: severity by severity, channels last.

        Raises:
            UserError: no such file, damaged, or of another size, type or shape.
        """
        return open_file(challenge_path(self.folder, distortion), self.images_per_severity)


def challenge_path(folder: Path, distortion: int) -> Path:
    """Return the path of file number `distortion` in a folder of challenge files."""
    return folder / f"{DISTORTIONS[distortion]}.npy"


def open_file(path: Path, images_per_severity: int | None = None) -> NDArray[np.uint8]:
    """Map one challenge file into memory after checking its type, shape and size.

    Args:
        path: the file.
        images_per_severity: n that is expected; None takes any.

    Returns:
        Read-only uint8 [5 n, 32, 32, 3].

    Raises:
        UserError: no such file, damaged, or of another size, type or shape.
    """
    rows = "5 n" if images_per_severity is None else len(SEVERITIES) * images_per_severity
    wanted = f"uint8 [{rows}, {SIDE}, {SIDE}, 3]"
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: a challenge folder has {_names()}") from None
    except _DAMAGED as error:
        raise UserError(
            f"{path} is no NumPy file of {wanted}, or truncated ({error}): delete it"
        ) from error
    if not isinstance(images, np.memmap):
        raise UserError(
            f"{path} is an archive instead of {wanted}: it is no file of this challenge"
        )
    if (
        images.dtype != np.uint8
        or images.shape[1:] != (SIDE, SIDE, 3)
        or not len(images)
        or len(images) % len(SEVERITIES)
        or (images_per_severity and len(images) != len(SEVERITIES) * images_per_severity)
    ):
        raise UserError(
            f"{path} holds {images.dtype} {list(images.shape)} instead of {wanted}: it is no file "
            f"of this challenge"
        )
    size, expected = path.stat().st_size, images.offset + images.nbytes
    if size != expected or not images.flags.c_contiguous:
        raise UserError(f"{path} has {size:,} bytes instead of {expected:,}: delete it")
    return images


def _names() -> str:
    return f"{DISTORTIONS[0]}.npy … {DISTORTIONS[-1]}.npy"


def open_official_challenge(folder: Path) -> ChallengeFiles:
    """Find the official files in a folder, fetching those that are absent, and verify them.

    Raises:
        UserError: a file is absent and can't be fetched, or is not the official one.
    """
    advice = (
        f"Put {_names()} into {folder}, name another folder with --params=challenge_data=DIR, or "
        f"try the embedded data with --env=sample."
    )
    paths = [challenge_path(folder, distortion) for distortion in range(len(DISTORTIONS))]
    for path in paths:
        if path.exists():  # what is wrong here is said before hundreds of megabytes are fetched
            try:
                open_file(path, IMAGES_PER_SEVERITY)
            except UserError as error:
                raise UserError(f"{error}, or, {_OWN_MEANT}") from error
    for path, sha256 in zip(paths, FILE_SHA256, strict=True):
        fetch(f"{URL}/{path.name}", path, f"sha256:{sha256}", advice)
    files = _open_all(folder, IMAGES_PER_SEVERITY)
    for distortion, (found, wanted) in enumerate(zip(files.digests, FILE_SHA256, strict=True)):
        if found != wanted:
            raise UserError(
                f"{challenge_path(folder, distortion)} has sha256 {found} instead of {wanted}: it "
                f"is altered or not the challenge's. Delete it to fetch it anew, or, {_OWN_MEANT}"
            )
    return files


def open_own_challenge(folder: Path) -> ChallengeFiles:
    """Find files of one's own in a folder: the same layout, any number of images.

    Raises:
        UserError: a file is absent, damaged, of another layout, or not as long as the
            others.
    """
    return _open_all(folder, len(open_file(challenge_path(folder, 0))) // len(SEVERITIES))


def _open_all(folder: Path, images_per_severity: int) -> ChallengeFiles:
    for distortion in range(len(DISTORTIONS)):
        open_file(challenge_path(folder, distortion), images_per_severity)
    return ChallengeFiles(folder, images_per_severity, file_digests(folder))


def file_digests(folder: Path) -> tuple[str, ...]:
    """Return the SHA-256 of every challenge file in a folder.

    To hash the official files takes seconds, and more where the disk is slow, so digests are kept
    beside the files and taken from there while size and time of the last change are the same (the
    rule of make and rsync). In a folder that can't be written they are computed every time.
    """
    memory = folder / _DIGESTS
    known = _read_json(memory)
    current: dict[str, list[int | str]] = {}
    announced = False
    for distortion in range(len(DISTORTIONS)):
        path = challenge_path(folder, distortion)
        state = path.stat()
        entry = known.get(path.name)
        stamp = [state.st_size, state.st_mtime_ns]
        if not isinstance(entry, list) or entry[:2] != stamp or len(entry) != 3:
            if not announced:
                logger.info("Computing checksums of the files in %s", folder)
                announced = True
            entry = [*stamp, file_digest(path, "sha256")]
        current[path.name] = entry
    if current != known:
        try:
            _write_json(memory, current)
        except UserError as error:
            logger.info("Checksums are not remembered: %s", error)
    return tuple(str(entry[2]) for entry in current.values())


def write_challenge(folder: Path, images: torch.Tensor, seed: int = 0) -> None:
    """Write a challenge of the same layout by this project's own corruptions.

    Files are written one after the other, each atomically, in small pieces; a later call with the
    same arguments keeps those that are there, one with others replaces them. A folder whose files
    were not written by this function is left alone.

    Args:
        folder: gets the nineteen files; made if missing.
        images: test images in test order, uint8 [n, 3, 32, 32].
        seed: of the corruptions, at least 0.

    Raises:
        UserError: the images have another shape, the seed is negative, the folder holds foreign
            files, or writing fails.
    """
    if images.dtype != torch.uint8 or images.shape[1:] != (3, SIDE, SIDE) or not len(images):
        raise UserError(
            f"a challenge is made of uint8 [n, 3, {SIDE}, {SIDE}] images, got {images.dtype} "
            f"{list(images.shape)}"
        )
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")
    _claim(folder, images, seed)
    missing = [
        distortion
        for distortion in range(len(DISTORTIONS))
        if not challenge_path(folder, distortion).exists()
    ]
    for distortion in tqdm(missing, desc="Corrupting", unit="file", disable=None):
        logger.info("Writing %s: %s", DISTORTIONS[distortion], CORRUPTIONS[distortion])
        with (
            writing(challenge_path(folder, distortion)) as temporary,
            temporary.open("wb") as file,
        ):
            _write_file(file, images, CORRUPTIONS[distortion], seed)


def _claim(folder: Path, images: torch.Tensor, seed: int) -> None:
    """Make the folder one for files from just these images; remove those from others."""
    images_digest = hashlib.sha256(images.contiguous().numpy().data).hexdigest()
    source = {"images": len(images), "sha256": images_digest, "seed": seed}
    paths = [challenge_path(folder, distortion) for distortion in range(len(DISTORTIONS))]
    present = [path for path in paths if path.exists()]
    claimed = _read_json(folder / _SOURCE)
    if claimed == source:
        return
    if present and not claimed:
        raise UserError(
            f"{folder} holds challenge files that were not made here: choose another folder"
        )
    for path in present:
        path.unlink()
    _write_json(folder / _SOURCE, source)


def _write_file(file: IO[bytes], images: torch.Tensor, corruption: str, seed: int) -> None:
    # Written by hand because a memory map would turn a full disk into a crash.
    count, _, height, width = images.shape
    shape = (len(SEVERITIES) * count, height, width, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for severity in SEVERITIES:
        for start in range(0, count, _WRITE_CHUNK):
            chunk = images[start : start + _WRITE_CHUNK]
            corrupted = corrupt(chunk, corruption, severity, seed, first_index=start)
            file.write(corrupted.permute(0, 2, 3, 1).contiguous().numpy().data)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Submission:
    """A class for every distorted image.

    Attributes:
        labels: int16 [19, 5, n]: by distortion, severity and index of the test image.
    """

    labels: NDArray[np.int16]

    @property
    def images_per_severity(self) -> int:
        """Number of test images, n."""
        return int(self.labels.shape[2])


def submission_ids(images_per_severity: int) -> NDArray[np.bytes_]:
    """Return the ids of all rows in their order: ASCII [19 * 5 * n], `distortionNN_s_i`."""
    prefixes = np.array([f"{d}_{s}_" for d in DISTORTIONS for s in SEVERITIES], np.bytes_)
    indices = np.arange(images_per_severity).astype(np.bytes_)
    return np.strings.add(prefixes[:, None], indices[None, :]).ravel()


def check_submission(table: pd.DataFrame, images_per_severity: int) -> None:
    """Compare the rows of a submission with the challenge's specification.

    Args:
        table: the columns `id` and `label` in that order, as read from the CSV.
        images_per_severity: number of test images, n.

    Raises:
        UserError: names the first thing that is wrong: columns, number of rows, an id, their
            order, a label that is no integer of 0 … 99.
    """
    if list(table.columns) != ["id", "label"]:
        raise UserError(f"the header of a submission is id,label, not {','.join(table.columns)}")
    wanted = submission_ids(images_per_severity).astype(np.str_).astype(object)
    if len(table) != len(wanted):
        raise UserError(f"a submission has {len(wanted):,} rows here, not {len(table):,}")
    wrong = np.flatnonzero(table["id"].to_numpy(object) != wanted)
    if len(wrong):
        raise UserError(
            f"row {wrong[0] + 1} of the submission has id '{table['id'].iloc[wrong[0]]}' instead "
            f"of '{wanted[wrong[0]]}': {len(wrong):,} ids are wrong or out of order"
        )
    labels = table["label"]
    wrong = (
        np.flatnonzero((labels < 0) | (labels >= CLASSES))
        if pd.api.types.is_integer_dtype(labels)
        else np.flatnonzero(~labels.astype(str).str.fullmatch("[0-9]{1,2}"))
    )
    if len(wrong):
        raise UserError(
            f"row {wrong[0] + 1} of the submission has label {labels.iloc[wrong[0]]}: labels are "
            f"integers of 0 … {CLASSES - 1}"
        )


def write_submission(submission: Submission, path: Path) -> None:
    """Write a submission as CSV, compressed if the name ends in `.gz`, and read it back to check.

    Raises:
        UserError: what was written breaks the specification, or can't be written; `path` stays as
            it was.
    """
    with writing(path) as temporary:
        with temporary.open("wb") as file:
            if path.suffix == ".gz":
                # No name and no time in the header: equal submissions are equal files.
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                    _write_rows(submission, cast("IO[bytes]", packed))
            else:
                _write_rows(submission, file)
        check_submission(_read_table(temporary), submission.images_per_severity)


def _write_rows(submission: Submission, file: IO[bytes]) -> None:
    file.write(b"id,label\n")
    values, positions = np.unique(submission.labels, return_inverse=True)
    endings = np.array([f",{label}\n" for label in values], np.bytes_)
    ids = submission_ids(submission.images_per_severity).reshape(len(DISTORTIONS), -1)
    for block, labels in zip(ids, positions.reshape(len(DISTORTIONS), -1), strict=True):
        rows = np.strings.add(block, endings[labels])
        # Rows of an array are equally long, filled up with zero bytes.
        file.write(rows.tobytes().replace(b"\0", b""))


def read_submission(path: Path) -> Submission:
    """Read a submission that `write_submission` wrote.

    Raises:
        UserError: damaged, or against the specification.
    """
    table = _read_table(path)
    per_image = len(DISTORTIONS) * len(SEVERITIES)
    try:
        check_submission(table, len(table) // per_image)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    labels = table["label"].to_numpy(np.int16)
    return Submission(labels.reshape(len(DISTORTIONS), len(SEVERITIES), -1))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False)  # unpacks by the suffix
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is no CSV table ({error})") from error
