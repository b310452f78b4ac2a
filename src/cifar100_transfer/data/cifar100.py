"""The official CIFAR-100 (python version): fetched, verified and read without trusting it.

Format and checksums: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cifar100_transfer.errors import UserError

from . import byte_pickles
from .fetch import fetch
from .image_set import ImageSet

FOLDER = "cifar-100-python"
ARCHIVE = "cifar-100-python.tar.gz"
MAX_BYTES = 1 << 30
_CHUNK = 1 << 20
SIDE = 32


@dataclass(frozen=True)
class Publication:
    """A data set as its authors published it.

    Attributes:
        title: what people call it.
        folder: folder of its files, also in the archive.
        archive: name of the archive.
        url: where the archive is.
        archive_md5: MD5 of the archive.
        file_md5: the files to read, in this order, and the MD5 of each.
    """

    title: str
    folder: str
    archive: str
    url: str
    archive_md5: str
    file_md5: Mapping[str, str]


CIFAR100 = Publication(
    title="CIFAR-100",
    folder=FOLDER,
    archive=ARCHIVE,
    url=f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
    archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
    file_md5={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
)


def read_cifar100(raw_data: Path, official: bool = True) -> tuple[ImageSet, ImageSet]:
    """Read CIFAR-100 from a folder, or from the archive in it, fetching the archive if need be.

    Nothing is unpacked to the disk, and the pickles are read by an unpickler that knows plain
    values and arrays of bytes.

    Args:
        raw_data: folder that holds `cifar-100-python/` or `cifar-100-python.tar.gz`, or either
            of them itself.
        official: compare the files with the published MD5 sums and fetch them where both are
            absent. False reads other data in the same format.

    Returns:
        The 50,000 training and the 10,000 test images (any numbers if not official).

    Raises:
        UserError: the data is absent and can't be fetched, altered, damaged, of another format,
            or asks for something to be imported.
    """
    loaded = read_files(CIFAR100, raw_data, official)
    fine_names = decode_names(loaded["meta"], "fine_label_names", f"{FOLDER}/meta")
    coarse_names = decode_names(loaded["meta"], "coarse_label_names", f"{FOLDER}/meta")
    train = _decode(loaded["train"], "train", fine_names, coarse_names)
    test = _decode(loaded["test"], "test", fine_names, coarse_names)
    if train.coarse_of_class != test.coarse_of_class:
        raise UserError(
            f"{FOLDER}/train and {FOLDER}/test put a fine class into different coarse classes"
        )
    return train, test


def read_files(
    publication: Publication, raw_data: Path, official: bool
) -> dict[str, dict[bytes, Any]]:
    """Read every file of a publication as the dictionary that is pickled in it.

    Args:
        publication: what to read, and where it can be had.
        raw_data: folder that holds its folder or its archive, or either of them itself.
        official: compare the files with the published MD5 sums and fetch them where absent.

    Raises:
        UserError: files are absent and can't be fetched, altered, damaged, or no such dictionary.
    """
    loaded = {}
    place = _locate(publication, raw_data)
    # One file at a time: its bytes take as much memory as the images in it.
    for name, file in _open_files(publication, place, official):
        if official:
            _check_md5(file, name, publication, place)
        loaded[name] = _unpickle(file, f"{publication.folder}/{name}")
    return loaded


def data_files(publication: Publication, raw_data: Path) -> list[Path]:
    """Return the files that `read_files` reads: those of the folder, or the archive; there or not.

    Args:
        publication: what to read.
        raw_data: folder that holds its folder or its archive, or either of them itself.
    """
    place = _locate(publication, raw_data)
    return [place / name for name in publication.file_md5] if place.is_dir() else [place]


def _locate(publication: Publication, raw_data: Path) -> Path:
    """Return the folder of the files; where there is none, the archive, which may be absent."""
    if (folder := raw_data / publication.folder).is_dir():
        return folder
    is_folder = all((raw_data / name).is_file() for name in publication.file_md5)
    return raw_data if is_folder or raw_data.is_file() else raw_data / publication.archive


def _advice(publication: Publication, raw_data: Path) -> str:
    return (
        f"Put {publication.archive} (md5 {publication.archive_md5}) or the folder "
        f"{publication.folder}/ into {raw_data}, name another place with --params=raw_data=DIR, "
        f"or try the embedded data with --env=sample."
    )


def _open_files(
    publication: Publication, place: Path, official: bool
) -> Iterator[tuple[str, io.BufferedIOBase]]:
    if place.is_dir():
        return _open_folder(place, publication)
    if not place.exists():
        if not official:
            raise UserError(f"{place.with_name(publication.folder)} does not exist")
        advice = _advice(publication, place.parent)
        fetch(publication.url, place, f"md5:{publication.archive_md5}", advice)
    return _open_archive(place, publication)


def _open_folder(folder: Path, publication: Publication) -> Iterator[tuple[str, io.BufferedIOBase]]:
    for name in publication.file_md5:
        path = folder / name
        try:
            file = path.open("rb")
        except OSError as error:
            raise UserError(
                f"{path} can't be read ({error.strerror}). {_advice(publication, folder.parent)}"
            ) from error
        with file:
            yield name, file


def _open_archive(
    archive: Path, publication: Publication
) -> Iterator[tuple[str, io.BufferedIOBase]]:
    """Yield the files by their exact names; whatever else the archive holds is ignored."""
    missing = {f"{publication.folder}/{name}": name for name in publication.file_md5}
    try:
        _check_stream(archive, publication)
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.name not in missing or not member.isreg():
                    continue
                file = tar.extractfile(member)
                assert file is not None  # it is a regular file
                yield missing.pop(member.name), io.BytesIO(file.read())
    except gzip.BadGzipFile as error:
        raise UserError(
            f"{archive} is no {publication.folder}.tar.gz ({error}). "
            f"{_advice(publication, archive.parent)}"
        ) from error
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(
            f"{archive} is damaged ({error}). Delete it. {_advice(publication, archive.parent)}"
        ) from error
    if missing:
        raise UserError(
            f"{archive} holds no {', '.join(sorted(missing))}: it is not {publication.title}'s "
            f"python version. {_advice(publication, archive.parent)}"
        )


def _check_stream(archive: Path, publication: Publication) -> None:
    """Unpack to nowhere: gzip's checksum stands at the end, and an archive can claim any size."""
    unpacked = 0
    with gzip.open(archive) as stream:
        while chunk := stream.read(_CHUNK):
            unpacked += len(chunk)
            if unpacked > MAX_BYTES:
                raise UserError(
                    f"{archive} unpacks to more than {MAX_BYTES:,} bytes: it is not "
                    f"{publication.title}. Delete it. {_advice(publication, archive.parent)}"
                )


