"""Memory that is used again instead of being given back and asked for anew."""

import ctypes
import platform
from functools import cache

# Parameters of glibc's mallopt(3), from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1  # the largest threshold an int holds, 2 GiB
_GROWTH = 64 * 2**20


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next tensor; for this process, once.

    By default glibc asks the kernel for every block above a threshold (32 MB at most) and gives it
    back when it is freed, so that training steps have pages of their activations mapped and
    cleared again: up to a third of SimpleCNN's time on a virtual machine (`docs/throughput.md`).
    The process keeps what it once needed until `return_freed_memory`; its peak is the same.

    Returns:
        Whether anything was set: false where the C library is another one.
    """
    library = _glibc()
    if library is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROWTH))
    accepted = [library.mallopt(name, value) for name, value in settings]
    return accepted == [1] * len(settings)


def return_freed_memory() -> None:
    """Give back to the system what the process keeps and does not use, between two tasks.

    The next one needs other blocks, which would lie beside the kept ones.
    Nothing happens where the C library is not glibc.
    """
    if library := _glibc():
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc; to find out takes a look into Python's binary."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
