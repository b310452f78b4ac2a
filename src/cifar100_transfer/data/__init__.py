"""Image sets and where they come from, without Kedro.

Names are loaded on first use, so that importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from cifar100_transfer.lazy import lazy_attributes

if TYPE_CHECKING:
    from .files import read_division
    from .image_set import (
        ImageSet,
        Normalization,
        channel_statistics,
        check_division,
        check_made_together,
        count_copies,
        of_one_division,
        stratified_split,
        stratified_subset,
    )
    from .predictions import Predictions

_HOMES = {
    "ImageSet": "image_set",
    "Normalization": "image_set",
    "Predictions": "predictions",
    "channel_statistics": "image_set",
    "check_division": "image_set",
    "check_made_together": "image_set",
    "count_copies": "image_set",
    "of_one_division": "image_set",
    "read_division": "files",
    "stratified_split": "image_set",
    "stratified_subset": "image_set",
}

__all__ = [
    "ImageSet",
    "Normalization",
    "Predictions",
    "channel_statistics",
    "check_division",
    "check_made_together",
    "count_copies",
    "of_one_division",
    "read_division",
    "stratified_split",
    "stratified_subset",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
