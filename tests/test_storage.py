"""Files appear whole under their final name, or not at all."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifar100_transfer.storage import atomic_path


@pytest.fixture
def umask() -> Iterator[int]:
    """Set an unusual mask, which no library would choose by chance."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def write_half(destination: Path, error: BaseException) -> None:
    with atomic_path(destination) as temporary:
        temporary.write_text("half")
        raise error


@given(content=st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_content_arrives_and_nothing_else_does(tmp_path: Path, content: bytes) -> None:
    destination = tmp_path / "folder" / "file.bin"
    with atomic_path(destination) as temporary:
        temporary.write_bytes(content)
        assert temporary.parent == destination.parent
    assert destination.read_bytes() == content
    assert list(destination.parent.iterdir()) == [destination]


def test_missing_parents_are_made_and_the_suffix_is_kept(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a" / "b" / "c.safetensors") as temporary:
        assert temporary.suffix == ".safetensors"
        assert temporary.read_bytes() == b""
    assert (tmp_path / "a" / "b" / "c.safetensors").read_bytes() == b""


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_half(tmp_path / "new.txt", KeyError())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_keeps_the_old_content(tmp_path: Path, error: type[BaseException]) -> None:
    destination = tmp_path / "old.txt"
    destination.write_text("old")
    with pytest.raises(error):
        write_half(destination, error())
    assert destination.read_text() == "old"
    assert list(tmp_path.iterdir()) == [destination]


def test_readers_see_the_old_content_until_the_block_ends(tmp_path: Path) -> None:
    destination = tmp_path / "file.txt"
    destination.write_text("old")
    with atomic_path(destination) as temporary:
        temporary.write_text("new")
        assert destination.read_text() == "old"
    assert destination.read_text() == "new"


def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    with atomic_path(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o666 & ~umask
    assert os.umask(umask) == umask


def test_a_folder_in_the_way_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"), atomic_path(tmp_path / "taken"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("old", [None, "old"])
def test_a_killed_writer_leaves_no_half_file_under_the_final_name(
    tmp_path: Path, old: str | None
) -> None:
    destination = tmp_path / "file.txt"
    if old is not None:
        destination.write_text(old)
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from cifar100_transfer.storage import atomic_path
        with atomic_path(Path(sys.argv[1])) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    killed = subprocess.run([sys.executable, "-c", script, str(destination)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (destination.read_text() if destination.exists() else None) == old


def test_a_file_is_on_the_disk_before_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could leave an empty file under the final name, or none."""
    destination = tmp_path / "file.txt"
    flushed: list[tuple[bool, bool]] = []

    def fsync(descriptor: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), destination.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_path(destination) as temporary:
        temporary.write_text("whole")
    assert flushed == [(False, False), (True, True)], "the file, and its folder after it is renamed"
