"""The official CIFAR-100 (python version): fetched, verified and read without trusting it.

Format and checksums: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cifar100_transfer.errors import UserError

from .fetch import fetch
from .image_set import ImageSet

FOLDER = "cifar-100-python"
ARCHIVE = "cifar-100-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
FILE_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
MAX_BYTES = 1 << 30
SIDE = 32

# What the official files and files written by NumPy 1 and 2 refer to; nothing here runs code.
_SAFE_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def read_cifar100(raw_data: Path, official: bool = True) -> tuple[ImageSet, ImageSet]:
    """Read CIFAR-100 from a folder, or from the archive in it, fetching the archive if need be.

    Nothing is unpacked to the disk, and the pickles are read by an unpickler that knows only
    NumPy arrays.

    Args:
        raw_data: folder that holds `cifar-100-python/` or `cifar-100-python.tar.gz`.
        official: compare the files with the published MD5 sums and fetch them where both are
            absent. False reads other data in the same format.

    Returns:
        The 50,000 training and the 10,000 test images (any numbers if not official).

    Raises:
        UserError: the data is absent and can't be fetched, altered, damaged, of another format,
            or asks for something to be imported.
    """
    contents = _read_files(raw_data, official)
    if official:
        _check_md5(contents, raw_data)
    meta = _unpickle(contents["meta"], f"{FOLDER}/meta")
    fine_names = _names(meta, "fine_label_names")
    coarse_names = _names(meta, "coarse_label_names")
    train = _decode(contents["train"], "train", fine_names, coarse_names)
    test = _decode(contents["test"], "test", fine_names, coarse_names)
    if train.coarse_of_class != test.coarse_of_class:
        raise UserError(
            f"{FOLDER}/train and {FOLDER}/test put a fine class into different coarse classes"
        )
    return train, test


def _advice(raw_data: Path) -> str:
    return (
        f"Put {ARCHIVE} (md5 {ARCHIVE_MD5}) or the folder {FOLDER}/ into {raw_data}, name another "
        f"place with --params=raw_data=DIR, or try the embedded data with --env=sample."
    )


def _read_files(raw_data: Path, official: bool) -> dict[str, bytes]:
    folder, archive = raw_data / FOLDER, raw_data / ARCHIVE
    if folder.is_dir():
        return {name: _read_file(folder / name) for name in FILE_MD5}
    if not archive.exists():
        if not official:
            raise UserError(f"{folder} does not exist")
        fetch(URL, archive, f"md5:{ARCHIVE_MD5}", _advice(raw_data))
    return _read_archive(archive)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror}). {_advice(path.parent.parent)}"
        ) from error


def _read_archive(archive: Path) -> dict[str, bytes]:
    """Read the three members by their exact names; whatever else the archive holds is ignored."""
    wanted = {f"{FOLDER}/{name}": name for name in FILE_MD5}
    contents: dict[str, bytes] = {}
    try:
        # All at once, so that nothing in the archive can unpack to more, and that gzip's checksum,
        # which stands at the end, is compared.
        with gzip.open(archive) as file:
            unpacked = file.read(MAX_BYTES + 1)
        if len(unpacked) > MAX_BYTES:
            raise UserError(
                f"{archive} unpacks to more than {MAX_BYTES:,} bytes: it is not CIFAR-100. Delete "
                f"it. {_advice(archive.parent)}"
            )
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
            for member in tar:
                name = wanted.get(member.name)
                if name is None or not member.isreg():
                    continue
                opened = tar.extractfile(member)
                assert opened is not None  # it is a regular file
                contents[name] = opened.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(
            f"{archive} is damaged ({error}). Delete it. {_advice(archive.parent)}"
        ) from error
    if missing := sorted(set(FILE_MD5) - set(contents)):
        raise UserError(
            f"{archive} holds no {FOLDER}/{', '.join(missing)}: it is not CIFAR-100's python "
            f"version. {_advice(archive.parent)}"
        )
    return contents


def _check_md5(contents: dict[str, bytes], raw_data: Path) -> None:
    for name, wanted in FILE_MD5.items():
        found = hashlib.md5(contents[name], usedforsecurity=False).hexdigest()
        if found != wanted:
            raise UserError(
                f"{FOLDER}/{name} in {raw_data} has md5 {found} instead of {wanted}: it is "
                f"truncated, altered or not CIFAR-100. Delete it. {_advice(raw_data)}"
            )


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SAFE_GLOBALS:
            return super().find_class(module, name)
        raise UserError(
            f"the pickle wants to import {module}.{name}, which a CIFAR file never does: it may "
            f"be hostile and was not loaded"
        )


def _unpickle(content: bytes, file: str) -> dict[bytes, Any]:
    try:
        loaded = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except Exception as error:
        # A damaged pickle can fail in any way; whatever it was, the file is at fault.
        raise UserError(f"{file} is no readable pickle ({error})") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{file} holds a {type(loaded).__name__} instead of a dictionary")
    return loaded


def _field(loaded: dict[bytes, Any], key: str, file: str) -> Any:
    try:
        return loaded[key.encode()]
    except KeyError:
        raise UserError(f"{file} has no field '{key}': it is not CIFAR-100's format") from None


def _names(meta: dict[bytes, Any], key: str) -> tuple[str, ...]:
    file = f"{FOLDER}/meta"
    names = _field(meta, key, file)
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise UserError(f"{file}: '{key}' must be a list of names")
    return tuple(name.decode("utf-8", errors="replace") for name in names)


def _decode(
    content: bytes, part: str, fine_names: tuple[str, ...], coarse_names: tuple[str, ...]
) -> ImageSet:
    file = f"{FOLDER}/{part}"
    loaded = _unpickle(content, file)
    data = _field(loaded, "data", file)
    pixels = 3 * SIDE * SIDE
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (pixels,):
        raise UserError(f"{file}: 'data' must be a uint8 array of N rows of {pixels} values")
    fine = _label_array(loaded, "fine_labels", len(data), len(fine_names), file)
    coarse = _label_array(loaded, "coarse_labels", len(data), len(coarse_names), file)
    return ImageSet(
        images=torch.from_numpy(data.reshape(-1, 3, SIDE, SIDE).copy()),
        labels=torch.from_numpy(fine),
        class_names=fine_names,
        coarse_names=coarse_names,
        coarse_of_class=_hierarchy(fine, coarse, len(fine_names), file),
    )


def _label_array(loaded: dict[bytes, Any], key: str, count: int, classes: int, file: str) -> Any:
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
