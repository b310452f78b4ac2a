"""The reader of CIFAR-100's files, on tiny files of the same format: good, damaged and hostile."""

import contextlib
import gzip
import hashlib
import io
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifar100_transfer.data import channel_statistics, cifar100
from cifar100_transfer.data.cifar100 import (
    ARCHIVE,
    CIFAR100,
    FOLDER,
    data_files,
    read_cifar100,
)
from cifar100_transfer.errors import UserError
from tests.hostile import Hostile

FINE_NAMES = [b"apple", b"bear", b"cup", b"dolphin"]
COARSE_NAMES = [b"food", b"animal"]
COARSE_OF_CLASS = (0, 1, 0, 1)


def part(count: int, seed: int) -> dict[bytes, Any]:
    fine = [(index + seed) % 4 for index in range(count)]
    data = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {
        b"filenames": [b"picture.png"] * count,
        b"batch_label": b"batch",
        b"fine_labels": fine,
        b"coarse_labels": [COARSE_OF_CLASS[label] for label in fine],
        b"data": data,
    }


def tiny() -> dict[str, Any]:
    return {
        "train": part(8, seed=1),
        "test": part(4, seed=2),
        "meta": {b"fine_label_names": FINE_NAMES, b"coarse_label_names": COARSE_NAMES},
    }


def pickled(objects: dict[str, Any]) -> dict[str, bytes]:
    return {
        name: value if isinstance(value, bytes) else pickle.dumps(value, protocol=2)
        for name, value in objects.items()
    }


def write_folder(raw_data: Path, objects: dict[str, Any]) -> Path:
    (raw_data / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, content in pickled(objects).items():
        (raw_data / FOLDER / name).write_bytes(content)
    return raw_data


def archive_bytes(objects: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        folder = tarfile.TarInfo(FOLDER)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in {**pickled(objects), "file.txt~": b"ignored"}.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_archive(raw_data: Path, content: bytes) -> Path:
    raw_data.mkdir(exist_ok=True)
    (raw_data / ARCHIVE).write_bytes(content)
    return raw_data


def make_official(monkeypatch: pytest.MonkeyPatch, objects: dict[str, Any]) -> None:
    """Publish the tiny files' digests as if they were CIFAR-100's."""
    digests = {name: hashlib.md5(data).hexdigest() for name, data in pickled(objects).items()}
    monkeypatch.setattr(cifar100, "CIFAR100", replace(CIFAR100, file_md5=digests))


def write_as_folder(raw_data: Path, objects: dict[str, Any]) -> Path:
    return write_folder(raw_data, objects)


def write_as_archive(raw_data: Path, objects: dict[str, Any]) -> Path:
    return write_archive(raw_data, archive_bytes(objects))


@pytest.mark.parametrize("write", [write_as_folder, write_as_archive])
@pytest.mark.parametrize("official", [False, True])
def test_images_labels_and_classes_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, dict[str, Any]], Path],
    official: bool,
) -> None:
    objects = tiny()
    make_official(monkeypatch, objects)
    train, test = read_cifar100(write(tmp_path, objects), official=official)
    assert (len(train), len(test)) == (8, 4)
    assert train.class_names == test.class_names == ("apple", "bear", "cup", "dolphin")
    assert train.coarse_names == test.coarse_names == ("food", "animal")
    assert train.coarse_of_class == test.coarse_of_class == COARSE_OF_CLASS
    assert train.labels.tolist() == objects["train"][b"fine_labels"]
    # A row is the red plane, then green, then blue, each row by row.
    row = objects["train"][b"data"][3]
    assert train.images[3, 1, 5, 7] == row[1024 + 5 * 32 + 7]
    assert torch.equal(train.images.flatten(1), torch.from_numpy(objects["train"][b"data"]))
    # Only what was asked for lies there: nothing was unpacked.
    assert {path.name for path in tmp_path.iterdir()} <= {FOLDER, ARCHIVE}


@pytest.mark.parametrize(
    ("write", "itself", "files"), [(write_as_folder, FOLDER, 3), (write_as_archive, ARCHIVE, 1)]
)
def test_the_folder_or_the_archive_can_be_named_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, dict[str, Any]], Path],
    itself: str,
    files: int,
) -> None:
    objects = tiny()
    make_official(monkeypatch, objects)
    held = write(tmp_path / "raw", objects)
    named = (held / itself).rename(tmp_path / f"my {itself}")
    assert len(read_cifar100(named)[0]) == 8
    assert [path.is_file() for path in data_files(CIFAR100, named)] == [True] * files
    make_official(monkeypatch, objects | {"test": part(4, seed=3)})
    with pytest.raises(UserError, match=rf"has md5.* into {tmp_path}, name another place"):
        read_cifar100(named)


