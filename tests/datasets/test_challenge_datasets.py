"""The challenge, the submission and the folder as catalog entries."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError, Version

from cifar100_transfer.data import challenge
from cifar100_transfer.data.challenge import Submission
from cifar100_transfer.data.sample import generate, write_cifar_archive_folder
from cifar100_transfer.datasets import (
    ChallengeDataset,
    FolderDataset,
    GeneratedChallengeDataset,
    SubmissionDataset,
)
from cifar100_transfer.storage import mark_as_used
from tests.challenge_files import write_random_challenge


def test_own_files_are_taken_as_they_are(tmp_path: Path) -> None:
    written = write_random_challenge(tmp_path, 2)
    dataset = ChallengeDataset(filepath=str(tmp_path), source="own")
    assert dataset.load() == written
    assert tuple(dataset.checksums().values()) == written.digests


def test_files_count_as_official_unless_said_otherwise(tmp_path: Path) -> None:
    write_random_challenge(tmp_path, 2)
    with pytest.raises(DatasetError) as raised:
        ChallengeDataset(filepath=str(tmp_path)).load()
    assert "uint8 [50000, 32, 32, 3]" in str(raised.value.__cause__)


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as raised:
        ChallengeDataset(filepath=str(tmp_path), source="mine").load()
    assert "challenge_source=mine: choose official or own" in str(raised.value.__cause__)


def test_the_generated_challenge_follows_the_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "corrupt", lambda chunk, *_args, **_options: chunk)
    dataset = GeneratedChallengeDataset(filepath=str(tmp_path))
    train = generate("target", "train", 1, seed=0)
    for per_class in (1, 2):
        test = generate("target", "test", per_class, seed=0)
        write_cifar_archive_folder(tmp_path, train, test)
        files = dataset.load()
        assert files.folder == tmp_path / "challenge"
        assert files.images_per_severity == len(test)
        expected = test.images.permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(files.open(18)[-len(test) :], expected)
        digest = hashlib.sha256((files.folder / "distortion18.npy").read_bytes()).hexdigest()
        assert dataset.checksums()["distortion18.npy"] == digest


def test_a_challenge_of_absent_test_images_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as raised:
        GeneratedChallengeDataset(filepath=str(tmp_path)).load()
    assert "run the pipeline 'ingestion' first" in str(raised.value.__cause__)


@pytest.mark.parametrize("name", ["submission.csv", "submission.csv.gz"])
def test_submissions_are_versioned_and_come_back(tmp_path: Path, name: str) -> None:
    labels = np.random.default_rng(0).integers(0, 100, (19, 5, 3)).astype(np.int16)
    dataset = SubmissionDataset(
        filepath=str(tmp_path / name), version=Version(None, "2026-01-01T00.00.00.000Z")
    )
    dataset.save(Submission(labels))
    stored = tmp_path / name / "2026-01-01T00.00.00.000Z" / name
    assert stored.read_bytes().startswith(b"\x1f\x8b" if name.endswith(".gz") else b"id,label\n")
    latest = SubmissionDataset(filepath=str(tmp_path / name), version=Version(None, None))
    np.testing.assert_array_equal(latest.load().labels, labels)


def test_a_folder_is_made_when_asked_for(tmp_path: Path) -> None:
    dataset = FolderDataset(filepath=str(tmp_path / "a" / "b"))
    assert not dataset.exists()
    assert dataset.load() == tmp_path / "a" / "b"
    assert dataset.exists()
    (dataset.load() / "kept").touch()
    assert (dataset.load() / "kept").exists()


def test_a_folder_is_cleared_of_what_is_new_or_was_used(tmp_path: Path) -> None:
    for name in ("another's", "own", ".half"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    dataset = FolderDataset(filepath=str(tmp_path))
    mark_as_used(dataset.load() / "own")
    (tmp_path / "new").touch()
    dataset.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["another's"]
    FolderDataset(filepath=str(tmp_path)).clear()  # in another process than the node's
    assert not tmp_path.exists()
    mark_as_used(tmp_path / "gone")
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    "dataset",
    [
        FolderDataset(filepath="x"),
        ChallengeDataset(filepath="x"),
        GeneratedChallengeDataset(filepath="x"),
    ],
)
def test_inputs_are_never_saved_to(dataset: FolderDataset) -> None:
    with pytest.raises(DatasetError):
        dataset.save("anything")
