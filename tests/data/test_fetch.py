"""Downloads from a server on this machine that behaves, and misbehaves, as told."""

import contextlib
import hashlib
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cifar100_transfer.data import fetch as fetch_module
from cifar100_transfer.data.fetch import fetch
from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import file_digest

CONTENT = bytes(range(256)) * 200
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
ADVICE = "Ask a neighbour."
# Set at the end of a test: a stalling server may go.
RELEASED = threading.Event()


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    status: int = 200
    understands_range: bool = True
    # Bytes sent before the connection is cut, one entry a request; None: not cut.
    cuts: list[int | None] = field(default_factory=list)
    announced: int | None = None
    stalls: bool = False
    # Bytes after which the first answer stalls.
    stalls_after: int | None = None
    endless: bool = False
    # What the first requests are answered, instead of what they ask for.
    busy: list[int] = field(default_factory=list)
    retry_after: str = ""
    # Where the first requests are sent on to.
    redirects: list[str] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    agents: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    server_state: ClassVar[Server]

    def do_GET(self) -> None:
        state = self.server_state
        asked = self.headers["Range"]
        state.requests.append(asked)
        state.agents.append(self.headers["User-Agent"])
        if state.stalls:
            RELEASED.wait(10)
            return
        if state.redirects:
            self.send_response(302)
            self.send_header("Location", state.redirects.pop(0))
            self.end_headers()
            return
        if state.busy:
            self.send_response(state.busy.pop(0))
            if state.retry_after:
                self.send_header("Retry-After", state.retry_after)
            self.end_headers()
            return
        if state.status != 200:
            self.send_error(state.status)
            return
        if state.endless:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client goes away
                while True:
                    self.wfile.write(CONTENT)
        start = 0
        if asked and state.understands_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(state.content):
                self.send_error(416)
                return
        body = state.content[start:]
        self.send_response(206 if start else 200)
        length = len(body) if state.announced is None else state.announced
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if state.stalls_after is not None and len(state.requests) == 1:
            self.wfile.write(body[: state.stalls_after])
            RELEASED.wait(10)
            return
        cut = state.cuts.pop(0) if state.cuts else None
        self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    handler = type("BoundHandler", (Handler,), {"server_state": state})
    monkeypatch.setattr(fetch_module.time, "sleep", lambda _: None)
    for proxy in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    RELEASED.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{http_server.server_port}/file"
        yield state
        RELEASED.set()
        http_server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.tar.gz"


def part_of(destination: Path) -> Path:
    return destination.with_name(destination.name + fetch_module.PART)


def put_part(destination: Path, content: bytes) -> None:
    destination.parent.mkdir()
    part_of(destination).write_bytes(content)


def test_folders_are_made_to_any_depth(server: Server, tmp_path: Path) -> None:
    destination = tmp_path / "a" / "b" / "c" / "file"
    assert fetch(server.url, destination, DIGEST, ADVICE).read_bytes() == CONTENT


def test_the_file_arrives_whole_and_alone(server: Server, destination: Path) -> None:
    assert fetch(server.url, destination, DIGEST, ADVICE) == destination
    assert destination.read_bytes() == CONTENT
    assert list(destination.parent.iterdir()) == [destination]
    assert server.requests == [None]
    assert server.agents == ["cifar100-transfer"]


def test_the_first_digits_of_a_digest_are_enough_but_have_to_be_right(
    server: Server, destination: Path
) -> None:
    with pytest.raises(UserError, match="instead of 0123abcd"):
        fetch(server.url, destination, "sha256:0123abcd", ADVICE)
    assert fetch(server.url, destination, DIGEST[:15], ADVICE).read_bytes() == CONTENT


def test_an_md5_digest_is_understood(server: Server, destination: Path) -> None:
    fetch(server.url, destination, f"md5:{hashlib.md5(CONTENT).hexdigest()}", ADVICE)
    assert file_digest(destination, "sha256") == DIGEST.removeprefix("sha256:")


def test_an_existing_file_is_left_alone(server: Server, destination: Path) -> None:
    destination.parent.mkdir()
    destination.write_bytes(b"mine")
    assert fetch(server.url, destination, DIGEST, ADVICE).read_bytes() == b"mine"
    assert server.requests == []


def test_an_earlier_attempt_is_continued(server: Server, destination: Path) -> None:
    put_part(destination, CONTENT[:1000])
    fetch(server.url, destination, DIGEST, ADVICE)
    assert destination.read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-"]


