"""Where studies lie."""

from pathlib import Path

import pytest
from kedro.io import DatasetError

from cifar100_transfer.datasets import StudiesDataset


def test_a_file_is_the_default_and_a_server_replaces_it(tmp_path: Path) -> None:
    file = tmp_path / "tuning" / "studies.db"
    assert StudiesDataset(filepath=str(file)).load() == f"sqlite:///{file}"
    assert file.parent.is_dir()
    server = StudiesDataset(filepath=str(file), url="postgresql+psycopg://me:secret@host/studies")
    assert server.load() == "postgresql+psycopg://me:secret@host/studies"
    assert "secret" not in str(server)


def test_nothing_is_saved_to_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="trial by trial"):
        StudiesDataset(filepath=str(tmp_path / "studies.db")).save("x")  # type: ignore[arg-type]
