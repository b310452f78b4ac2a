"""Scripts for a GPU machine start with the few packages that docs/champion.md names."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

ABSENT = ("kedro", "optuna", "matplotlib", "seaborn", "sqlalchemy")


@pytest.mark.parametrize("script", ["champion", "time_to_75", "throughput"])
def test_a_script_for_a_gpu_machine_needs_no_package_that_it_lacks(script: str) -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); import {script}"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
