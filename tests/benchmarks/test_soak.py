"""The soak's own machinery."""

import hashlib
import importlib
from pathlib import Path

import pytest

from cifar100_transfer.pipeline_registry import register_pipelines


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


def test_every_pipeline_it_runs_is_registered() -> None:
    soak = importlib.import_module("soak")
    registered = set(register_pipelines())
    measured = {options.split()[0].removeprefix("--pipelines=") for options, _ in soak.MEASURED}
    named = {*measured, *soak.BEFORE, *soak.SKIPPED, *soak.NAMESPACES, *soak.GIVEN}
    assert named <= registered
    assert set(soak.NEEDING_WEIGHTS) <= {options for options, _ in soak.MEASURED}


def test_every_artifact_is_compared_in_its_newest_version(tmp_path: Path) -> None:
    stored = {
        "05_model_input/train_set.safetensors": "train",
        "05_model_input/test_set.safetensors": "test",
        "08_reporting/net/metrics.json/2020-01-01/metrics.json": "old",
        "08_reporting/net/metrics.json/2020-01-02/metrics.json": "new",
    }
    for name, content in stored.items():
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    found = importlib.import_module("soak")._digests(tmp_path)
    wanted = {hashlib.sha256(content.encode()).hexdigest() for content in ("train", "test", "new")}
    assert len(found) == 3
    assert set(found.values()) == wanted