# In units of one set: both sets' images, and from an archive the bytes of the second.
@pytest.mark.parametrize(("write", "allowed"), [(write_as_folder, 2.3), (write_as_archive, 3.3)])
def test_reading_takes_little_more_memory_than_the_images(
    tmp_path: Path, write: Callable[[Path, dict[str, Any]], Path], allowed: float
) -> None:
    # Like the official files, and unlike protocol 2 of Python 3, this one stores pixels as bytes.
    sets = {name: pickle.dumps(part(1000, seed=3), protocol=4) for name in ("train", "test")}
    raw_data = write(tmp_path, tiny() | sets)
    tracemalloc.start()
    read_cifar100(raw_data, official=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < allowed * len(sets["train"])


def test_names_that_are_not_english_are_read(tmp_path: Path) -> None:
    objects = tiny()
    objects["meta"][b"fine_label_names"] = ["Äpfel".encode(), b"b\xe9ar", b"cup", b"dolphin"]
    train, _ = read_cifar100(write_folder(tmp_path, objects), official=False)
    assert train.class_names[:2] == ("Äpfel", "b\N{REPLACEMENT CHARACTER}ar")


def test_strings_that_python_2_pickled_are_bytes() -> None:
    # The official files are of that kind: opcode U, a length, and that many bytes.
    pickled_by_python_2 = b"\x80\x02}U\x04nameU\x03b\xe9as."
    assert cifar100._unpickle(io.BytesIO(pickled_by_python_2), "meta") == {b"name": b"b\xe9a"}


def test_pixels_can_be_written_to_in_whatever_order_they_lay() -> None:
    rows = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    for data in (rows, np.asfortranarray(rows)):
        data.setflags(write=False)
        pixels = cifar100.decode_pixels({b"data": data}, "train")
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous
        assert np.array_equal(pixels.reshape(2, 3072), rows)


@pytest.mark.parametrize("fault", ["altered", "absent", "damaged archive", "another archive"])
def test_what_to_do_names_the_place_that_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    objects = tiny()
    make_official(monkeypatch, objects)
    if fault == "altered":
        write_folder(tmp_path, objects | {"test": part(4, seed=3)})
    elif fault == "absent":
        (write_folder(tmp_path, objects) / FOLDER / "test").unlink()
    elif fault == "damaged archive":
        write_archive(tmp_path, archive_bytes(objects)[:-20])
    else:
        write_archive(tmp_path, archive_bytes({"train": objects["train"]}))
    with pytest.raises(UserError) as caught:
        read_cifar100(tmp_path)
    assert f"or the folder {FOLDER}/ into {tmp_path}, name another place" in str(caught.value)


def test_absent_data_is_fetched_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = tiny()
    make_official(monkeypatch, objects)
    content = archive_bytes(objects)
    source = tmp_path / "server.tar.gz"
    source.write_bytes(content)

    def fetch(url: str, destination: Path, digest: str, advice: str) -> Path:
        assert url == CIFAR100.url
        assert digest == f"md5:{CIFAR100.archive_md5}"
        destination.parent.mkdir()
        return source.rename(destination)

    monkeypatch.setattr(cifar100, "fetch", fetch)
    assert len(read_cifar100(tmp_path / "raw")[0]) == 8
    assert len(read_cifar100(tmp_path / "raw")[0]) == 8  # from the archive: the source is gone


def test_absent_data_without_a_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = replace(CIFAR100, url="http://127.0.0.1:1/archive")
    monkeypatch.setattr(cifar100, "CIFAR100", nowhere)
    monkeypatch.setattr("cifar100_transfer.data.fetch.ATTEMPTS", 1)
    said = rf"can't be fetched.* into {tmp_path}, .*--params=raw_data=DIR.*--env=sample"
    with pytest.raises(UserError, match=said):
        read_cifar100(tmp_path)
    assert not (tmp_path / ARCHIVE).exists()


def test_absent_unofficial_data_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path / FOLDER} does not exist"):
        read_cifar100(tmp_path, official=False)


