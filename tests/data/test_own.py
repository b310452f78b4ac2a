"""Folders and saved data sets of one's own: any classes, any sizes, and what is wrong with them."""

import io
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cifar100_transfer.data.own import read_image_folder, read_saved_dataset
from cifar100_transfer.data.pictures import read_picture
from cifar100_transfer.errors import UserError
from tests.pictures import write_class_folders


def read(folder: Path, **options: Any) -> Any:
    return read_image_folder(folder, **{"image_size": 10, "test_share": 0.25, "seed": 0, **options})


def test_folders_are_classes_and_pictures_get_the_declared_size(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", {"owl": 4, "ant": 3, "bee": 2})
    write_class_folders(tmp_path / "test", {"bee": 1, "owl": 2})
    (tmp_path / "train" / "ant" / "notes.txt").write_text("left out")
    train, test = read(tmp_path)
    assert train.class_names == test.class_names == ("ant", "bee", "owl")
    assert train.labels.tolist() == [0] * 3 + [1] * 2 + [2] * 4
    assert test.labels.tolist() == [1, 2, 2]  # of one class there is no test picture
    assert train.image_size == test.image_size == (10, 10)
    first = sorted((tmp_path / "train" / "ant").glob("*.png"))[0]
    assert torch.equal(train.images[0], read_picture(first, (10, 10)))


@pytest.mark.parametrize("root", [".", "train"])
def test_without_test_images_a_share_of_every_class_is_kept_apart(
    tmp_path: Path, root: str
) -> None:
    write_class_folders(tmp_path / root, {"ant": 8, "bee": 4})
    train, test = read(tmp_path)
    assert train.labels.bincount().tolist() == [6, 3]
    assert test.labels.bincount().tolist() == [2, 1]
    again, _ = read(tmp_path)
    assert torch.equal(train.images, again.images)


def test_folders_in_a_class_belong_to_it(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "ant", {"red": 4, "black": 4})
    write_class_folders(tmp_path, {"bee": 4})
    train, test = read(tmp_path)
    assert train.class_names == ("ant", "bee")
    assert (len(train), len(test)) == (9, 3)


def test_hidden_files_and_what_only_looks_like_a_picture_are_left_out(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"ant": 4, "bee": 4, ".cache": 4})
    picture = next((tmp_path / "ant").glob("*.png"))
    picture.rename(picture.with_suffix(".PNG"))  # as cameras name them
    (tmp_path / "ant" / ".hidden.png").write_bytes(b"no picture")
    (tmp_path / "bee" / "folder.png").mkdir()
    shutil.copytree(tmp_path / "ant", tmp_path / "bee" / ".thumbnails")
    train, test = read(tmp_path)
    assert train.class_names == ("ant", "bee")
    assert (len(train), len(test)) == (6, 2)


def test_share_and_seed_say_which_images_are_kept_apart(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"ant": 8, "bee": 8})
    _, test = read(tmp_path, test_share=0.5)
    _, other = read(tmp_path, test_share=0.5, seed=1)
    assert len(test) == len(other) == 8
    assert not torch.equal(test.images, other.images)


def spoil_nothing_there(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def spoil_all_classes_but_one(folder: Path) -> None:
    shutil.rmtree(folder / "train" / "bee")


def spoil_a_picture(folder: Path) -> None:
    (folder / "train" / "ant" / "broken.jpg").write_bytes(b"no picture")


def spoil_a_class(folder: Path) -> None:
    (folder / "train" / "empty").mkdir()


def spoil_all_of_the_test(folder: Path) -> None:
    (folder / "test").mkdir()


def spoil_the_test(folder: Path) -> None:
    write_class_folders(folder / "test", {"wasp": 1, "ant": 1})


def spoil_by_a_class_called_train(folder: Path) -> None:
    (folder / "bee").mkdir()
    (folder / "val").mkdir()


def spoil_by_no_text(folder: Path) -> None:
    (folder / "train" / os.fsdecode(b"li\xe4")).mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            spoil_by_a_class_called_train,
            "holds train/ beside bee, val: put all pictures into",
        ),
        (spoil_nothing_there, "holds 0 folders: it should hold one folder of pictures a class"),
        (spoil_all_classes_but_one, "holds 1 folders: it should .* for two classes at least"),
        (spoil_a_picture, r"broken\.jpg can't be read as a picture .*: mend it or take it out"),
        (spoil_a_class, "empty holds no pictures"),
        (spoil_all_of_the_test, "test holds no folders"),
        (spoil_the_test, "holds classes that .*train does not: wasp"),
        (spoil_by_no_text, "train: the name of the folder li\N{REPLACEMENT CHARACTER} is no UTF-8"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    write_class_folders(tmp_path / "train", {"ant": 4, "bee": 4})
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    "parts", [("Train", "Test"), ("training_set", "test_set"), ("ant", "bee", "test"), ("Val", "x")]
)
def test_parts_of_a_data_set_are_no_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        write_class_folders(tmp_path / part, {"ant": 4, "bee": 4})
    with pytest.raises(UserError, match=r"part of a data set, not like a class: .* train/CLASS/"):
        read(tmp_path)


