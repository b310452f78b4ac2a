"""The project of the pipeline tests, and its command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.conftest import ROOT, project, run

__all__ = ["project", "run"]

# The code is this checkout's, wherever the project lies; telemetry would look for a network.
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT / "src"),
    "DO_NOT_TRACK": "1",
    "COLUMNS": "1000",
}

Kedro = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kedro(project: Path) -> Kedro:
    """Run a `kedro` command in the project, as a person would."""
    (project / "src").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("kedro")), *arguments],
            cwd=project,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
