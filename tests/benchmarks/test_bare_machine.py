"""Scripts for a GPU machine start with the few packages that docs/champion.md names."""

import subprocess
import sys

from tests.conftest import ROOT

ABSENT = ("kedro", "optuna", "matplotlib", "seaborn", "sqlalchemy")


def test_scripts_for_a_gpu_machine_need_no_package_that_it_lacks() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT}))
import champion, time_to_75, throughput
"""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