def test_a_class_may_be_called_like_a_part_within_train(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", {"test": 4, "validation": 4})
    assert read(tmp_path)[0].class_names == ("test", "validation")
    write_class_folders(tmp_path / "other", {"testament": 4, "training shoes": 4})
    assert read(tmp_path / "other")[0].class_names == ("testament", "training shoes")


def test_the_log_says_what_was_read_and_what_no_test_picture_shows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_class_folders(tmp_path / "train", {"owl": 4, "ant": 3, "bee": 3})
    write_class_folders(tmp_path / "test", {"bee": 2})
    read(tmp_path)
    assert caplog.messages == [
        f"10 pictures in 3 classes (3 to 4 a class) from {tmp_path / 'train'}",
        f"2 pictures in 3 classes (0 to 2 a class) from {tmp_path / 'test'}",
        f"{tmp_path / 'test'} has no pictures of ant, owl: nothing will be measured of them",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


def test_files_that_are_left_out_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_class_folders(tmp_path / "train", {"ant": 4, "bee": 4, "cow": 4})
    for name in ("ant/1.HEIC", "ant/2.heic", "cow/photo", "cow/.hidden"):
        (tmp_path / "train" / name).touch()
    (tmp_path / "train/cow/gone.png").symlink_to(tmp_path / "nowhere.png")
    shutil.copy(tmp_path / "train/ant/000.png", tmp_path / "loose.png")
    (tmp_path / "labels.csv").touch()
    train, test = read(tmp_path)
    assert len(train) + len(test) == 12
    assert warnings(caplog) == [
        f"{tmp_path}: 5 files left out: in no class's folder (1), .heic (2), broken link (1), "
        f"without suffix (1); in ./, train/ant/, train/cow/"
    ]


def test_nothing_is_warned_of_where_nothing_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_class_folders(tmp_path, {"ant": 4, "bee": 4})
    read(tmp_path)
    assert not warnings(caplog)


def test_of_a_class_without_pictures_it_is_said_what_it_holds(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"ant": 4, "bee": 4, "cow": 0})
    for name in ("a.heic", "b.heic", "c"):
        (tmp_path / "cow" / name).touch()
    with pytest.raises(UserError, match=r"cow holds no pictures, but \.heic \(2\), without suf"):
        read(tmp_path)


def test_linked_folders_are_read(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "elsewhere", {"bee": 4, "red": 4})
    write_class_folders(tmp_path / "pets", {"ant": 4})
    (tmp_path / "pets/bee").symlink_to(tmp_path / "elsewhere/bee")
    (tmp_path / "pets/ant/red").symlink_to(tmp_path / "elsewhere/red")
    train, test = read(tmp_path / "pets")
    assert train.labels.bincount().tolist() == [6, 3]
    assert test.labels.bincount().tolist() == [2, 1]


def test_all_pictures_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"ant": 6, "bee": 4})
    for index in range(4):
        (tmp_path / "ant" / f"{index:03}.png").write_bytes(b"no picture")
    with pytest.raises(UserError) as raised:
        read(tmp_path)
    said = str(raised.value)
    assert said.startswith("4 of 10 pictures can't be read: mend them or take them out: ")
    assert [f"{index:03}.png can't be read" in said for index in range(4)] == [True] * 3 + [False]
    assert said.endswith("; …")
    assert "\n" not in said


