"""Where studies lie."""

from pathlib import Path

import pytest
from kedro.io import DatasetError

from cifar100_transfer.datasets import StudiesDataset
from cifar100_transfer.tuning.study import Outcome, Plan, run_trials


def test_a_file_is_the_default_and_a_server_replaces_it(tmp_path: Path) -> None:
    file = tmp_path / "tuning" / "studies.db"
    assert StudiesDataset(filepath=str(file)).load() == f"sqlite:///{file}"
    assert file.parent.is_dir()
    server = StudiesDataset(filepath=str(file), url="postgresql+psycopg://me:secret@host/studies")
    assert server.load() == "postgresql+psycopg://me:secret@host/studies"
    assert "secret" not in str(server)


@pytest.mark.parametrize("folder", ["da%20ta", "what?x=1", "{b}", "ä ö", "a#b", "50%"])
def test_a_study_lies_in_its_file_whatever_the_folder_is_called(
    tmp_path: Path, folder: str
) -> None:
    file = tmp_path / folder / "studies.db"
    url = StudiesDataset(filepath=str(file)).load()
    plan = Plan("p", jobs=({"x": 1},))
    run_trials(url, plan, lambda _: Outcome(0.5, {}))
    assert file.stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_nothing_is_saved_to_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="trial by trial"):
        StudiesDataset(filepath=str(tmp_path / "studies.db")).save("x")  # type: ignore[arg-type]
