"""Image sets and predictions as safetensors files: safe to load, readable by other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch

from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import atomic_path

from .image_set import ImageSet
from .predictions import Predictions

_METADATA_KEY = "classes"

Stored = TypeVar("Stored", ImageSet, Predictions)


def save_image_set(images: ImageSet, path: Path) -> None:
    """Write images, labels and class names to one file, atomically."""
    _save({"images": images.images, "labels": images.labels}, images, path)


def load_image_set(path: Path) -> ImageSet:
    """Read a file that `save_image_set` wrote.

    Raises:
        UserError: no such file, damaged, or not an image set.
    """
    return _load(path, ImageSet, {"images", "labels"})


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write logits, labels and class names to one file, atomically."""
    _save({"logits": predictions.logits, "labels": predictions.labels}, predictions, path)


def load_predictions(path: Path) -> Predictions:
    """Read a file that `save_predictions` wrote.

    Raises:
        UserError: no such file, damaged, or not predictions.
    """
    return _load(path, Predictions, {"logits", "labels"})


def _save(tensors: dict[str, torch.Tensor], classes: ImageSet | Predictions, path: Path) -> None:
    text = json.dumps(
        {
            "class_names": classes.class_names,
            "coarse_names": classes.coarse_names,
            "coarse_of_class": classes.coarse_of_class,
        },
        ensure_ascii=False,
    )
    contiguous = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(contiguous, temporary, metadata={_METADATA_KEY: text})


def _load(path: Path, kind: type[Stored], wanted: set[str]) -> Stored:
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            names = set(archive.keys())
            metadata = archive.metadata() or {}
            if names != wanted or _METADATA_KEY not in metadata:
                raise UserError(f"it holds {sorted(names)} instead of {sorted(wanted)}")
            values: dict[str, Any] = {name: archive.get_tensor(name) for name in names}
        classes = json.loads(metadata[_METADATA_KEY])
        values |= {key: tuple(value) for key, value in classes.items()}
        return kind(**values)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the pipeline that makes it") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged or of another version ({reason})") from error
