"""Every run stores its results under a version of its own."""

import json
import subprocess
import sys

from kedro.framework.project import configure_project
from kedro.framework.session import KedroSession

from cifar100_transfer.sessions import SessionStore
from tests.conftest import ROOT

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


def test_a_session_takes_the_version_of_its_store() -> None:
    configure_project("cifar100_transfer")
    session = KedroSession.create(project_path=ROOT)
    assert isinstance(session._store, SessionStore)
    assert session._store["session_id"] == session.store["session_id"]
