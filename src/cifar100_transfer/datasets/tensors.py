"""Artifacts for machines: image sets, classifiers, predictions and pretrained weights."""

import re
from pathlib import Path
from typing import Any, NoReturn

import torch
from kedro.io import AbstractDataset

from cifar100_transfer.data import ImageSet, Predictions, files, pretrained
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, load_classifier, save_classifier
from cifar100_transfer.storage import checksums

from .base import ArtifactDataset

_PUBLISHED = re.compile(r"\w+_Weights\.\w+")


class ImageSetDataset(ArtifactDataset[ImageSet]):
    """An image set as safetensors."""

    def read(self, path: Path) -> ImageSet:
        """Read the image set."""
        return files.load_image_set(path)

    def write(self, data: ImageSet, path: Path) -> None:
        """Write the image set."""
        files.save_image_set(data, path)


class PredictionsDataset(ArtifactDataset[Predictions]):
    """Predictions as safetensors."""

    def read(self, path: Path) -> Predictions:
        """Read the predictions."""
        return files.load_predictions(path)

    def write(self, data: Predictions, path: Path) -> None:
        """Write the predictions."""
        files.save_predictions(data, path)


class ClassifierDataset(ArtifactDataset[Classifier]):
    """A classifier as safetensors: weights, preprocessing, class names, recipe."""

    def read(self, path: Path) -> Classifier:
        """Read the classifier."""
        return load_classifier(path)

    def write(self, data: Classifier, path: Path) -> None:
        """Write the classifier."""
        save_classifier(data, path)


class _CanBeLeftOut:
    """Weights that a run may have no use for, and that would have to be fetched or made."""

    _left_out = False

    def leave_out(self) -> None:
        """Let an empty state dict be all there is, from now on."""
        self._left_out = True


class WeightsDataset(_CanBeLeftOut, ArtifactDataset[dict[str, torch.Tensor]]):
    """Pretrained weights in a file: a state dict, or a stored classifier of this project."""

    def load(self) -> dict[str, torch.Tensor]:
        """Return the state dict."""
        return {} if self._left_out else super().load()

    def load_path(self) -> Path:
        """Return the file that `load` reads. Without versions no pipeline makes it."""
        return super().load_path() if self._version else Path(self._filepath)

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the file that is read, by its name."""
        return {} if self._left_out else super().checksums()

    def read(self, path: Path) -> dict[str, torch.Tensor]:
        """Read the state dict."""
        return pretrained.read_weights(path)

    def write(self, data: dict[str, torch.Tensor], path: Path) -> None:
        """Refuse: pretrained weights are an input."""
        raise UserError(f"{path}: pretrained weights are read, never written")

    def _exists(self) -> bool:
        return self._left_out or super()._exists()


class PublishedWeightsDataset(_CanBeLeftOut, AbstractDataset[NoReturn, dict[str, torch.Tensor]]):
    """Weights that torchvision publishes, fetched once into torch's cache, or those in a file.

    Args:
        weights: torchvision's name, such as `ResNet50_Weights.IMAGENET1K_V1`, or a file that
            `WeightsDataset` reads, seen from the current folder.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(self, *, weights: str, metadata: dict[str, Any] | None = None) -> None:
        self._weights = weights
        self._file = None if _PUBLISHED.fullmatch(weights) else Path(weights)
        self.metadata = metadata

    def load(self) -> dict[str, torch.Tensor]:
        """Return the state dict."""
        if self._left_out:
            return {}
        if self._file is None:
            return pretrained.published_weights(self._weights)
        return pretrained.read_weights(self._file)

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the file that is read; published names carry their own."""
        return {} if self._left_out or self._file is None else checksums([self._file])

    def save(self, data: NoReturn) -> None:
        """Refuse: published weights are an input."""
        raise UserError(f"{self._weights} is published by torchvision and can't be saved to")

    def _describe(self) -> dict[str, Any]:
        return {"weights": self._weights}
