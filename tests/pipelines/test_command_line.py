"""What the commands print."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = "-m cifar100_transfer --env=sample --pipelines=ingestion"
NODES = "--nodes=split_images,compute_normalization"


def test_a_run_on_the_command_line_says_little_and_warns_of_nothing(project: Path) -> None:
    finished = run_package(project)
    *logged, last = finished.stdout.splitlines()
    said = [line[len("00:00:00 INFO     ") :].strip() for line in logged]
    assert "WARNING" not in finished.stdout
    assert finished.stderr == ""
    assert said[0] == "Kedro project cifar100_transfer"
    # Between them, only nodes that took their time (on a busy machine).
    assert said[-2].startswith("2 nodes in ")
    assert said[-1] == "Stored in data/sample/05_model_input"
    assert last == "Next: python -m cifar100_transfer --pipelines=simple_cnn --env=sample"


def test_the_next_command_is_one_line_however_narrow_the_terminal(project: Path) -> None:
    finished = run_package(project, columns=40)
    *_, last = finished.stdout.splitlines()
    assert last == "Next: python -m cifar100_transfer --pipelines=simple_cnn --env=sample"


def test_what_a_user_can_mend_is_one_line_without_advice_of_others(project: Path) -> None:
    pictures = project / "pictures"
    pictures.mkdir()
    given = f"--params=raw_data={pictures},image_size=8"
    finished = run_package(project, "--env=folder", given, check=False)
    assert finished.returncode == 1
    (line,) = finished.stderr.splitlines()
    assert line.startswith("Error: ")
    for noise in ("resume", "Repeat", "failed with error", "Traceback"):
        assert noise not in finished.stdout + finished.stderr


def test_the_package_needs_no_clone(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    finished = run_package(project, "--conf-source=conf")
    assert "WARNING" not in finished.stdout
    assert "usage data" not in finished.stdout
    assert finished.stderr == ""
    next_command = f"Next: python -m cifar100_transfer --conf-source={project / 'conf'} --pipelines"
    assert next_command in " ".join(finished.stdout.split())


def run_package(
    folder: Path, *options: str, columns: int = 200, check: bool = True
) -> subprocess.CompletedProcess[str]:
    unset = ("DO_NOT_TRACK", "KEDRO_DISABLE_TELEMETRY", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, *COMMAND.split(), NODES, *options],
        cwd=folder,
        env={**environment, "COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        check=check,
    )
