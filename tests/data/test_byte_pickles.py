"""Pickles of arrays of bytes: those of NumPy, and those that NumPy should not be given."""

import io
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar100_transfer.data import byte_pickles
from cifar100_transfer.errors import UserError

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def load(content: bytes) -> Any:
    return byte_pickles.load(io.BytesIO(content))


@given(shape=SHAPES, protocol=st.integers(0, 4), columns_first=st.booleans())
def test_arrays_of_bytes_come_back(shape: list[int], protocol: int, columns_first: bool) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    array = np.asfortranarray(array) if columns_first else array
    found = load(pickle.dumps({b"data": array, b"labels": [1, 2]}, protocol=protocol))
    assert found[b"labels"] == [1, 2]
    assert type(found[b"data"]) is np.ndarray
    assert found[b"data"].flags.writeable
    np.testing.assert_array_equal(found[b"data"], array)


def test_so_do_those_that_python_2_wrote() -> None:
    content = (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
        b"\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x02\x07\xfftbs."
    )
    assert load(content)[b"data"].tolist() == [7, 255]


NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"
OBJECTS = DTYPE + b"X\x01\x00\x00\x00O\x85R"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n" + NDARRAY + b"K\x00\x85U\x01b\x87R"
BYTES = DTYPE + b"U\x02u1K\x00K\x01\x87R"


@pytest.mark.parametrize(
    ("content", "wish"),
    [
        # An array of objects whose addresses are the bytes of a text: reading one ends the process.
        (NDARRAY + b"(K\x01\x85" + OBJECTS + b"U\x08AAAAAAAAtR.", "an array of 'O'"),
        (NDARRAY + b"(K\x01\x85U\x02u1U\x08AAAAAAAAtR.", "an array made of memory"),
        (OBJECTS + b".", "an array of 'O' instead of numbers"),
        (EMPTY + b"(K\x01K\x01\x85N\x89U\x01atb.", "an array of something else than numbers"),
        (EMPTY + b"(K\x01K\x01\x85" + BYTES + b"\x89]Natb.", "an array of something else"),
        (b"cnumpy.core.multiarray\n_reconstruct\n" + DTYPE + b"NN\x87R.", "to make something else"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.", "to encode by 'zlib'"),
        (b"cos\nsystem\n.", r"to import os\.system"),
        (b"c_codecs\nencode\n}U\x08__name__U\x01asb.", "to change a function"),
    ],
)
def test_what_else_a_pickle_wants_is_refused(content: bytes, wish: str) -> None:
    with pytest.raises(UserError, match=f"the pickle wants {wish}"):
        load(b"\x80\x02" + content)


@pytest.mark.parametrize("shape", [b"K\x02\x85", b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"])
def test_arrays_have_as_many_bytes_as_their_shape_says(shape: bytes) -> None:
    with pytest.raises(ValueError, match="of 1 bytes"):
        load(b"\x80\x02" + EMPTY + b"(K\x01" + shape + BYTES + b"\x89U\x01atb.")
