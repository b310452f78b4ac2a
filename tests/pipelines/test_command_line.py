"""What the commands print."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = "-m cifar100_transfer --env=sample --pipelines=ingestion"
NODES = "--nodes=split_images,compute_normalization"


def test_a_run_on_the_command_line_says_little_and_warns_of_nothing(project: Path) -> None:
    finished = run_package(project)
    said = [line[len("00:00:00 INFO     ") :].strip() for line in finished.stdout.splitlines()]
    assert "WARNING" not in finished.stdout
    assert finished.stderr == ""
    assert said[0] == "Kedro project cifar100_transfer"
    # Between them, only nodes that took their time (on a busy machine).
    assert said[-3].startswith("2 nodes in ")
    assert said[-2:] == [
        "Stored in data/sample/05_model_input",
        "Next: python -m cifar100_transfer --pipelines=simple_cnn --env=sample",
    ]


def test_the_package_needs_no_clone(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    finished = run_package(project, "--conf-source=conf")
    assert "WARNING" not in finished.stdout
    assert "usage data" not in finished.stdout
    assert finished.stderr == ""
    next_command = f"Next: python -m cifar100_transfer --conf-source={project / 'conf'} --pipelines"
    assert next_command in " ".join(finished.stdout.split())


def run_package(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    unset = ("DO_NOT_TRACK", "KEDRO_DISABLE_TELEMETRY", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, *COMMAND.split(), NODES, *options],
        cwd=folder,
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