def test_a_complete_part_needs_no_bytes(server: Server, destination: Path) -> None:
    put_part(destination, CONTENT)
    fetch(server.url, destination, DIGEST, ADVICE)
    assert destination.read_bytes() == CONTENT
    assert not part_of(destination).exists()


def test_a_server_without_ranges_starts_over(server: Server, destination: Path) -> None:
    server.understands_range = False
    put_part(destination, b"x" * 1000)
    fetch(server.url, destination, DIGEST, ADVICE)
    assert destination.read_bytes() == CONTENT


def test_a_broken_connection_is_resumed(server: Server, destination: Path) -> None:
    server.cuts = [1000, 500]
    fetch(server.url, destination, DIGEST, ADVICE)
    assert destination.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-", "bytes=1500-"]


def test_a_connection_that_always_breaks_is_given_up(server: Server, destination: Path) -> None:
    server.cuts = [10] * 9
    with pytest.raises(UserError, match=r"can't be fetched.*Ask a neighbour"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert not destination.exists()
    assert len(server.requests) == fetch_module.ATTEMPTS
    # What did arrive is kept for the next time.
    assert part_of(destination).read_bytes() == CONTENT[: 10 * fetch_module.ATTEMPTS]


def test_a_stalling_server_is_given_up(
    server: Server, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 2)
    server.stalls = True
    with pytest.raises(UserError, match="timed out"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert not destination.exists()


def test_nobody_listening_is_a_user_error(server: Server, destination: Path) -> None:
    with pytest.raises(UserError, match=r"can't be fetched"):
        fetch("http://127.0.0.1:1/file", destination, DIGEST, ADVICE)
    assert not destination.exists()


def test_where_nothing_arrives_no_folder_is_made(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match="404"):
        fetch(server.url, tmp_path / "misspelt" / "file", DIGEST, ADVICE)
    assert not (tmp_path / "misspelt").exists()


def test_another_content_is_refused_and_deleted(server: Server, destination: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    said = rf"{server.url} .* sha256 [0-9a-f]{{64}} instead of [0-9a-f]{{64}}.*deleted"
    with pytest.raises(UserError, match=said):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert list(destination.parent.iterdir()) == []


def test_a_part_that_is_too_long_is_refused_and_deleted(server: Server, destination: Path) -> None:
    put_part(destination, CONTENT + b"more")
    with pytest.raises(UserError, match="instead of"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert list(destination.parent.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_is_not_tried_again(server: Server, destination: Path, status: int) -> None:
    server.status = status
    with pytest.raises(UserError, match=rf"answered {status} .*Ask a neighbour"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert server.requests == [None]
    assert not destination.exists()


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [("", [1, 2, 4]), ("3", [3, 3, 4]), ("99999", [60, 60, 60]), ("Thu, 26 Nov 2026", [1, 2, 4])],
)
def test_a_busy_server_is_asked_again(
    server: Server,
    destination: Path,
    monkeypatch: pytest.MonkeyPatch,
    retry_after: str,
    waited: list[int],
) -> None:
    seconds: list[int] = []
    monkeypatch.setattr(fetch_module.time, "sleep", seconds.append)
    server.busy, server.retry_after = [429, 502, 503], retry_after
    assert fetch(server.url, destination, DIGEST, ADVICE).read_bytes() == CONTENT
    assert seconds == waited


def test_a_server_that_stays_busy_is_given_up(server: Server, destination: Path) -> None:
    server.status = 503
    with pytest.raises(UserError, match=r"answered 503 .*Ask a neighbour"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert len(server.requests) == fetch_module.ATTEMPTS


@pytest.mark.parametrize("status", [404, 503])
def test_a_refusal_keeps_what_arrived_before(
    server: Server, destination: Path, status: int
) -> None:
    put_part(destination, CONTENT[:1000])
    server.status = status
    with pytest.raises(UserError, match=rf"answered {status} .*Ask a neighbour"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert part_of(destination).read_bytes() == CONTENT[:1000]


class Bar:
    """Stands for tqdm's, and remembers what it was told."""

    made: ClassVar[list["Bar"]] = []

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.done = options["initial"]
        self.made.append(self)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int) -> None:
        self.done += count


@pytest.mark.parametrize("understands_range", [True, False])
def test_the_bar_begins_at_what_is_there_and_ends_full(
    server: Server, destination: Path, understands_range: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "tqdm", Bar)
    monkeypatch.setattr(Bar, "made", [])
    server.understands_range = understands_range
    put_part(destination, CONTENT[:1000])
    fetch(server.url, destination, DIGEST, ADVICE)
    (bar,) = Bar.made
    assert bar.options["desc"] == destination.name
    assert bar.options["initial"] == (1000 if understands_range else 0)
    assert bar.done == bar.options["total"] == len(CONTENT)


def test_a_length_that_is_too_short_is_caught_by_the_digest(
    server: Server, destination: Path
) -> None:
    server.announced = 100
    with pytest.raises(UserError, match="instead of"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert list(destination.parent.iterdir()) == []


def test_a_length_that_is_too_long_is_not_taken_for_success(
    server: Server, destination: Path
) -> None:
    server.announced = len(CONTENT) + 1
    server.understands_range = False
    with pytest.raises(UserError, match="can't be fetched"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert not destination.exists()
    assert len(server.requests) == fetch_module.ATTEMPTS


def test_a_file_in_place_of_the_folder_is_a_user_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"file.*Ask a neighbour"):
        fetch(server.url, tmp_path / "file" / "x.tar.gz", DIGEST, ADVICE)


def test_a_connection_that_stalls_half_way_is_resumed(
    server: Server, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(fetch_module, "CHUNK_BYTES", 100)
    server.stalls_after = 1000
    fetch(server.url, destination, DIGEST, ADVICE)
    assert destination.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-"]


def test_a_page_instead_of_the_file_is_refused_and_deleted(
    server: Server, destination: Path
) -> None:
    server.content = b"<!DOCTYPE html><html><body>Please log in</body></html>"
    with pytest.raises(UserError, match=r"instead of.*it was deleted\. Ask a neighbour"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert list(destination.parent.iterdir()) == []


def test_a_redirect_is_followed(server: Server, destination: Path) -> None:
    server.redirects = [f"{server.url}/elsewhere"]
    fetch(server.url, destination, DIGEST, ADVICE)
    assert destination.read_bytes() == CONTENT


def test_redirects_in_a_circle_are_given_up(server: Server, destination: Path) -> None:
    server.redirects = [server.url] * 99
    with pytest.raises(UserError, match=r"answered 302 \S.*Ask a neighbour") as raised:
        fetch(server.url, destination, DIGEST, ADVICE)
    assert "\n" not in str(raised.value)
    assert not destination.exists()


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(
    server: Server, destination: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    server.redirects = [f"file://{tmp_path}/secret"]
    with pytest.raises(UserError, match=r"answered 302 .*Ask a neighbour"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert not destination.exists()


def test_an_endless_answer_does_not_fill_the_disk(
    server: Server, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "MAX_BYTES", 100_000)
    monkeypatch.setattr(fetch_module, "CHUNK_BYTES", 1000)
    server.endless = True
    with pytest.raises(UserError, match=r"sends more than 100,000 bytes; they were deleted"):
        fetch(server.url, destination, DIGEST, ADVICE)
    assert list(destination.parent.iterdir()) == []


def wait_for(condition: Callable[[], bool], run: Future[Path]) -> None:
    """Wait for what must be so before a run ends; raise the run's error if it ends by one."""
    pause = threading.Event()
    while not condition():
        if run.done():
            pytest.fail(f"it ended too early, with {run.result()}")
        pause.wait(0.01)


def test_of_two_runs_one_fetches_and_the_other_waits(
    server: Server, destination: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.stalls_after = 1000
    caplog.set_level(logging.INFO)
    with ThreadPoolExecutor(2) as runs:
        try:
            first = runs.submit(fetch, server.url, destination, DIGEST, ADVICE)
            wait_for(lambda: bool(server.requests), first)
            second = runs.submit(fetch, server.url, destination, DIGEST, ADVICE)
            wait_for(lambda: "waiting for it" in caplog.text, second)
            server.stalls_after = None
        finally:
            RELEASED.set()  # the first answer ends too early, and the first run goes on by itself
        assert first.result(30) == second.result(30) == destination
    assert destination.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-"]


def test_machines_that_share_a_folder_do_not_spoil_each_others_download(
    server: Server, destination: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stalls_after = 1000
    with ThreadPoolExecutor(1) as runs:
        try:
            first = runs.submit(fetch, server.url, destination, DIGEST, ADVICE)
            wait_for(lambda: bool(list(destination.parent.glob("*.part"))), first)
            monkeypatch.setattr(fetch_module, "PART", ".another-machine.part")
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
            fetch(server.url, destination, DIGEST, ADVICE)
            server.stalls_after = None
        finally:
            RELEASED.set()
        assert first.result(30) == destination
    assert [path.read_bytes() for path in destination.parent.iterdir()] == [CONTENT]
