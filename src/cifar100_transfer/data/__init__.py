"""Image sets and where they come from, without Kedro.

Names are loaded on first use, so that importing this package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .image_set import (
        ImageSet,
        Normalization,
        channel_statistics,
        count_copies,
        stratified_split,
    )
    from .predictions import Predictions

_HOMES = {
    "ImageSet": "image_set",
    "Normalization": "image_set",
    "Predictions": "predictions",
    "channel_statistics": "image_set",
    "count_copies": "image_set",
    "stratified_split": "image_set",
}

__all__ = [
    "ImageSet",
    "Normalization",
    "Predictions",
    "channel_statistics",
    "count_copies",
    "stratified_split",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
