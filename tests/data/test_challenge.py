"""The challenge files and the submission: layout, checks, and what happens when they fail."""

import csv
import errno
import gzip
import hashlib
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar100_transfer.data import challenge
from cifar100_transfer.data.challenge import (
    DISTORTIONS,
    Submission,
    challenge_path,
    check_submission,
    open_file,
    open_official_challenge,
    open_own_challenge,
    read_submission,
    write_challenge,
    write_submission,
)
from cifar100_transfer.data.corruptions import CORRUPTIONS, corrupt
from cifar100_transfer.errors import UserError
from tests.challenge_files import write_random_challenge
from tests.hostile import Hostile

N = 3


def random_submission(images: int, seed: int = 0) -> Submission:
    generator = np.random.default_rng(seed)
    return Submission(generator.integers(0, 100, (19, 5, images)).astype(np.int16))


def rows_one_by_one(submission: Submission) -> list[tuple[str, str]]:
    """The rows as the specification says it, slowly."""
    return [("id", "label")] + [
        (
            f"distortion{distortion:02d}_{severity}_{index}",
            str(int(submission.labels[distortion, severity - 1, index])),
        )
        for distortion in range(19)
        for severity in (1, 2, 3, 4, 5)
        for index in range(submission.images_per_severity)
    ]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (N, 3, 32, 32), generator=generator).to(torch.uint8)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, images: torch.Tensor) -> Path:
    """A challenge folder made of `images`; tests only read it."""
    folder = tmp_path_factory.mktemp("challenge")
    write_challenge(folder, images)
    return folder


def full_disk(*_args: Any, **_options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- files


def test_the_published_facts_are_complete() -> None:
    assert DISTORTIONS[0] == "distortion00"
    assert DISTORTIONS[18] == "distortion18"
    assert len(DISTORTIONS) == len(set(challenge.FILE_SHA256)) == len(CORRUPTIONS) == 19
    assert all(len(digest) == 64 for digest in challenge.FILE_SHA256)


def test_written_files_have_the_layout_of_the_official_ones(
    written: Path, images: torch.Tensor
) -> None:
    files = open_own_challenge(written)
    assert files.images_per_severity == N
    for distortion in (0, 13):
        rows = files.open(distortion)
        assert rows.dtype == np.uint8
        assert rows.shape == (5 * N, 32, 32, 3)
        assert not rows.flags.writeable
        for severity in (1, 5):
            expected = corrupt(images, CORRUPTIONS[distortion], severity, seed=0)
            found = rows[(severity - 1) * N : severity * N].transpose(0, 3, 1, 2)
            np.testing.assert_array_equal(found, expected.numpy())
    # 128 bytes of header, as the official 153,600,128 bytes have.
    assert challenge_path(written, 0).stat().st_size == 128 + 5 * N * 32 * 32 * 3


def test_digests_are_those_of_the_files_and_follow_a_change(tmp_path: Path) -> None:
    files = write_random_challenge(tmp_path, 1)
    for distortion in (0, 18):
        content = challenge_path(tmp_path, distortion).read_bytes()
        assert files.digests[distortion] == hashlib.sha256(content).hexdigest()
    np.save(challenge_path(tmp_path, 4), np.zeros((5, 32, 32, 3), np.uint8))
    after = open_own_challenge(tmp_path).digests
    assert [a == b for a, b in zip(files.digests, after, strict=True)].index(False) == 4
    assert after[:4] + after[5:] == files.digests[:4] + files.digests[5:]


def test_digests_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_random_challenge(tmp_path, 1)
    monkeypatch.setattr(challenge, "file_digest", full_disk)
    assert open_own_challenge(tmp_path).digests == files.digests


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_random_challenge(tmp_path, 1)
    (tmp_path / ".sha256.json").unlink()
    monkeypatch.setattr(challenge, "atomic_path", full_disk)
    assert open_own_challenge(tmp_path).digests == files.digests


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((5 * N, 32, 32, 3), np.float32), "holds float32"),
        (np.zeros((5 * N, 3, 32, 32), np.uint8), r"\[15, 3, 32, 32\] instead"),
        (np.zeros((5 * N + 5, 32, 32, 3), np.uint8), r"instead of uint8 \[15, 32, 32, 3\]"),
        (np.zeros((5 * N - 1, 32, 32, 3), np.uint8), r"\[14, 32, 32, 3\]"),
        (np.array([{"a": 1}], object), "is no NumPy file"),
    ],
)
def test_a_file_of_another_type_or_shape_is_refused(tmp_path: Path, array: Any, said: str) -> None:
    np.save(tmp_path / "distortion03.npy", array)
    with pytest.raises(UserError, match=said) as raised:
        open_file(tmp_path / "distortion03.npy", N)
    assert "distortion03.npy" in str(raised.value)


