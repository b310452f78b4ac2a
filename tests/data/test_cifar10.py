"""The reader of CIFAR-10's files, on tiny files of the same format."""

import dataclasses
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from cifar100_transfer.data import cifar10
from cifar100_transfer.data.cifar10 import CIFAR10, read_cifar10
from cifar100_transfer.errors import UserError

NAMES = [b"airplane", b"bird", b"cat"]


def batch(seed: int) -> dict[bytes, Any]:
    data = np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)
    return {b"batch_label": b"batch", b"labels": [0, 1, 2, seed % 3], b"data": data}


def write(folder: Path, **changed: Any) -> dict[str, Any]:
    contents = {name: batch(seed) for seed, name in enumerate(CIFAR10.file_md5)}
    contents[cifar10.META] = {b"num_cases_per_batch": 4, b"label_names": NAMES}
    contents |= changed
    (folder / CIFAR10.folder).mkdir()
    for name, content in contents.items():
        (folder / CIFAR10.folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return contents


def test_five_batches_are_joined_in_order(tmp_path: Path) -> None:
    contents = write(tmp_path)
    train, test = read_cifar10(tmp_path, official=False)
    assert train.class_names == test.class_names == ("airplane", "bird", "cat")
    assert not train.coarse_names
    batches = [contents[f"data_batch_{number}"] for number in range(1, 6)]
    assert train.labels.tolist() == [label for one in batches for label in one[b"labels"]]
    data = np.concatenate([one[b"data"] for one in batches])
    assert np.array_equal(train.images.numpy(), data.reshape(20, 3, 32, 32))
    assert test.labels.tolist() == contents["test_batch"][b"labels"]


def test_files_with_other_sums_than_the_published_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=r"data_batch_1 in .* has md5 .* or not CIFAR-10\."):
        read_cifar10(tmp_path)
    files = (tmp_path / CIFAR10.folder).iterdir()
    digests = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in files}
    published = {name: digests[name] for name in CIFAR10.file_md5}
    monkeypatch.setattr(cifar10, "CIFAR10", dataclasses.replace(CIFAR10, file_md5=published))
    assert len(read_cifar10(tmp_path)[0]) == 20


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batches.meta": {}}, "batches.meta has no field 'label_names'"),
        ({"data_batch_3": {**batch(3), b"labels": [0, 1, 2, 3]}}, "data_batch_3: 'labels' must be"),
        ({"test_batch": pytest.raises}, "it may be hostile and was not loaded"),
    ],
)
def test_another_format_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    write(tmp_path, **changed)
    with pytest.raises(UserError, match=message):
        read_cifar10(tmp_path, official=False)


def test_sums_are_those_that_torchvision_checks() -> None:
    theirs = torchvision.datasets.CIFAR10
    files = dict([*theirs.train_list, *theirs.test_list])
    assert files | {theirs.meta["filename"]: theirs.meta["md5"]} == CIFAR10.file_md5
    assert (theirs.base_folder, theirs.filename, theirs.url, theirs.tgz_md5) == (
        CIFAR10.folder,
        CIFAR10.archive,
        CIFAR10.url,
        CIFAR10.archive_md5,
    )
