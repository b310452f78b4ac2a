"""The soak's own machinery."""

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize(("seconds", "status"), [(0, 0), (30, -9)])
def test_what_has_ended_before_it_is_killed_ended_by_itself(
    tmp_path: Path, seconds: int, status: int
) -> None:
    soak = importlib.import_module("soak")
    command = ["python", "-c", f"import time; time.sleep({seconds}); print('done')"]
    found, peak, output = soak._execute(tmp_path, command, kill_after=2)
    assert found == status
    assert peak > 0
    assert ("done" in output) == (status == 0)
