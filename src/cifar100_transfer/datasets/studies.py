"""Where the studies of the tuning pipelines lie."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset

from cifar100_transfer.errors import UserError


class StudiesDataset(AbstractDataset[NoReturn, str]):
    """The database of all studies: a SQLite file, or a server that several machines reach.

    Args:
        filepath: the SQLite file.
        url: SQLAlchemy's URL of a PostgreSQL database, which then is used instead.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(
        self, *, filepath: str, url: str | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._file = Path(filepath)
        self._url = url
        self.metadata = metadata

    def load(self) -> str:
        """Return the database's URL; the folder of a file is made if absent."""
        if self._url:
            return self._url
        import sqlalchemy  # other pipelines need not wait for it

        self._file.parent.mkdir(parents=True, exist_ok=True)
        # A folder's name may hold what stands for something else in a URL.
        url = sqlalchemy.URL.create("sqlite", database=str(self._file.absolute()))
        return url.render_as_string()

    def save(self, data: NoReturn) -> None:
        """Refuse: trials are written by the nodes that run them."""
        raise UserError(f"{self._file}: studies are written trial by trial, not saved to")

    def _describe(self) -> dict[str, Any]:
        # A URL may hold a password.
        return {"filepath": self._file, "url": "given" if self._url else None}
