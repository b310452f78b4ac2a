"""How artifacts are stored: every write is atomic, every format safe to load.

Names are loaded on first use: the catalog is read by commands that need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifacts import FigureDataset, JSONDataset, TableDataset, TextDataset
    from .challenge import ChallengeDataset, GeneratedChallengeDataset, SubmissionDataset
    from .folder import FolderDataset
    from .raw import CIFAR100Dataset, SampleDataset
    from .results import ResultsDataset
    from .studies import StudiesDataset
    from .tensors import (
        ClassifierDataset,
        ImageSetDataset,
        PredictionsDataset,
        PublishedWeightsDataset,
        WeightsDataset,
    )

_HOMES = {
    "CIFAR100Dataset": "raw",
    "ChallengeDataset": "challenge",
    "ClassifierDataset": "tensors",
    "FigureDataset": "artifacts",
    "FolderDataset": "folder",
    "GeneratedChallengeDataset": "challenge",
    "ImageSetDataset": "tensors",
    "JSONDataset": "artifacts",
    "PredictionsDataset": "tensors",
    "PublishedWeightsDataset": "tensors",
    "ResultsDataset": "results",
    "SampleDataset": "raw",
    "StudiesDataset": "studies",
    "SubmissionDataset": "challenge",
    "TableDataset": "artifacts",
    "TextDataset": "artifacts",
    "WeightsDataset": "tensors",
}

__all__ = [
    "CIFAR100Dataset",
    "ChallengeDataset",
    "ClassifierDataset",
    "FigureDataset",
    "FolderDataset",
    "GeneratedChallengeDataset",
    "ImageSetDataset",
    "JSONDataset",
    "PredictionsDataset",
    "PublishedWeightsDataset",
    "ResultsDataset",
    "SampleDataset",
    "StudiesDataset",
    "SubmissionDataset",
    "TableDataset",
    "TextDataset",
    "WeightsDataset",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
