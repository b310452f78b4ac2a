"""Image sets and predictions as safetensors files: safe to load, readable by other tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch

from cifar100_transfer.errors import UserError
from cifar100_transfer.sealed import pack, read_description, unpack
from cifar100_transfer.storage import atomic_path

from .image_set import ImageSet
from .predictions import Predictions

_METADATA_KEY = "classes"

Stored = TypeVar("Stored", ImageSet, Predictions)


def save_image_set(images: ImageSet, path: Path) -> None:
    """Write images, labels, class names and division to one file, atomically."""
    tensors = {"images": images.images, "labels": images.labels}
    _save(tensors, {**_classes(images), "division": images.division}, path)


def load_image_set(path: Path) -> ImageSet:
    """Read a file that `save_image_set` wrote.

    Raises:
        UserError: no such file, damaged, or not an image set.
    """
    return _load(path, ImageSet, {"images", "labels"})


def read_division(path: Path) -> str:
    """Return the division of a stored image set, empty where none is known; reads no image.

    Raises:
        UserError: no such file, damaged, or not an image set.
    """
    with _readable(path):
        return str(read_description(path, _METADATA_KEY).get("division", ""))


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write logits, labels, class names and whose they are to one file, atomically."""
    tensors = {"logits": predictions.logits, "labels": predictions.labels}
    origin = {"classifier": predictions.classifier, "image_set": predictions.image_set}
    _save(tensors, {**_classes(predictions), **origin}, path)


def load_predictions(path: Path) -> Predictions:
    """Read a file that `save_predictions` wrote.

    Raises:
        UserError: no such file, damaged, or not predictions.
    """
    return _load(path, Predictions, {"logits", "labels"})


def _classes(of: ImageSet | Predictions) -> dict[str, Any]:
    return {
        "class_names": of.class_names,
        "coarse_names": of.coarse_names,
        "coarse_of_class": of.coarse_of_class,
    }


def _save(tensors: dict[str, torch.Tensor], description: dict[str, Any], path: Path) -> None:
    content = pack(tensors, _METADATA_KEY, description)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _load(path: Path, kind: type[Stored], wanted: set[str]) -> Stored:
    with _readable(path):
        tensors, description = unpack(path, _METADATA_KEY)
        if set(tensors) != wanted:
            raise UserError(f"it holds {sorted(tensors)} instead of {sorted(wanted)}")
        values: dict[str, Any] = {key: _plain(value) for key, value in description.items()}
        return kind(**(values | tensors))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say what is wrong with a file that can't be read."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the pipeline that makes it") from None
    except KeyError:
        raise UserError(f"{path} holds no image set and no predictions of this project") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged or of another version ({reason})") from error


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # as JSON gives a tuple back