def test_an_archive_of_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "distortion03.npz", np.zeros(3))
    path = (tmp_path / "distortion03.npz").rename(tmp_path / "distortion03.npy")
    with pytest.raises(UserError, match=r"distortion03\.npy is an archive"):
        open_file(path)


@pytest.mark.parametrize(
    ("found", "damaged"),
    [
        (b"(15, 32, 32, 3)", b"(15, 32, 32, 3("),
        (b"(15, 32, 32, 3)", b"(10**99, 2, 3) "),
        (b"(15, 32, 32, 3)", b"(-5, 32, 32, 3)"),
        (b"'fortran_order'", b"[             ]"),
    ],
)
def test_a_file_with_a_damaged_header_is_refused(
    tmp_path: Path, found: bytes, damaged: bytes
) -> None:
    path = tmp_path / "distortion03.npy"
    np.save(path, np.zeros((15, 32, 32, 3), np.uint8))
    content = path.read_bytes()
    assert found in content
    path.write_bytes(content.replace(found, damaged))
    with pytest.raises(UserError, match=r"distortion03\.npy is no NumPy file"):
        open_file(path)


@pytest.mark.parametrize("change", [-1, 1, -20_000])
def test_a_file_of_another_size_is_refused(tmp_path: Path, change: int) -> None:
    write_random_challenge(tmp_path, N)
    path = challenge_path(tmp_path, 7)
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + b"x")
    with pytest.raises(UserError, match=r"distortion07\.npy .*delete it"):
        open_own_challenge(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_random_challenge(tmp_path, 1)
    challenge_path(tmp_path, 11).unlink()
    with pytest.raises(UserError, match=r"distortion11\.npy does not exist"):
        open_own_challenge(tmp_path)


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "distortion03.npy", np.zeros((0, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"distortion03\.npy"):
        open_file(tmp_path / "distortion03.npy")


def test_a_pickle_in_place_of_a_file_is_not_executed(tmp_path: Path) -> None:
    path, trace = tmp_path / "distortion03.npy", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(UserError, match=r"distortion03\.npy is no NumPy file"):
        open_file(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # the trap is armed
    assert trace.exists()


def test_a_file_that_was_replaced_since_is_refused(tmp_path: Path) -> None:
    files = write_random_challenge(tmp_path, 2)
    np.save(challenge_path(tmp_path, 5), np.zeros((5, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"distortion05\.npy holds uint8 \[5, 32, 32, 3\]"):
        files.open(5)


def test_files_of_unequal_length_are_refused(tmp_path: Path) -> None:
    write_random_challenge(tmp_path, 2)
    np.save(challenge_path(tmp_path, 5), np.zeros((5, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"distortion05\.npy"):
        open_own_challenge(tmp_path)


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose tiny files count as the official ones."""
    files = write_random_challenge(tmp_path, 1)
    monkeypatch.setattr(challenge, "FILE_SHA256", files.digests)
    monkeypatch.setattr(challenge, "IMAGES_PER_SEVERITY", 1)
    return tmp_path


def test_official_files_are_accepted_without_a_network(
    official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", full_disk)
    assert open_official_challenge(official).digests == challenge.FILE_SHA256


def test_an_altered_official_file_is_refused_with_both_checksums(official: Path) -> None:
    content = bytearray(challenge_path(official, 2).read_bytes())
    content[-1] ^= 1
    challenge_path(official, 2).write_bytes(content)
    with pytest.raises(UserError, match=r"distortion02\.npy has sha256") as raised:
        open_official_challenge(official)
    assert challenge.FILE_SHA256[2] in str(raised.value)
    assert hashlib.sha256(content).hexdigest() in str(raised.value)
    assert "challenge_source=own" in str(raised.value)


def test_a_file_of_another_kind_is_named_before_others_are_fetched(
    official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge_path(official, 0).write_bytes(b"no array")
    challenge_path(official, 9).unlink()
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UserError, match=r"distortion00\.npy.*challenge_source=own"):
        open_official_challenge(official)


def test_only_absent_files_are_fetched_from_the_published_place(
    official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = challenge_path(official, 9)
    content = hidden.read_bytes()
    hidden.unlink()
    asked = []

    def fetch(url: str, destination: Path, digest: str, advice: str) -> None:
        if not destination.exists():
            asked.append((url, digest))
            destination.write_bytes(content)

    monkeypatch.setattr(challenge, "fetch", fetch)
    open_official_challenge(official)
    assert asked == [
        (
            "https://github.com/DL4DS/ood-test-files/raw/refs/heads/main/ood-test/distortion09.npy",
            f"sha256:{challenge.FILE_SHA256[9]}",
        )
    ]


def test_absent_files_without_a_network_say_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", full_disk)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with pytest.raises(UserError) as raised:
        open_official_challenge(tmp_path / "challenge")
    for hint in (str(tmp_path / "challenge"), "distortion18.npy", "challenge_data=DIR", "--env"):
        assert hint in str(raised.value)


# --- writing a challenge


def test_writing_resumes_and_equals_one_go(
    tmp_path: Path, written: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(chunk: torch.Tensor, corruption: str, *args: Any, **options: Any) -> torch.Tensor:
        calls.append(corruption)
        if corruption == "impulse_noise" and len(calls) < 14:
            raise KeyboardInterrupt
        return corrupt(chunk, corruption, *args, **options)

    monkeypatch.setattr(challenge, "corrupt", counted)
    with pytest.raises(KeyboardInterrupt):
        write_challenge(tmp_path, images)
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == [
        "distortion00.npy",
        "distortion01.npy",
    ]
    calls += ["mark"] * 4
    write_challenge(tmp_path, images)
    assert not {"gaussian_noise", "shot_noise"} & set(calls[calls.index("mark") :])
    assert open_own_challenge(tmp_path).digests == open_own_challenge(written).digests


def test_written_in_pieces_a_file_is_the_same(
    tmp_path: Path, written: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "_WRITE_CHUNK", 2)
    write_challenge(tmp_path, images)
    assert open_own_challenge(tmp_path).digests == open_own_challenge(written).digests


@pytest.mark.parametrize("change", ["number", "pixel", "seed"])
def test_files_of_other_images_are_replaced(
    tmp_path: Path, images: torch.Tensor, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def marked(chunk: torch.Tensor, _: str, __: int, seed: int, first_index: int) -> torch.Tensor:
        return chunk + seed

    monkeypatch.setattr(challenge, "corrupt", marked)
    write_challenge(tmp_path, images)
    other, seed = images.clone(), 0
    if change == "number":
        other = other[:2]
    elif change == "pixel":
        other[0, 0, 0, 0] += 1
    else:
        seed = 1
    write_challenge(tmp_path, other, seed)
    rows = open_own_challenge(tmp_path).open(18)[: len(other)].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(rows, (other + seed).numpy())


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_note_of_where_files_came_from_claims_nothing(
    tmp_path: Path, images: torch.Tensor, content: str
) -> None:
    before = write_random_challenge(tmp_path, N).digests
    (tmp_path / challenge._SOURCE).write_text(content, encoding="utf-8")
    (tmp_path / challenge._DIGESTS).write_text(content, encoding="utf-8")
    assert open_own_challenge(tmp_path).digests == before
    with pytest.raises(UserError, match="were not made here"):
        write_challenge(tmp_path, images)


def test_a_seed_that_is_none_costs_no_file(tmp_path: Path, images: torch.Tensor) -> None:
    write_challenge(tmp_path, images)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="seed must be at least 0, got -1"):
        write_challenge(tmp_path, images, -1)
    assert sorted(tmp_path.iterdir()) == before


def test_foreign_files_are_never_replaced(tmp_path: Path, images: torch.Tensor) -> None:
    before = write_random_challenge(tmp_path, N).digests
    with pytest.raises(UserError, match="were not made here"):
        write_challenge(tmp_path, images)
    assert open_own_challenge(tmp_path).digests == before


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(2, 3, 32, 32),
        torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
        torch.zeros(0, 3, 32, 32, dtype=torch.uint8),
    ],
)
def test_a_challenge_is_made_of_bytes_of_32_pixels(tmp_path: Path, bad: torch.Tensor) -> None:
    with pytest.raises(UserError, match="a challenge is made of"):
        write_challenge(tmp_path, bad)


def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full_disk)
    with pytest.raises(UserError, match=r"distortion00\.npy can't be written \(No space left"):
        write_challenge(tmp_path, images)
    assert [path.name for path in tmp_path.iterdir()] == [".source.json"]


# --- submission


@settings(max_examples=10)
@given(images=st.integers(1, 120), seed=st.integers(0, 99), suffix=st.sampled_from(["", ".gz"]))
def test_the_file_equals_the_slow_reference_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, images: int, seed: int, suffix: str
) -> None:
    submission = random_submission(images, seed)
    path = tmp_path_factory.mktemp("submission") / f"submission.csv{suffix}"
    write_submission(submission, path)
    content = path.read_bytes()
    text = (gzip.decompress(content) if suffix else content).decode("ascii")
    expected = rows_one_by_one(submission)
    assert text == "".join(f"{first},{second}\n" for first, second in expected)
    assert [tuple(row) for row in csv.reader(text.splitlines())] == expected
    np.testing.assert_array_equal(read_submission(path).labels, submission.labels)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_equal_submissions_are_equal_compressed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, name in enumerate(("a", "b")):
        monkeypatch.setattr(time, "time", lambda day=day: 86_400 * day)  # gzip would write it down
        write_submission(random_submission(2), tmp_path / name / "submission.csv.gz")
    first, second = ((tmp_path / name / "submission.csv.gz").read_bytes() for name in ("a", "b"))
    assert first == second


def good_table(images: int = 2) -> pd.DataFrame:
    rows = rows_one_by_one(random_submission(images))
    return pd.DataFrame(
        {"id": [row[0] for row in rows[1:]], "label": [int(row[1]) for row in rows[1:]]}
    )


def test_a_right_table_passes() -> None:
    check_submission(good_table(), 2)


def swapped(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[[1, 0, *range(2, len(table))]].reset_index(drop=True)


def labelled(value: Any) -> Any:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(label=[*table["label"][:7], value, *table["label"][8:]])

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.iloc[:-1], "has 190 rows here, not 189"),
        (lambda table: pd.concat([table, table.tail(1)]), "has 190 rows here, not 191"),
        (swapped, "row 1 of the submission has id 'distortion00_1_1' instead of .*2 ids"),
        (lambda table: table.replace("distortion18_5_1", "distortion18_5_01"), "row 190"),
        (lambda table: table.rename(columns={"label": "class"}), "header"),
        (lambda table: table[["label", "id"]], "header"),
        (labelled(100), "row 8 of the submission has label 100"),
        (labelled(-1), "row 8 of the submission has label -1"),
        (labelled(1.5), "label .*integers"),
        (labelled("apple"), "row 8 of the submission has label apple"),
        (labelled(""), "row 8 of the submission has label : "),
    ],
)
def test_whatever_breaks_the_specification_is_named(change: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_submission(change(good_table()), 2)


@pytest.mark.parametrize("label", [100, 1000, -1])
def test_a_wrong_submission_is_never_published(tmp_path: Path, label: int) -> None:
    path = tmp_path / "submission.csv"
    write_submission(random_submission(2), path)
    before = path.read_bytes()
    wrong = random_submission(2)
    wrong.labels[4, 2, 1] = label
    with pytest.raises(UserError, match="label"):
        write_submission(wrong, path)
    with pytest.raises(UserError, match="label"):
        write_submission(wrong, tmp_path / "other.csv")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["submission.csv"]


def test_a_full_disk_leaves_no_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_before = challenge._write_rows

    def fill(submission: Submission, file: Any) -> None:
        written_before(submission, file)
        full_disk()

    monkeypatch.setattr(challenge, "_write_rows", fill)
    with pytest.raises(UserError, match=r"can't be written \(No space left"):
        write_submission(random_submission(2), tmp_path / "submission.csv")
    assert not list(tmp_path.iterdir())


def test_a_damaged_submission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    write_submission(random_submission(2), path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(UserError, match=r"submission\.csv: a submission has"):
        read_submission(path)
    path.with_suffix(".csv.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"submission\.csv\.gz is no CSV"):
        read_submission(path.with_suffix(".csv.gz"))


def test_no_flipped_bit_of_a_compressed_submission_is_more_than_an_error(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv.gz"
    write_submission(random_submission(2), path)
    content = path.read_bytes()
    for position in range(10, len(content) - 8, len(content) // 40):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :]
        )
        with pytest.raises(UserError, match=r"submission\.csv\.gz"):
            read_submission(path)
