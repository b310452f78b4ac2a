"""Catalog entries of raw data: their settings reach the readers, and wrong ones are named."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from kedro.io import AbstractDataset, DatasetError
from PIL import Image

from cifar100_transfer.data import ImageSet
from cifar100_transfer.data.sample import write_cifar_archive_folder
from tests.pictures import write_class_folders

PACKAGE = "cifar100_transfer.datasets"


def entry(kind: str, folder: Path, **settings: Any) -> Any:
    config = {"type": f"{PACKAGE}.{kind}", "filepath": str(folder), "metadata": {}, **settings}
    return AbstractDataset.from_config("cifar100_raw", config)


def test_a_folder_is_read_as_its_entry_says(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"ant": 8, "bee": 8})
    train, test = entry("ImageFolderDataset", tmp_path, image_size=9, test_share=0.5).load()
    assert (len(train), len(test)) == (8, 8)
    assert train.image_size == (9, 9)
    other, _ = entry("ImageFolderDataset", tmp_path, image_size=9, test_share=0.5, seed=1).load()
    assert not other.images.equal(train.images)


@pytest.mark.parametrize("kind", ["ImageFolderDataset", "HuggingFaceDataset"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"image_size": "large"}, "image_size=large: must be a whole number of pixels"),
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": 1025}, "image_size=1025: must be .* from 1 to 1024"),
        ({"image_size": 8, "test_share": 1}, "test_share=1: must be a number between 0 and 1"),
        ({"image_size": 8, "test_share": None}, "test_share=None: must be a number"),
        ({"image_size": 8, "test_share": "half"}, "test_share=half: must be a number"),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, kind: str, setting: dict[str, Any], said: str
) -> None:
    with pytest.raises(DatasetError, match=said):
        entry(kind, tmp_path, **setting).load()


@pytest.mark.parametrize("kind", ["CIFAR10Dataset", "ImageFolderDataset"])
def test_raw_data_is_never_written(tmp_path: Path, kind: str) -> None:
    settings = {"image_size": 8} if kind == "ImageFolderDataset" else {}
    with pytest.raises(DatasetError, match="is an input, read and never written"):
        entry(kind, tmp_path, **settings).save("anything")


@pytest.mark.parametrize("kind", ["CIFAR10Dataset", "CIFAR100Dataset"])
def test_checksums_are_of_what_is_there(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / (
        "cifar-10-python.tar.gz" if kind == "CIFAR10Dataset" else "cifar-100-python.tar.gz"
    )
    dataset = entry(kind, tmp_path)
    assert dataset.checksums() == {}
    archive.write_bytes(b"anything")
    digest = hashlib.sha256(b"anything").hexdigest()
    assert dataset.checksums() == entry(kind, archive).checksums() == {archive.name: digest}


def test_a_saved_data_set_is_read_as_its_entry_says(tmp_path: Path) -> None:
    hub = pytest.importorskip("datasets.arrow_dataset")
    from datasets import ClassLabel, Features
    from datasets import Image as Encoded

    file = io.BytesIO()
    Image.new("RGB", (20, 12)).save(file, "png")
    pictures = [{"bytes": file.getvalue(), "path": None}] * 8
    labels = [0, 1] * 4
    kinds = {"image": Encoded(), "a": ClassLabel(2), "b": ClassLabel(names=["x", "y"])}
    columns = {"image": pictures, "a": labels, "b": labels}
    hub.Dataset.from_dict(columns, features=Features(kinds)).save_to_disk(str(tmp_path / "saved"))
    train, test = entry(
        "HuggingFaceDataset", tmp_path / "saved", image_size=9, test_share=0.5, label="b"
    ).load()
    assert train.class_names == ("x", "y")
    assert (len(train), len(test)) == (4, 4)
    assert train.image_size == (9, 9)


def test_a_generation_that_was_cut_off_is_not_taken_for_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(seed: int) -> Any:
        settings = {"task": "target", "train_per_class": 1, "test_per_class": 1, "seed": seed}
        return entry("SampleDataset", tmp_path, **settings)

    def cut_off(folder: Path, train: ImageSet, test: ImageSet) -> None:
        write_cifar_archive_folder(folder, train, train)  # the test images are not there yet
        raise KeyboardInterrupt

    train, test = sample(0).load()
    with monkeypatch.context() as patch:
        patch.setattr("cifar100_transfer.datasets.raw.write_cifar_archive_folder", cut_off)
        with pytest.raises(KeyboardInterrupt):
            sample(7).load()
    again = sample(0).load()
    assert again[0].images.equal(train.images)
    assert again[1].images.equal(test.images)
