"""What is read is what was written, or it is not read."""

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cifar100_transfer.sealed import pack, tensors_digest, unpack

TENSORS = {"a": torch.arange(4.0), "b": torch.ones(2, 1, dtype=torch.bfloat16)}
DESCRIPTION = {"name": "größer", "sizes": [1, 2.5], "nothing": None}


def test_content_comes_back_and_equal_content_gives_equal_files(tmp_path: Path) -> None:
    content = pack(TENSORS, "key", DESCRIPTION)
    assert content == pack(dict(reversed(TENSORS.items())), "key", DESCRIPTION)
    (tmp_path / "file").write_bytes(content)
    tensors, description = unpack(tmp_path / "file", "key")
    assert description == DESCRIPTION
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }


def test_another_key_is_a_key_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pack(TENSORS, "key", DESCRIPTION))
    with pytest.raises(KeyError):
        unpack(tmp_path / "file", "other")


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        (TENSORS, json.dumps(DESCRIPTION)),  # no checksum at all
        (TENSORS, "[1]"),
        (TENSORS, "no json"),
        (TENSORS | {"c": torch.zeros(1)}, None),
        ({"a": TENSORS["a"]}, None),
        (TENSORS | {"a": TENSORS["a"] + 1}, None),
        (TENSORS | {"a": TENSORS["a"].view(2, 2)}, None),
        (TENSORS | {"a": TENSORS["a"].view(torch.int32)}, None),
    ],
)
def test_whatever_was_changed_is_noticed(
    tmp_path: Path, tensors: dict[str, torch.Tensor], text: str | None
) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(TENSORS, "key", DESCRIPTION))
    with safetensors.safe_open(path, framework="pt") as archive:
        sealed = archive.metadata()["key"]
    safetensors.torch.save_file(tensors, path, metadata={"key": sealed if text is None else text})
    with pytest.raises(ValueError, match=r"checksum does not fit|is a list|Expecting value"):
        unpack(path, "key")


def test_digests_tell_values_and_their_order() -> None:
    first, second = torch.arange(4), torch.ones(2, requires_grad=True)
    expected = hashlib.sha256(first.numpy().tobytes() + second.detach().numpy().tobytes())
    assert tensors_digest(first, second) == expected.hexdigest()[:16]
    assert tensors_digest(second, first) != tensors_digest(first, second)
    assert tensors_digest(second.bfloat16()) != tensors_digest(second.half())
    grid = torch.arange(6).view(2, 3)
    assert tensors_digest(grid.T) == tensors_digest(grid.T.contiguous()) != tensors_digest(grid)
