"""What Kedro keeps of a session: here, the version under which it stores its results."""

import time
from typing import Any

from kedro.framework.session.store import BaseSessionStore
from kedro.io.core import generate_timestamp

from cifar100_transfer.storage import machine_lock


class SessionStore(BaseSessionStore):
    """Gives every session a version that no other one of this user on this machine has.

    Kedro takes the millisecond in which a session starts. Two runs that a script starts at once get
    the same one now and then, and the later of them fails when it stores its first result.

    Args:
        path: a folder; nothing is kept there.
        session_id: the version that Kedro has chosen; it is not taken.
    """

    def __init__(self, path: str, session_id: str) -> None:
        super().__init__(path, _own_version())

    def __setitem__(self, key: str, value: Any) -> None:
        """Keep what Kedro tells of the session, but for the version."""
        super().__setitem__(key, self._session_id if key == "session_id" else value)


def _own_version() -> str:
    with machine_lock("versions"):
        version = generate_timestamp()
        while generate_timestamp() == version:  # the next session must find another one
            time.sleep(0.0002)
    return version
