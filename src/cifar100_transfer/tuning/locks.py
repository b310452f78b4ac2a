"""Locks that the system itself releases when their holder dies.

Who runs a trial holds its lock: so a trial that is marked as running, but whose lock is free, was
left by a process that is gone. Unlike a heartbeat this needs no clock and no patience, and a
process that is merely paused keeps what it holds.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import filelock
import sqlalchemy

# A machine that lost its power is noticed by PostgreSQL within about a minute; its defaults take
# two hours.
_POSTGRES_KEEPALIVE = (
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)


class Locks(Protocol):
    """Named locks that all processes of one study share."""

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Wait for a lock and hold it for the block."""

    def try_hold(self, name: str) -> AbstractContextManager[bool]:
        """Hold a lock for the block if it is free; yield whether it was."""


class FileLocks:
    """Locks as files that the kernel locks, beside a SQLite database on a local disk.

    Args:
        folder: made if absent; gets one empty file a lock.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Wait for a lock and hold it for the block."""
        with filelock.FileLock(self._file(name)):
            yield

    @contextmanager
    def try_hold(self, name: str) -> Iterator[bool]:
        """Hold a lock for the block if it is free; yield whether it was."""
        lock = filelock.FileLock(self._file(name))
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


class PostgresLocks:
    """PostgreSQL's advisory locks, each held by a connection of its own.

    Args:
        url: of the database.
    """

    def __init__(self, url: sqlalchemy.URL) -> None:
        self._engine = sqlalchemy.create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            poolclass=sqlalchemy.NullPool,
            connect_args={"options": _POSTGRES_KEEPALIVE},
        )

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Wait for a lock and hold it for the block."""
        # Closing the connection releases what it holds, as its death does.
        with self._engine.connect() as connection:
            connection.execute(_ask("pg_advisory_lock"), {"name": name})
            yield

    @contextmanager
    def try_hold(self, name: str) -> Iterator[bool]:
        """Hold a lock for the block if it is free; yield whether it was."""
        with self._engine.connect() as connection:
            yield bool(connection.execute(_ask("pg_try_advisory_lock"), {"name": name}).scalar())


def _ask(function: str) -> sqlalchemy.TextClause:
    return sqlalchemy.text(f"SELECT {function}(hashtextextended(:name, 0))")
