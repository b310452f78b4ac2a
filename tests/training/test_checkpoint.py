"""A resume point is used by the same training alone, and only if it is whole."""

import copy
import hashlib
import io
import logging
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar100_transfer.training import checkpoint
from cifar100_transfer.training.checkpoint import (
    ResumePoint,
    identify,
    load_resume_point,
    save_resume_point,
)
from tests.hostile import Hostile

IDENTITY = identify({"seed": 0, "size": (8, 8), "optimizer": {"name": "sgd", "rate": 0.1}})


def point(epoch: int = 2) -> ResumePoint:
    return ResumePoint(
        identity=IDENTITY,
        circumstances={},
        epoch=epoch,
        weights={"weight": torch.arange(4.0)},
        optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        average={"shadow": {"weight": torch.zeros(4)}},
        best_weights={"weight": torch.ones(4)},
        history=[{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}][:epoch],
    )


def plain(values: Any) -> Any:
    """Turn tensors into lists, so that states can be compared."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    return values.tolist() if isinstance(values, torch.Tensor) else values


@pytest.mark.parametrize("stored", [point(), replace(point(), average=None, best_weights=None)])
def test_a_resume_point_comes_back(
    tmp_path: Path, stored: ResumePoint, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        save_resume_point(tmp_path / "new", stored)
        loaded = load_resume_point(tmp_path / "new", IDENTITY, {})
    assert loaded is not None
    assert plain(asdict(loaded)) == plain(asdict(stored))
    file = tmp_path / "new" / "resume.pt"
    assert caplog.messages == [f"Going on after epoch 2 of an interrupted run ({file})"]


def test_storing_copies_no_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of a large network's weights and optimiser would be the peak of a whole training."""

    def refuse(*_: object) -> None:
        raise AssertionError("a copy")

    monkeypatch.setattr(copy, "deepcopy", refuse)
    save_resume_point(tmp_path, point())
    monkeypatch.undo()
    assert load_resume_point(tmp_path, IDENTITY, {}) is not None


