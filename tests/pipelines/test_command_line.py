"""What the commands print."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = "-m cifar100_transfer --conf-source=conf --env=sample --pipelines=ingestion"


def test_a_run_on_the_command_line_says_little_and_warns_of_nothing(project: Path) -> None:
    finished = subprocess.run(
        [sys.executable, *COMMAND.split(), "--nodes=split_images,compute_normalization"],
        cwd=project,
        env={**os.environ, "COLUMNS": "200", "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line[len("00:00:00 INFO     ") :].strip() for line in finished.stdout.splitlines()]
    assert "WARNING" not in finished.stdout
    assert finished.stderr == ""
    assert said[0] == "Kedro project cifar100_transfer"
    # Between them, only nodes that took their time (on a busy machine).
    assert said[-3].startswith("2 nodes in ")
    assert said[-2:] == [
        "Stored in data/sample/05_model_input",
        "Next: kedro run --pipelines=simple_cnn --env=sample",
    ]