def test_a_file_is_not_called_absent(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"")
    with pytest.raises(UserError, match=r"pets\.zip is a file, not a folder: unpack it"):
        read(tmp_path / "pets.zip")


def test_an_absent_folder_and_a_class_too_small_to_divide_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent does not exist"):
        read(tmp_path / "absent")
    write_class_folders(tmp_path, {"ant": 8, "bee": 1})
    with pytest.raises(UserError, match=r"no test set can be taken .*class 'bee' \(1 images\)"):
        read(tmp_path)


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'cifar100-transfer\[huggingface\]'"):
        read_saved_dataset(tmp_path, 10, 0.25, 0)


def library() -> Any:
    # A submodule: the name alone could be that of a folder of tests.
    pytest.importorskip("datasets.arrow_dataset")
    return sys.modules["datasets"]


def stored(folder: Path, splits: dict[str, int], **columns: Any) -> Path:
    """Save a data set with pictures of two sizes and an empty third class."""
    hub = library()

    def part(count: int) -> Any:
        pictures = []
        for index in range(count):
            file = io.BytesIO()
            pixels = np.full((20, 12 + index % 2, 3), 10 * index, np.uint8)
            Image.fromarray(pixels).save(file, "png")
            pictures.append({"bytes": file.getvalue(), "path": None})
        values = {"image": pictures, "label": [index % 2 for index in range(count)]}
        features = {"image": hub.Image(), "label": hub.ClassLabel(names=["ant", "bee", "cow"])}
        for name, feature in columns.items():
            values[name], features[name] = values["label"], feature(hub)
        return hub.Dataset.from_dict(values, features=hub.Features(features))

    if "" in splits:
        part(splits[""]).save_to_disk(str(folder))
    else:
        hub.DatasetDict({name: part(count) for name, count in splits.items()}).save_to_disk(
            str(folder)
        )
    return folder


def test_a_saved_data_set_is_read(tmp_path: Path) -> None:
    train, test = read_saved_dataset(stored(tmp_path, {"train": 8, "test": 4}), 10, 0.25, 0)
    assert train.class_names == test.class_names == ("ant", "bee", "cow")
    assert train.labels.tolist() == [0, 1] * 4
    assert train.images.shape == (8, 3, 10, 10)
    assert [int(image.max()) for image in train.images] == [10 * index for index in range(8)]
    assert len(test) == 4


@pytest.mark.parametrize("tested", [{}, {"test": 4}])
def test_splits_of_a_saved_data_set_that_are_not_read_are_warned_of(
    tmp_path: Path, tested: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    folder = stored(tmp_path, {"train": 8, "validation": 4, "extra": 4, **tested})
    train, test = read_saved_dataset(folder, 10, 0.25, 0)
    assert len(train) + len(test) == 8 + sum(tested.values())
    assert f"{tmp_path}: not read: split 'extra', 'validation'" in caplog.text


def test_a_saved_data_set_that_is_read_whole_is_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_saved_dataset(stored(tmp_path, {"train": 8, "test": 6}), 10, 0.25, 0)
    assert "not read" not in caplog.text


@pytest.mark.parametrize("split", ["", "train"])
def test_a_saved_data_set_without_a_test_split_is_divided(tmp_path: Path, split: str) -> None:
    folder = stored(tmp_path, {split: 16})
    train, test = read_saved_dataset(folder, 10, 0.25, 0)
    assert (len(train), len(test)) == (12, 4)
    assert torch.equal(read_saved_dataset(folder, 10, 0.25, 0)[1].images, test.images)
    assert not torch.equal(read_saved_dataset(folder, 10, 0.25, 1)[1].images, test.images)


@pytest.mark.parametrize("splits", [{"": 16}, {"train": 16}, {"train": 8, "test": 4}])
def test_of_several_label_columns_one_must_be_named(tmp_path: Path, splits: dict[str, int]) -> None:
    folder = stored(tmp_path, splits, coarse=lambda hub: hub.ClassLabel(names=["small", "large"]))
    with pytest.raises(UserError, match="set 'label' of the catalog entry to one of label, coarse"):
        read_saved_dataset(folder, 10, 0.25, 0)
    for part in read_saved_dataset(folder, 10, 0.25, 0, label="coarse"):
        assert part.class_names == ("small", "large")


def test_another_folder_is_no_saved_data_set(tmp_path: Path) -> None:
    library()
    with pytest.raises(UserError, match="is no data set that save_to_disk wrote"):
        read_saved_dataset(tmp_path, 10, 0.25, 0)
    with pytest.raises(UserError, match="has no split 'train', but dev"):
        read_saved_dataset(stored(tmp_path / "dev", {"dev": 4}), 10, 0.25, 0)


def save_pictures(folder: Path, pictures: list[Path | None], labels: list[int]) -> Path:
    hub = library()
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["ant", "bee"])})
    images = [picture and str(picture) for picture in pictures]  # saving puts their bytes in
    part = hub.Dataset.from_dict({"image": images, "label": labels}, features=features)
    part.save_to_disk(str(folder))
    return folder


