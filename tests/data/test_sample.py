"""The embedded data set: deterministic, in CIFAR-100's shape, two tasks without a common class."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar100_transfer.data.image_set import ImageSet
from cifar100_transfer.data.sample import generate, write_cifar_archive_folder
from cifar100_transfer.errors import UserError


@pytest.fixture(scope="module")
def target() -> ImageSet:
    return generate("target", "train", 3, 0)


@pytest.mark.parametrize("task", ["target", "pretraining"])
def test_has_the_shape_of_cifar_100(task):
    images = generate(task, "test", 2, 1)
    assert images.images.shape == (200, 3, 32, 32)
    assert images.images.dtype == torch.uint8
    assert images.labels.bincount(minlength=100).tolist() == [2] * 100
    assert list(images.class_names) == sorted(set(images.class_names))
    assert len(images.class_names) == 100
    assert list(images.coarse_names) == sorted(set(images.coarse_names))
    assert np.bincount(images.coarse_of_class).tolist() == [5] * 20


def test_tasks_share_no_class_and_every_word(target):
    pretraining = generate("pretraining", "train", 1, 0)
    assert not set(target.class_names) & set(pretraining.class_names)
    words = [{w for n in s.class_names for w in n.split("_")} for s in (target, pretraining)]
    assert words[0] == words[1]


@settings(max_examples=3)
@given(st.integers(0, 2**40), st.sampled_from(["target", "pretraining"]))
def test_same_arguments_give_same_images_and_other_streams_others(seed, task):
    train = generate(task, "train", 1, seed)
    again = generate(task, "train", 1, seed)
    assert torch.equal(train.images, again.images)
    assert torch.equal(train.labels, again.labels)
    for other in (generate(task, "test", 1, seed), generate(task, "train", 1, seed + 1)):
        seen = {image.numpy().tobytes() for image in train.images}
        assert not seen & {image.numpy().tobytes() for image in other.images}


def test_images_are_the_same_on_every_machine():
    images = generate("target", "train", 1, 0)
    digest = hashlib.sha256(images.images.numpy().tobytes())
    digest.update(images.labels.numpy().astype("<i8").tobytes())
    assert digest.hexdigest() == (
        "3cadb92b9c3a5df0eab1b2360141f56096b9f150defe87937290fcf9bf0ce040"
    )


def test_images_vary_within_a_class_and_use_the_range(target):
    of_one_class = target.images[target.labels == 0].float()
    assert (of_one_class[0] - of_one_class[1]).abs().mean() > 10
    assert target.images.float().std() > 40


@pytest.mark.parametrize(
    "arguments",
    [
        ("other", "train", 1, 0),
        ("target", "validation", 1, 0),
        ("target", "train", 0, 0),
        ("target", "train", 1, -1),
    ],
)
def test_impossible_arguments_are_named(arguments):
    with pytest.raises(UserError, match=r"task|per_class"):
        generate(*arguments)


class _Reader(pickle.Unpickler):
    """Allows what the official files need, and nothing else."""

    def find_class(self, module, name):
        allowed = {("numpy", "ndarray"), ("numpy", "dtype")}
        core = module in ("numpy.core.multiarray", "numpy._core.multiarray")
        assert (module, name) in allowed or (core and name == "_reconstruct"), (module, name)
        return super().find_class(module, name)


def _read(path: Path):
    with path.open("rb") as file:
        return _Reader(file, encoding="bytes").load()


def test_archive_folder_is_cifar_100s(tmp_path, target):
    test = generate("target", "test", 1, 0)
    write_cifar_archive_folder(tmp_path, target, test)
    folder = tmp_path / "cifar-100-python"
    assert sorted(p.name for p in folder.iterdir()) == ["meta", "test", "train"]
    meta = _read(folder / "meta")
    assert meta[b"fine_label_names"] == [n.encode() for n in target.class_names]
    assert meta[b"coarse_label_names"] == [n.encode() for n in target.coarse_names]
    for name, images in (("train", target), ("test", test)):
        batch = _read(folder / name)
        assert set(batch) == {
            b"filenames",
            b"batch_label",
            b"fine_labels",
            b"coarse_labels",
            b"data",
        }
        assert batch[b"data"].dtype == np.uint8
        assert batch[b"data"].shape == (len(images), 3 * 32 * 32)
        assert batch[b"batch_label"] == f"{name}ing batch 1 of 1".encode()
        assert all(file.startswith(f"{name}_".encode()) for file in batch[b"filenames"])
        assert np.array_equal(batch[b"data"].reshape(-1, 3, 32, 32), images.images.numpy())
        assert batch[b"fine_labels"] == images.labels.tolist()
        assert batch[b"coarse_labels"] == [
            images.coarse_of_class[label] for label in batch[b"fine_labels"]
        ]
        assert len(set(batch[b"filenames"])) == len(images)


@pytest.mark.real_data
def test_archive_has_the_keys_and_types_of_the_official_one(tmp_path, target, real_data):
    write_cifar_archive_folder(tmp_path, target, target)
    for name in ("test", "meta"):
        ours, official = (_read(root / "cifar-100-python" / name) for root in (tmp_path, real_data))
        assert {k: type(v) for k, v in ours.items()} == {k: type(v) for k, v in official.items()}
        assert all(
            type(v[0]) is type(official[k][0]) for k, v in ours.items() if isinstance(v, list)
        )


def test_archive_refuses_mixed_tasks(tmp_path, target):
    with pytest.raises(UserError, match="differ in their classes"):
        write_cifar_archive_folder(tmp_path, target, generate("pretraining", "test", 1, 0))
    assert not list(tmp_path.iterdir())