@pytest.mark.parametrize("content", [b"not a folder", gzip.decompress(archive_bytes(tiny()))])
def test_a_file_in_place_of_the_folder_is_not_to_be_deleted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"file is no cifar-100-python\.tar\.gz") as error:
        read_cifar100(tmp_path / "file")
    assert "Delete" not in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_a_user_error(tmp_path: Path, share: float) -> None:
    content = archive_bytes(tiny())
    write_archive(tmp_path, content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"tar\.gz is damaged .*Delete it"):
        read_cifar100(tmp_path, official=False)


WHOLE_ARCHIVE = archive_bytes(tiny())


@given(
    position=st.integers(0, len(WHOLE_ARCHIVE) - 1),
    flipped=st.integers(1, 255),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_never_fails_otherwise(
    tmp_path: Path, position: int, flipped: int
) -> None:
    content = bytearray(WHOLE_ARCHIVE)
    content[position] ^= flipped
    write_archive(tmp_path, bytes(content))
    with contextlib.suppress(UserError):  # a name or a pixel may be changed unnoticed
        read_cifar100(tmp_path, official=False)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_an_altered_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    objects = tiny()
    make_official(monkeypatch, objects)
    write_folder(tmp_path, objects)
    with (tmp_path / FOLDER / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match=rf"{FOLDER}/{name} .* has md5 \w+ instead of"):
        read_cifar100(tmp_path)


def test_other_data_is_not_taken_for_the_official(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="instead of 16019d7e3df5f24257cddd939b257f8d"):
        read_cifar100(write_folder(tmp_path, tiny()))


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.parametrize("write", [write_as_folder, write_as_archive])
def test_a_missing_file_is_named(
    tmp_path: Path, name: str, write: Callable[[Path, dict[str, Any]], Path]
) -> None:
    objects = tiny()
    del objects[name]
    with pytest.raises(UserError, match=f"{FOLDER}/{name}"):
        read_cifar100(write(tmp_path, objects), official=False)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    objects = pickled(tiny())
    secret = tmp_path / "secret"
    secret.write_bytes(objects["train"])
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as tar:
        link = tarfile.TarInfo(f"{FOLDER}/train")
        link.type = tarfile.SYMTYPE
        link.linkname = str(secret)
        tar.addfile(link)
        for name in ("test", "meta"):
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(objects[name])
            tar.addfile(member, io.BytesIO(objects[name]))
    with pytest.raises(UserError, match=f"holds no {FOLDER}/train"):
        read_cifar100(tmp_path, official=False)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_is_refused_before_it_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes
) -> None:
    # Kilobytes that unpack to 64 MB, as a file nobody asked for, or as a header.
    header = tarfile.TarInfo("zeros")
    header.type, header.size = kind, 1 << 26
    with gzip.open(tmp_path / ARCHIVE, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(2):
            file.write(bytes(1 << 25))
    monkeypatch.setattr(cifar100, "MAX_BYTES", 1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="unpacks to more than 1,048,576 bytes"):
            read_cifar100(tmp_path, official=False)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["train", "meta"])
def test_a_hostile_pickle_is_not_executed(tmp_path: Path, name: str) -> None:
    objects = tiny()
    objects[name][b"extra"] = Hostile(tmp_path / "trace")
    with pytest.raises(UserError, match=rf"{FOLDER}/{name}: .*import (posix|nt)\.system"):
        read_cifar100(write_folder(tmp_path, objects), official=False)
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(objects[name], protocol=2))  # the trap is armed
    assert (tmp_path / "trace").exists()


def test_builtins_are_not_importable_either(tmp_path: Path) -> None:
    objects = tiny() | {"meta": b"cbuiltins\neval\n(S'1'\ntR."}
    with pytest.raises(UserError, match=r"import builtins\.eval"):
        read_cifar100(write_folder(tmp_path, objects), official=False)


