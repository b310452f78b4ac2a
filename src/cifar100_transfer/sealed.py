"""Tensors with a description in one safetensors file that knows its own checksum.

A flipped bit of a weight or a pixel would otherwise be read as if nothing had happened.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

_DIGEST = "sha256"


def pack(tensors: Mapping[str, torch.Tensor], key: str, description: Mapping[str, Any]) -> bytes:
    """Return the content of a file.

    Args:
        tensors: on any device.
        key: under which the description stands in the file's metadata.
        description: plain JSON values; `sha256` is added to them.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry alone: safetensors writes several in any order, and equal files should be equal.
    text = json.dumps(
        {**description, _DIGEST: content_digest(stored, description)}, ensure_ascii=False
    )
    return safetensors.torch.save(stored, metadata={key: text})


def unpack(path: Path, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the description of a file that holds what `pack` made.

    Raises:
        OSError: the file can't be read.
        KeyError: the file has no such description.
        ValueError: the content is not what was written.
        safetensors.SafetensorError: the file is damaged.
    """
    with safetensors.safe_open(path, framework="pt") as archive:
        description, digest = _described(archive, key)
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    if digest != content_digest(tensors, description):
        raise ValueError("its checksum does not fit its content")
    return tensors, description


def read_description(path: Path, key: str) -> dict[str, Any]:
    """Return the description alone, unchecked: the checksum is over the tensors, too.

    Raises:
        OSError: the file can't be read.
        KeyError: the file has no such description.
        ValueError: the description is no JSON object.
        safetensors.SafetensorError: the file is damaged.
    """
    with safetensors.safe_open(path, framework="pt") as archive:
        return _described(archive, key)[0]


def _described(archive: Any, key: str) -> tuple[dict[str, Any], str | None]:
    """Return the description in an open file, and the checksum that stands in it."""
    description = json.loads((archive.metadata() or {})[key])
    if not isinstance(description, dict):
        raise ValueError(f"its description is a {type(description).__name__}")
    return description, description.pop(_DIGEST, None)


def tensors_digest(*tensors: torch.Tensor) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 over the bytes of some tensors."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(_bytes_of(tensor))
    return sha.hexdigest()[:16]


def content_digest(tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description and of all tensors: names, types, shapes and bytes."""
    sha = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        sha.update(_bytes_of(tensor))
    return sha.hexdigest()


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    # As numbers of one byte: NumPy lacks some of torch's types.
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
