"""From (classifier, image sets, recipe) to weights and history. Works without Kedro.

Names are loaded on first use, so that importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from cifar100_transfer.lazy import lazy_attributes

if TYPE_CHECKING:
    from .batch_size import choose_batch_size
    from .build import build_classifier
    from .compute import Compute
    from .distributed import train_on_devices
    from .loop import EpochRecord, TrainingResult, train

_HOMES = {
    "build_classifier": "build",
    "choose_batch_size": "batch_size",
    "Compute": "compute",
    "EpochRecord": "loop",
    "TrainingResult": "loop",
    "train": "loop",
    "train_on_devices": "distributed",
}

__all__ = [
    "Compute",
    "EpochRecord",
    "TrainingResult",
    "build_classifier",
    "choose_batch_size",
    "train",
    "train_on_devices",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
