"""From (classifier, image sets, recipe) to weights and history. Works without Kedro.

Names are loaded on first use, so that importing this package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .build import build_classifier
    from .distributed import train_on_devices
    from .loop import EpochRecord, TrainingResult, train

_HOMES = {
    "build_classifier": "build",
    "EpochRecord": "loop",
    "TrainingResult": "loop",
    "train": "loop",
    "train_on_devices": "distributed",
}

__all__ = ["EpochRecord", "TrainingResult", "build_classifier", "train", "train_on_devices"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
