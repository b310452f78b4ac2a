"""Every run stores its results under a version of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cifar100_transfer import sessions
from tests.pipelines.conftest import Run, project, run  # noqa: F401

# As `KedroSession.create` does, without what that asks git.
STARTS = """
import json
from kedro.io.core import generate_timestamp
from cifar100_transfer.settings import SESSION_STORE_CLASS

def start():
    version = generate_timestamp()
    store = SESSION_STORE_CLASS(path="sessions", session_id=version)
    store.update({"session_id": version})
    return store["session_id"]

input()
print(json.dumps([start() for _ in range(300)]))
"""


def test_sessions_that_start_at_once_have_versions_of_their_own() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    versions = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert all(given == sorted(given) for given in versions)
    assert len({*versions[0], *versions[1]}) == 600


def test_a_run_stores_under_the_version_of_its_session(
    project: Path,  # noqa: F811
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "_own_version", lambda: "2020-01-01T00.00.00.000Z")
    run("ingestion", to_outputs=["class_counts"])
    (stored,) = (project / "data").rglob("class_counts.csv/*/class_counts.csv")
    assert stored.parent.name == "2020-01-01T00.00.00.000Z"
