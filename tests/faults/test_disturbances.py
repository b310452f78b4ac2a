"""Disks, clocks, names and other runs that are not as one wishes."""

import errno
import os
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError, Version

from cifar100_transfer import hooks
from cifar100_transfer.data import files
from cifar100_transfer.data.image_set import ImageSet
from cifar100_transfer.datasets import JSONDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import atomic_path
from tests.faults.conftest import ENVIRONMENT
from tests.pipelines.conftest import ROOT, Run


def stored(project: Path) -> list[Path]:
    """Return everything that lies under its final name."""
    return sorted(
        path
        for path in (project / "data").rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )


def test_a_full_disk_is_one_line_and_leaves_no_half_file(project: Path) -> None:
    # A limit on the size of files makes the same error, at the same call, as a full disk.
    limit = 200_000
    (project / "src").mkdir()
    ended = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("kedro")), "run", "--env=sample"),
            *("--pipelines=ingestion", "--to-outputs=train_set"),
        ],
        cwd=project,
        env=ENVIRONMENT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    (error,) = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    assert "File too large: mend that and run again; what was finished is kept" in error
    assert str(project / "data") in error
    assert all(path.stat().st_size < limit for path in stored(project))
    assert not [path for path in (project / "data").rglob(".*") if path.name != ".gitkeep"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_what_the_file_system_refuses_names_the_file(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UserError, match=f"{project}/data.*: {said}: mend that and run again"):
        run("ingestion")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(project: Path, run: Run) -> None:
    (project / "data").mkdir(mode=0o500)
    with pytest.raises(UserError, match="Permission denied"):
        run("ingestion")


def test_a_file_in_the_place_of_the_data_folder_is_one_line(project: Path, run: Run) -> None:
    (project / "data").write_text("in the way")
    with pytest.raises(UserError, match=r"data.*: (Not a directory|File exists): mend that"):
        run("ingestion")


def test_raw_data_that_cannot_be_written_to_is_read_all_the_same(project: Path, run: Run) -> None:
    run("ingestion", to_outputs=["train_set"])
    raw = project / "data" / "sample" / "01_raw"
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    raw.chmod(0o500)
    (raw / "cifar-100-python").chmod(0o500)
    run("ingestion", to_outputs=["train_set"])
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


def test_an_artifact_that_vanished_between_two_nodes_is_named(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = files.save_image_set

    def save_and_lose(images: ImageSet, path: Path) -> None:
        save(images, path)
        if path.name == "test_set.safetensors":
            path.with_name("train_set.safetensors").unlink()

    monkeypatch.setattr(files, "save_image_set", save_and_lose)
    with pytest.raises(UserError, match=r"train_set.* does not exist yet: run the pipeline"):
        run("ingestion")
    monkeypatch.undo()
    run("ingestion")


def test_after_a_clock_went_back_nothing_new_hides_behind_old_results(
    project: Path, run: Run
) -> None:
    run("ingestion", to_outputs=["class_counts"])
    (stored_first,) = (project / "data").rglob("class_counts.csv/*/class_counts.csv")
    future = stored_first.parents[1] / "2999-01-01T00.00.00.000Z"
    future.mkdir()
    run(
        "ingestion", to_outputs=["class_counts"]
    )  # a folder without an artifact in it is no version
    (future / "class_counts.csv").write_bytes(stored_first.read_bytes())
    before = stored(project)
    with pytest.raises(UserError, match=r"'class_counts' has a version of 2999-.*set the clock"):
        run("ingestion", to_outputs=["class_counts"])
    assert stored(project) == before


def test_a_run_that_began_before_a_later_one_stored_is_not_refused(project: Path, run: Run) -> None:
    bootstrap_project(ROOT)
    with KedroSession.create(
        project_path=project, env="sample", conf_source=str(project / "conf")
    ) as first:
        run("ingestion", to_outputs=["class_counts"])
        first.run(pipeline_names=["ingestion"], to_outputs=["class_counts"])
    assert len(list((project / "data").rglob("class_counts.csv/*/class_counts.csv"))) == 2


def test_an_ingestion_that_was_stopped_leaves_no_mixed_sets_to_train_on(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("ingestion")
    save = files.save_image_set

    def save_until_stopped(images: ImageSet, path: Path) -> None:
        if path.name == "validation_set.safetensors":
            raise KeyboardInterrupt
        save(images, path)

    other = {"split": {"validation_share": 0.2, "seed": 1}}
    with monkeypatch.context() as patch:
        patch.setattr(files, "save_image_set", save_until_stopped)
        with pytest.raises(KeyboardInterrupt):
            run("ingestion", parameters=other)
    to_outputs = ["simple_cnn.metrics"]
    with pytest.raises(UserError, match="train_set and validation_set are of different ingestio"):
        run("simple_cnn", namespaces=["simple_cnn"], to_outputs=to_outputs)
    run("simple_cnn", to_outputs=to_outputs)


def numbers(folder: Path, version: str) -> JSONDataset:
    """Return the dataset as a run of that version has it."""
    return JSONDataset(filepath=str(folder / "numbers.json"), version=Version(None, version))


def test_a_run_goes_on_with_its_own_results_while_another_stores_newer_ones(tmp_path: Path) -> None:
    first, second = numbers(tmp_path, "2024-01-01"), numbers(tmp_path, "2024-01-02")
    second.save({"run": 2})
    with warnings.catch_warnings(action="error"):  # Kedro's, that the versions don't match
        first.save({"run": 1})
    assert (first.load(), second.load()) == ({"run": 1}, {"run": 2})
    assert numbers(tmp_path, "2024-01-03").load() == {"run": 2}


def test_processes_of_one_run_share_its_version_though_another_is_newer(tmp_path: Path) -> None:
    numbers(tmp_path, "2024-01-01").save({"run": 1})
    numbers(tmp_path, "2024-01-02").save({"run": 2})
    # As in a process of its own, where nothing was saved.
    of_first = numbers(tmp_path, "2024-01-01")
    assert of_first.load() == {"run": 1}
    assert of_first.has_version("2024-01-01")
    assert not of_first.has_version("2024-01-03")
    assert numbers(tmp_path, "2024-01-03").load() == {"run": 2}


def test_a_file_that_another_run_replaced_is_taken_only_if_it_is_the_same(tmp_path: Path) -> None:
    first, second = (JSONDataset(filepath=str(tmp_path / "numbers.json")) for _ in range(2))
    first.save({"seed": 1})
    second.save({"seed": 1})
    assert first.load() == {"seed": 1}
    second.save({"seed": 2})
    with pytest.raises(DatasetError, match=r"numbers\.json was replaced by another run"):
        first.load()
    assert second.load() == {"seed": 2}


def test_two_runs_at_once_both_end_as_if_alone(project: Path) -> None:
    (project / "src").mkdir()
    command = [str(Path(sys.executable).with_name("kedro")), "run", "--env=sample"]
    parameters = "--params=split.validation_share=0.2,simple_cnn.training.epochs=2"
    outputs = "--to-outputs=simple_cnn.classifier,simple_cnn.metrics"  # no figures
    both = [
        subprocess.Popen(
            [*command, "--pipelines=simple_cnn", parameters, outputs],
            cwd=project,
            env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    sample = project / "data" / "sample"
    for name in (
        "06_models/simple_cnn/classifier.safetensors",
        "08_reporting/simple_cnn/metrics.json",
    ):
        versions = [path.read_bytes() for path in (sample / name).glob("*/*")]
        assert len(versions) == 2
        assert versions[0] == versions[1]


def test_links_spaces_and_letters_of_all_kinds(project: Path, run: Run, tmp_path: Path) -> None:
    real = tmp_path / "größte Daten - 数据"
    real.mkdir()
    (project / "data").symlink_to(real)
    run("ingestion")
    assert list(real.rglob("train_set.safetensors"))


def test_a_kill_leaves_only_whole_files_and_the_next_run_ends(project: Path, run: Run) -> None:
    # `make soak` does this to every pipeline at random moments.
    (project / "src").mkdir()
    script = """
import os, signal, sys
from cifar100_transfer import storage
sync, calls = storage.sync, []
def killing(path):
    calls.append(path)
    if len(calls) == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(path)
storage.sync = killing
from kedro.framework.cli import main
parameters = "--params=split.validation_share=0.2"
sys.argv = ["kedro", "run", "--env=sample", "--pipelines=ingestion", parameters]
main()
"""
    killed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    before = {path: path.read_bytes() for path in stored(project)}
    assert {"train", "test", "meta", "train_set.safetensors"} <= {path.name for path in before}
    run("ingestion")
    assert {path: path.read_bytes() for path in before} == before


def test_an_error_while_writing_names_the_file_that_was_meant(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "meant.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as raised:
        write()
    assert raised.value.filename == str(tmp_path / "meant.txt")
    with pytest.raises(UserError, match=r"meant\.txt: No space left on device: mend that"):
        hooks.ErrorHooks().on_pipeline_error(raised.value)  # type: ignore[arg-type]
