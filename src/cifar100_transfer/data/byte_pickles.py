"""Pickles of plain values and of arrays of bytes, read without calling anything that they name.

NumPy's own constructors would trust a pickle: `numpy.ndarray` takes objects' addresses from a
buffer that it is given. So what CIFAR's files refer to is stood in for by code that takes what such
a file holds, and nothing else.
"""

import io
import math
import pickle
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from cifar100_transfer.errors import UserError


def load(file: io.BufferedIOBase) -> Any:
    """Read one pickle of protocol 4 at most, as Python 2 or 3 and NumPy 1 or 2 write it.

    Returns:
        What it holds; texts of Python 2 are bytes, and a dictionary's arrays of uint8 NumPy's.

    Raises:
        UserError: it refers to what files of images and labels never do.
        Exception: whatever unpickling damaged content raises.
    """
    loaded = _Unpickler(file, encoding="bytes").load()
    if not isinstance(loaded, dict):
        return loaded
    return {
        key: value.array() if isinstance(value, _Array) and value.is_of_bytes else value
        for key, value in loaded.items()
    }


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            _refuse(f"to import {module}.{name}")
        return stand_in


def _refuse(wish: str) -> NoReturn:
    raise UserError(
        f"the pickle wants {wish}, which a CIFAR file never does: it may be hostile and was not "
        f"loaded"
    )


class _Function:
    """A function that a pickle can call. Of a plain one it could change the attributes for good."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        _refuse("to change a function")


class _Type:
    """What stands where a pickle has the type of an array."""

    def __init__(self, code: str | bytes, *_copy: bool) -> None:
        self.name = code.decode() if isinstance(code, bytes) else code
        if not re.fullmatch("[biuf][1248]", self.name):
            _refuse(f"an array of {self.name!r} instead of numbers")

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields, which single bytes have none of."""


class _Array:
    """What stands where a pickle has an array, and stays there if it is not of bytes."""

    def __init__(self, *arguments: Any) -> None:
        if arguments:
            _refuse("an array made of memory")

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, self._columns_first, self._content = state
        self._shape = tuple(int(side) for side in shape)
        if not isinstance(kind, _Type) or not isinstance(self._content, bytes):
            _refuse("an array of something else than numbers")
        self.is_of_bytes = kind.name == "u1"
        count = math.prod(self._shape)
        if self.is_of_bytes and (min(self._shape) < 0 or count != len(self._content)):
            raise ValueError(f"an array {self._shape} of {len(self._content)} bytes")

    def array(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return it as NumPy's, which takes the bytes for its own."""
        array = np.empty(0, np.uint8)
        state: Any = (1, self._shape, array.dtype, bool(self._columns_first), self._content)
        array.__setstate__(state)
        return array


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> _Array:
    if kind is not _Array:
        _refuse("to make something else than an array")
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Turn text into the bytes that Python 3 writes as such for Python 2."""
    if encoding != "latin1":
        _refuse(f"to encode by {encoding!r}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Function(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _Function(_reconstruct),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Function(_encode),
}