def test_saved_or_in_folders_the_same_pictures_are_the_same_images(tmp_path: Path) -> None:
    folders = tmp_path / "folders"
    write_class_folders(folders, {"ant": 4, "bee": 4})
    saved = save_pictures(tmp_path / "saved", sorted(folders.rglob("*.png")), [0] * 4 + [1] * 4)
    of_saved = read_saved_dataset(saved, 10, 0.25, 0)
    for found, expected in zip(of_saved, read_image_folder(folders, 10, 0.25, 0), strict=True):
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.labels, expected.labels)


def test_a_data_set_of_more_pictures_than_are_read_at_once_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar100_transfer.data.own._READ_AT_ONCE", 3)
    train, _ = read_saved_dataset(stored(tmp_path, {"train": 8, "test": 4}), 10, 0.25, 0)
    assert [int(image.max()) for image in train.images] == [10 * index for index in range(8)]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("label", "a split is empty, or has images without a label"),
        ("null label", "a split is empty, or has images without a label"),
        ("picture", "row 2 has no pic"),
    ],
)
def test_rows_without_a_label_or_a_picture_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, message: str
) -> None:
    monkeypatch.setattr("cifar100_transfer.data.own._READ_AT_ONCE", 2)
    write_class_folders(tmp_path, {"ant": 4})
    pictures: list[Path | None] = sorted((tmp_path / "ant").glob("*.png"))
    labels: list[int | None] = [0, 1, 0, 1]
    if "label" in missing:
        labels[2] = None if missing == "null label" else -1
    else:
        pictures[2] = None
    saved = save_pictures(tmp_path / "saved", pictures, labels)
    with pytest.raises(UserError, match=f"saved: {message}"):
        read_saved_dataset(saved, 10, 0.25, 0)


def test_rows_whose_pictures_cannot_be_read_are_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar100_transfer.data.own._READ_AT_ONCE", 2)
    write_class_folders(tmp_path, {"ant": 5})
    pictures: list[Path | None] = sorted((tmp_path / "ant").glob("*.png"))
    saved = save_pictures(tmp_path / "saved", pictures, [0, 1, 0, 1, 0])
    whole = read_saved_dataset(saved, 8, 0.5, 0)
    assert len(whole[0]) + len(whole[1]) == 5
    for index in (1, 4):
        (tmp_path / "ant" / f"{index:03}.png").write_bytes(b"no picture")
    damaged = save_pictures(tmp_path / "damaged", pictures, [0, 1, 0, 1, 0])
    with pytest.raises(UserError, match=r"2 of 5 pictures .*damaged: row 1: .*; .*: row 4: "):
        read_saved_dataset(damaged, 8, 0.5, 0)


@pytest.mark.parametrize(("name", "content"), [("image", "images"), ("label", "classes")])
def test_a_saved_data_set_without_images_or_classes_is_refused(
    tmp_path: Path, name: str, content: str
) -> None:
    hub = library()
    features = {"image": hub.Image(), "label": hub.ClassLabel(names=["ant"])}
    features[name] = hub.Value("int64")
    values = {"image": [None if name == "label" else 0], "label": [0]}
    part = hub.Dataset.from_dict(values, features=hub.Features(features))
    part.save_to_disk(str(tmp_path))
    with pytest.raises(UserError, match=f"has no column of {content}, but image, label"):
        read_saved_dataset(tmp_path, 10, 0.25, 0)
