"""Downloads that are checked, resumed, and never left half done under their final name."""

import hashlib
import http.client
import logging
import platform
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path

import filelock
from tqdm import tqdm

from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import file_digest, machine_lock, sync

logger = logging.getLogger(__name__)

TIMEOUT_S = 30
ATTEMPTS = 4
# What servers, and those in front of them, answer when they may be back in a moment.
BUSY = (
    http.HTTPStatus.TOO_MANY_REQUESTS,
    http.HTTPStatus.BAD_GATEWAY,
    http.HTTPStatus.SERVICE_UNAVAILABLE,
    http.HTTPStatus.GATEWAY_TIMEOUT,
)
CHUNK_BYTES = 1 << 20
PART = f".{platform.node()}.part"
MAX_BYTES = 4 << 30  # the largest weights that torchvision publishes have 2.6 GB
AGENT = "cifar100-transfer"  # some servers refuse urllib's own name


def fetch(url: str, destination: Path, digest: str, advice: str) -> Path:
    """Download a file once, with a progress bar, going on where an earlier attempt ended.

    Bytes gather in `<destination>.<machine>.part`; only when their digest is right do they get
    their final name. A connection that stalls for 30 s or breaks is tried four times in all, and so
    is a server that says it is busy. Of several runs on this machine that want the file at once one
    fetches it, and the others wait for it; machines that share a folder fetch it each.

    Args:
        url: http or https address.
        destination: file to make; if it exists it is returned untouched.
        digest: expected digest or its first digits, written `md5:…` or `sha256:…`.
        advice: what to do if the file can't be had; ends the error message.

    Returns:
        `destination`.

    Raises:
        UserError: the network or the server fails, or the content is not what was announced.
    """
    if destination.exists():
        return destination
    with _alone(destination):
        if not destination.exists():
            _fetch(url, destination, digest, advice)
    return destination


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Keep this user's other runs on this machine from fetching the same file meanwhile."""
    # Not beside the file: its folder is made only when there is something to put into it.
    lock = machine_lock(hashlib.sha256(str(destination.resolve()).encode()).hexdigest()[:16])
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        logger.info("Another run fetches %s: waiting for it", destination)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(url: str, destination: Path, digest: str, advice: str) -> None:
    part = destination.with_name(destination.name + PART)
    problem: Exception | None = None
    for attempt in range(ATTEMPTS):
        try:
            _append(url, part, advice)
            break
        except _TooLongError as error:
            part.unlink()
            raise UserError(
                f"{url} sends more than {MAX_BYTES:,} bytes; they were deleted. {advice}"
            ) from error
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.exists():
                break  # everything was there already; the digest decides
            reason = " ".join(str(error.reason).split())  # of a circle it takes three lines
            if error.code not in BUSY or attempt + 1 == ATTEMPTS:
                raise UserError(f"{url} answered {error.code} {reason}. {advice}") from error
            logger.warning("%s answered %d %s: asking again", url, error.code, reason)
            time.sleep(max(2**attempt, _asked_to_wait(error.headers)))
        except (OSError, http.client.HTTPException) as error:
            problem = error
            logger.warning("Download of %s broke off (%s)", url, error)
            if attempt + 1 < ATTEMPTS:
                time.sleep(2**attempt / 4)
    else:
        raise UserError(f"{url} can't be fetched ({problem}). {advice}") from problem
    _accept(part, destination, url, digest, advice)


def _asked_to_wait(headers: Message) -> int:
    """Return for how many seconds a busy server wants to be left alone, at most a minute."""
    seconds = headers.get("Retry-After", "")
    return min(int(seconds), 60) if seconds.isdecimal() else 0  # a date is not waited for


class _TooLongError(Exception):
    """The server sends more than any file has that this project needs."""


def _append(url: str, part: Path, advice: str) -> None:
    """Add the rest of `url` to `part`; start over if the server can't go on in the middle."""
    held = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": AGENT} | ({"Range": f"bytes={held}-"} if held else {})
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        expected = response.length
        # Not before there is something to put into it: the folder's name may be a slip.
        _make_folder(part.parent, advice)
        with (
            part.open("ab" if goes_on else "wb") as file,
            tqdm(
                desc=part.name.removesuffix(PART),
                initial=held if goes_on else 0,
                total=None if expected is None else expected + (held if goes_on else 0),
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar,
        ):
            received = 0
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
                if file.tell() > MAX_BYTES:
                    raise _TooLongError
                bar.update(len(chunk))
    if expected is not None and received < expected:
        raise http.client.IncompleteRead(b"", expected - received)


def _make_folder(folder: Path, advice: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} can't be made ({error}). {advice}") from error


def _accept(part: Path, destination: Path, url: str, digest: str, advice: str) -> None:
    algorithm, _, wanted = digest.partition(":")
    found = file_digest(part, algorithm)
    if not found.startswith(wanted):
        part.unlink()
        raise UserError(
            f"{url} delivered a file with {algorithm} {found} instead of {wanted}; "
            f"it was deleted. {advice}"
        )
    sync(part)
    part.replace(destination)
    sync(destination.parent)