def change(file: str, key: bytes, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(objects: dict[str, Any]) -> None:
        objects[file][key] = value(objects[file][key]) if callable(value) else value

    return apply


def replace_file(file: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda objects: objects.update({file: value})


def remove(file: str, key: bytes) -> Callable[[dict[str, Any]], None]:
    return lambda objects: objects[file].pop(key)


DATA_MESSAGE = "'data' must be a uint8 array of N rows of 3072 values"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (replace_file("train", [1, 2]), "train holds a list instead of a dictionary"),
        (replace_file("train", b""), "train is no readable pickle"),
        (replace_file("meta", b"garbage"), "meta is no readable pickle"),
        (replace_file("test", pickle.dumps(part(4, 2), 2)[:-900]), "test is no readable pickle"),
        (remove("train", b"data"), "train has no field 'data'"),
        (remove("test", b"fine_labels"), "test has no field 'fine_labels'"),
        (remove("test", b"coarse_labels"), "test has no field 'coarse_labels'"),
        (remove("meta", b"fine_label_names"), "meta has no field 'fine_label_names'"),
        (change("meta", b"coarse_label_names", b"food"), "must be a list of names"),
        (change("meta", b"fine_label_names", [1, 2, 3, 4]), "must be a list of names"),
        (change("meta", b"fine_label_names", [b"a"] * 4), r"\['a'\] occur more than once"),
        (change("train", b"data", lambda data: data.tolist()), DATA_MESSAGE),
        (change("train", b"data", lambda data: data.astype(np.int64)), DATA_MESSAGE),
        (change("train", b"data", lambda data: data[:, :3071]), DATA_MESSAGE),
        (change("train", b"data", lambda data: data.reshape(-1, 3, 1024)), DATA_MESSAGE),
        (change("train", b"data", np.uint8(3)), "train"),
        (change("train", b"data", lambda data: data[:7]), "'fine_labels' must be 7 integers"),
        (change("train", b"fine_labels", [0, 1, 2, 4] * 2), "must be 8 integers from 0 to 3"),
        (change("train", b"fine_labels", [0, 1, 2, -1] * 2), "must be 8 integers from 0 to 3"),
        (change("train", b"fine_labels", [0, 1, 2, 3.0] * 2), "must be 8 integers from 0 to 3"),
        (change("train", b"coarse_labels", [0, 1, 2, 1] * 2), "must be 8 integers from 0 to 1"),
        (change("train", b"coarse_labels", "food"), "must be 8 integers from 0 to 1"),
        (change("train", b"coarse_labels", [0, 1, 0, 1, 0, 1, 0, 0]), "belong to one coarse class"),
        (change("train", b"fine_labels", [0, 1, 2, 1] * 2), "every fine class must occur"),
        (
            change("test", b"coarse_labels", lambda c: [1 - v for v in c]),
            "into different coarse classes",
        ),
    ],
)
def test_another_format_is_named(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], message: str
) -> None:
    objects = tiny()
    spoil(objects)
    with pytest.raises(UserError, match=message):
        read_cifar100(write_folder(tmp_path, objects), official=False)


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_never_fails_otherwise(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match="train"):
        read_cifar100(write_folder(tmp_path, tiny() | {"train": content}), official=False)


@pytest.mark.real_data
def test_the_official_files_hold_what_is_published(real_data: Path) -> None:
    train, test = read_cifar100(real_data)
    assert train.labels[:10].tolist() == [19, 29, 0, 11, 1, 86, 90, 28, 23, 31]
    assert test.labels[:10].tolist() == [49, 33, 72, 51, 71, 92, 15, 14, 23, 0]
    assert train.labels.bincount().tolist() == [500] * 100
    assert test.labels.bincount().tolist() == [100] * 100
    assert (train.class_names[0], train.class_names[-1]) == ("apple", "worm")
    assert torch.tensor(train.coarse_of_class).bincount().tolist() == [5] * 20
    assert train.coarse_of_class == test.coarse_of_class
    statistics = channel_statistics(train.images)
    assert statistics.mean == pytest.approx((0.50707516, 0.48654887, 0.44091784), abs=1e-6)
    assert statistics.std == pytest.approx((0.26733429, 0.25643846, 0.27615047), abs=1e-6)


class Writing:
    """Its pickle writes a file by a function that stands beside the safe names of NumPy."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return np.savetxt, (str(self.trace), [1.0])


def test_of_numpys_module_only_arrays_are_importable(tmp_path: Path) -> None:
    objects = tiny()
    objects["train"][b"extra"] = Writing(tmp_path / "trace")
    with pytest.raises(UserError, match=r"import numpy\.savetxt"):
        read_cifar100(write_folder(tmp_path, objects), official=False)
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(objects["train"], protocol=2))  # the trap is armed
    assert (tmp_path / "trace").exists()