def test_a_full_disk_is_said_and_the_older_point_stays(tmp_path: Path) -> None:
    save_resume_point(tmp_path, point(1))
    larger = replace(point(2), weights={"weight": torch.zeros(100_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_resume_point(tmp_path, larger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    loaded = load_resume_point(tmp_path, IDENTITY, {})
    assert loaded is not None
    assert loaded.epoch == 1
    assert [file.name for file in tmp_path.iterdir()] == ["resume.pt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space")])
def test_what_ends_a_write_comes_out_as_itself_and_the_older_point_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Ctrl-C or a full disk, at any of torch's writes; its own error would hide them."""
    write = checkpoint._Digested.write
    writes, last = 0, 0

    def ending(file: checkpoint._Digested, content: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == last:
            raise error
        return write(file, content)

    save_resume_point(tmp_path, point(1))
    monkeypatch.setattr(checkpoint._Digested, "write", ending)
    save_resume_point(tmp_path / "counted", point(2))
    for last in range(1, writes + 1):  # noqa: B007 - read by `ending`
        writes = 0
        with pytest.raises(type(error)):
            save_resume_point(tmp_path, point(2))
        assert [file.name for file in tmp_path.glob("*.pt")] == ["resume.pt"]
    loaded = load_resume_point(tmp_path, IDENTITY, {})
    assert loaded is not None
    assert loaded.epoch == 1


def test_a_resume_point_that_is_gone_on_from_is_the_run_s_own(tmp_path: Path) -> None:
    save_resume_point(tmp_path, point())
    file = tmp_path / "resume.pt"
    os.utime(file, (0, 0))
    assert load_resume_point(tmp_path, {"seed": "another"}, {}) is None
    assert file.stat().st_mtime == 0
    assert load_resume_point(tmp_path, point().identity, {})
    assert file.stat().st_mtime > 0


def test_a_folder_that_another_run_clears_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared = False
    write = checkpoint._Digested.write

    def clearing(file: checkpoint._Digested, content: bytes) -> int:
        nonlocal cleared
        if not cleared:
            shutil.rmtree(tmp_path / "resume")
            cleared = True
        return write(file, content)

    monkeypatch.setattr(checkpoint._Digested, "write", clearing)
    save_resume_point(tmp_path / "resume", point(1))
    loaded = load_resume_point(tmp_path / "resume", IDENTITY, {})
    assert loaded is not None
    assert loaded.epoch == 1


def test_there_is_one_and_it_is_the_newest(tmp_path: Path) -> None:
    save_resume_point(tmp_path, point(1))
    save_resume_point(tmp_path, point(2))
    assert [path.name for path in tmp_path.iterdir()] == ["resume.pt"]
    loaded = load_resume_point(tmp_path, IDENTITY, {})
    assert loaded is not None
    assert loaded.epoch == 2


def test_without_one_there_is_none_and_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_resume_point(tmp_path, IDENTITY, {}) is None
    (tmp_path / "resume.pt").mkdir()
    assert load_resume_point(tmp_path, IDENTITY, {}) is None
    assert not caplog.records


def test_tensors_are_put_on_the_cpu_wherever_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    load = torch.load

    def spy(*arguments: Any, **options: Any) -> Any:
        asked.append(options)
        return load(*arguments, **options)

    save_resume_point(tmp_path, point())
    monkeypatch.setattr(torch, "load", spy)
    load_resume_point(tmp_path, IDENTITY, {})
    assert asked == [{"map_location": "cpu", "weights_only": True}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"optimizer": {"name": "adam", "rate": 0.1}}, "optimizer.name was 'sgd' and is 'adam'"),
        ({"more": True}, "more was None and is True"),
        ({"seed": 1, "size": (9, 8)}, "seed was 0 and is 1, size was [8, 8] and is [9, 8]"),
    ],
)
def test_one_of_another_training_is_left_unused_with_the_difference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], said: str
) -> None:
    save_resume_point(tmp_path, point())
    wanted = {"seed": 0, "size": (8, 8), "optimizer": {"name": "sgd", "rate": 0.1}} | changes
    assert load_resume_point(tmp_path, identify(wanted), {}) is None
    file = tmp_path / "resume.pt"
    assert caplog.messages == [
        f"{file} of epoch 2 is not used, and the first epoch will replace it: {said}"
    ]
    assert file.exists()


def sealed(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


def torched(values: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: b"", "it is damaged, or no resume point"),
        (lambda content: content[:-1], "it is damaged, or no resume point"),
        (lambda content: content + b"x", "it is damaged, or no resume point"),
        (lambda content: content[32:], "it is damaged, or no resume point"),
        (lambda content: sealed(b""), "it is no resume point"),
        (lambda content: sealed(b"no pickle"), "it is no resume point"),
        (lambda content: sealed(torched(Hostile(Path("executed")))), "it is no resume point"),
        (lambda content: sealed(torched([1])), "it is of another version"),
        (lambda content: sealed(torched({"epoch": 1})), "it is of another version"),
        (
            lambda content: sealed(torched({"version": 1, **asdict(point())})),
            "it is of another version",
        ),
        (lambda content: sealed(torched({"version": 2, "epoch": 1})), "it is of another version"),
    ],
)
def test_a_damaged_or_foreign_one_is_left_unused_and_nothing_is_executed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[bytes], bytes],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_resume_point(tmp_path, point())
    file = tmp_path / "resume.pt"
    file.write_bytes(spoil(file.read_bytes()))
    assert load_resume_point(tmp_path, IDENTITY, {}) is None
    assert caplog.messages == [f"{file} is not used: {said}"]
    assert caplog.records[0].levelno == logging.WARNING
    assert not (tmp_path / "executed").exists()


def test_descriptions_are_flat_and_plain() -> None:
    assert identify({"a": {"b": {"c": (1, 2)}, "d": None}, "e": 1.5}) == {
        "a.b.c": [1, 2],
        "a.d": None,
        "e": 1.5,
    }
