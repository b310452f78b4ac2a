"""How artifacts are stored: every write is atomic, every format safe to load.

Names are loaded on first use: the catalog is read by commands that need no torch.
"""

from typing import TYPE_CHECKING

from cifar100_transfer.lazy import lazy_attributes

if TYPE_CHECKING:
    from .artifacts import (
        BytesDataset,
        FigureDataset,
        JSONDataset,
        ONNXDataset,
        TableDataset,
        TextDataset,
    )
    from .base import ArtifactDataset
    from .challenge import ChallengeDataset, GeneratedChallengeDataset, SubmissionDataset
    from .chosen import ChosenClassifierDataset, PicturesDataset
    from .folder import FolderDataset
    from .manifests import RunManifestsDataset
    from .raw import (
        CIFAR10Dataset,
        CIFAR100Dataset,
        HuggingFaceDataset,
        ImageFolderDataset,
        SampleDataset,
    )
    from .results import ResultsDataset
    from .stored import StoredClassifiersDataset
    from .studies import StudiesDataset
    from .tensors import (
        ClassifierDataset,
        ImageSetDataset,
        PredictionsDataset,
        PublishedWeightsDataset,
        WeightsDataset,
    )

_HOMES = {
    "ArtifactDataset": "base",
    "BytesDataset": "artifacts",
    "CIFAR100Dataset": "raw",
    "CIFAR10Dataset": "raw",
    "ChallengeDataset": "challenge",
    "ChosenClassifierDataset": "chosen",
    "ClassifierDataset": "tensors",
    "FigureDataset": "artifacts",
    "FolderDataset": "folder",
    "GeneratedChallengeDataset": "challenge",
    "HuggingFaceDataset": "raw",
    "ImageFolderDataset": "raw",
    "ImageSetDataset": "tensors",
    "JSONDataset": "artifacts",
    "ONNXDataset": "artifacts",
    "PicturesDataset": "chosen",
    "PredictionsDataset": "tensors",
    "PublishedWeightsDataset": "tensors",
    "ResultsDataset": "results",
    "RunManifestsDataset": "manifests",
    "SampleDataset": "raw",
    "StoredClassifiersDataset": "stored",
    "StudiesDataset": "studies",
    "SubmissionDataset": "challenge",
    "TableDataset": "artifacts",
    "TextDataset": "artifacts",
    "WeightsDataset": "tensors",
}

__all__ = [
    "ArtifactDataset",
    "BytesDataset",
    "CIFAR10Dataset",
    "CIFAR100Dataset",
    "ChallengeDataset",
    "ChosenClassifierDataset",
    "ClassifierDataset",
    "FigureDataset",
    "FolderDataset",
    "GeneratedChallengeDataset",
    "HuggingFaceDataset",
    "ImageFolderDataset",
    "ImageSetDataset",
    "JSONDataset",
    "ONNXDataset",
    "PicturesDataset",
    "PredictionsDataset",
    "PublishedWeightsDataset",
    "ResultsDataset",
    "RunManifestsDataset",
    "SampleDataset",
    "StoredClassifiersDataset",
    "StudiesDataset",
    "SubmissionDataset",
    "TableDataset",
    "TextDataset",
    "WeightsDataset",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