def _check_md5(file: io.BufferedIOBase, name: str, publication: Publication, place: Path) -> None:
    found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    file.seek(0)
    if found != publication.file_md5[name]:
        raise UserError(
            f"{publication.folder}/{name} in {place.parent} has md5 {found} instead of "
            f"{publication.file_md5[name]}: it is truncated, altered or not {publication.title}. "
            f"Delete it. {_advice(publication, place.parent)}"
        )


def _unpickle(file: io.BufferedIOBase, name: str) -> dict[bytes, Any]:
    try:
        loaded = byte_pickles.load(file)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:
        # A damaged pickle can fail in any way; whatever it was, the file is at fault.
        raise UserError(f"{name} is no readable pickle ({error})") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{name} holds a {type(loaded).__name__} instead of a dictionary")
    return loaded


def _field(loaded: dict[bytes, Any], key: str, file: str) -> Any:
    try:
        return loaded[key.encode()]
    except KeyError:
        raise UserError(f"{file} has no field '{key}': it is not CIFAR's format") from None


def decode_names(meta: dict[bytes, Any], key: str, file: str) -> tuple[str, ...]:
    """Return the class names under `key`; `file` is what an error message calls their place.

    Raises:
        UserError: there are none, or they are no names.
    """
    names = _field(meta, key, file)
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise UserError(f"{file}: '{key}' must be a list of names")
    return tuple(name.decode("utf-8", errors="replace") for name in names)


def _decode(
    loaded: dict[bytes, Any],
    part: str,
    fine_names: tuple[str, ...],
    coarse_names: tuple[str, ...],
) -> ImageSet:
    file = f"{FOLDER}/{part}"
    pixels = decode_pixels(loaded, file)
    fine = decode_labels(loaded, "fine_labels", len(pixels), len(fine_names), file)
    coarse = decode_labels(loaded, "coarse_labels", len(pixels), len(coarse_names), file)
    return ImageSet(
        images=torch.from_numpy(pixels),
        labels=torch.from_numpy(fine),
        class_names=fine_names,
        coarse_names=coarse_names,
        coarse_of_class=_hierarchy(fine, coarse, len(fine_names), file),
    )


def decode_pixels(loaded: dict[bytes, Any], file: str) -> npt.NDArray[np.uint8]:
    """Return the images of a file: uint8 [N, 3, 32, 32].

    Raises:
        UserError: there are none, or of another type or shape.
    """
    data = _field(loaded, "data", file)
    values = 3 * SIDE * SIDE
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (values,):
        raise UserError(f"{file}: 'data' must be a uint8 array of N rows of {values} values")
    # Contiguous and writeable, as torch wants it; no copy where it is so already.
    return np.require(data, requirements=["C", "W"]).reshape(-1, 3, SIDE, SIDE)


def decode_labels(
    loaded: dict[bytes, Any], key: str, count: int, classes: int, file: str
) -> npt.NDArray[np.int64]:
    """Return the labels under `key`: int64 [count], values 0 to `classes - 1`.

    Raises:
        UserError: there are none, or of another number or range.
    """
    labels = _field(loaded, key, file)
    if (
        not isinstance(labels, list)
        or len(labels) != count
        or not all(isinstance(label, int) and 0 <= label < classes for label in labels)
    ):
        raise UserError(f"{file}: '{key}' must be {count} integers from 0 to {classes - 1}")
    return np.asarray(labels, dtype=np.int64)


def _hierarchy(fine: Any, coarse: Any, classes: int, file: str) -> tuple[int, ...]:
    """Find the coarse class of every fine one; each must belong to exactly one."""
    pairs = np.unique(np.stack([fine, coarse], axis=1), axis=0)
    if not np.array_equal(pairs[:, 0], np.arange(classes)):
        raise UserError(
            f"{file}: every fine class must occur and belong to one coarse class; "
            f"{len(pairs)} pairs were found for {classes} classes"
        )
    return tuple(int(value) for value in pairs[:, 1])
