"""A network with everything it needs to be used: preprocessing, class names, and provenance."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import safetensors
import torch
from torch import nn

from cifar100_transfer.errors import UserError
from cifar100_transfer.sealed import content_digest, pack, unpack
from cifar100_transfer.storage import atomic_path

from .backbones import build_network, load_current_state, memory_format

_METADATA_KEY = "classifier"


@dataclass(frozen=True)
class ClassifierSpec:
    """All that is needed to rebuild a classifier around its weights.

    Attributes:
        architecture: name for `build_network`.
        class_names: one name a logit.
        mean: channel means of images in [0, 1] that are subtracted.
        std: channel standard deviations that are divided by.
        input_size: height and width of the images it was trained on, in pixels.
        image_size: pixels to which images are resized before the network; None: not resized.
        dropout: probability of dropping a feature before the head; None: as published.
        coarse_names: names of the coarse classes, if any.
        coarse_of_class: coarse class of every class, if any.
        recipe: how it was trained, as plain JSON values; for people, not for code.
    """

    architecture: str
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: tuple[int, int] = (32, 32)
    image_size: int | None = None
    dropout: float | None = None
    coarse_names: tuple[str, ...] = ()
    coarse_of_class: tuple[int, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild a spec from the JSON that `to_json` wrote.

        Raises:
            ValueError: the text is no JSON object with exactly this class's fields.
        """
        values = json.loads(text)
        names = {entry.name for entry in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"expected the fields {sorted(names)}")
        # JSON has no tuples.
        values |= {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        return cls(**values)

    def to_json(self) -> str:
        """Return the spec as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


class Classifier(nn.Module):
    """Images in, logits out: resizing and normalisation are part of it.

    Nobody outside ever normalises, so test images can't be preprocessed unlike training images.

    Args:
        spec: architecture, classes and preprocessing; the weights start random.

    Attributes:
        spec: as given.
        network: the bare network, from normalised images to logits.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.spec = spec
        self.network = build_network(
            spec.architecture, len(spec.class_names), self.network_size, spec.dropout
        )
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))

    @property
    def network_size(self) -> tuple[int, int]:
        """Height and width of what the network sees, in pixels."""
        size = self.spec.image_size
        return self.spec.input_size if size is None else (size, size)

    def forward(self, images: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Classify images.

        Args:
            images: [N, 3, H, W], uint8 in 0 … 255 or floating point in [0, 1].
            size: height and width to resize to, in pixels, if not `network_size`.

        Returns:
            Logits [N, classes].

        Raises:
            ValueError: other images by shape or data type. Values are not looked at.
        """
        return self.network(self.preprocess(images, size))

    def preprocess(self, images: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return what the network sees: resized and normalised images [N, 3, H', W']."""
        _check_images(images)
        size = size or self.network_size
        values = images.to(self.mean.dtype)
        # Scaling belongs to the bytes, not to the statistics: floats are in [0, 1] already.
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        if values.shape[-2:] != size:
            values = nn.functional.interpolate(values, size=size, mode="bilinear", antialias=True)
        normalized = (values - self.mean * scale) / (self.std * scale)
        return normalized.contiguous(memory_format=memory_format(self.spec.architecture))


def _check_images(images: torch.Tensor) -> None:
    """Refuse another shape or data type; to look at values would be to wait for a GPU."""
    kind, shape = images.dtype, images.shape
    if len(shape) != 4 or shape[1] != 3 or not (kind.is_floating_point or kind == torch.uint8):
        found = f"{str(kind).removeprefix('torch.')} {list(shape)}"
        raise ValueError(f"images are uint8 or floating point [N, 3, H, W], got {found}")


def classifier_digest(classifier: Classifier) -> str:
    """Return a SHA-256 of all that decides what a classifier says: specification and weights."""
    return content_digest(classifier.state_dict(), asdict(classifier.spec))


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Write weights and spec to one safetensors file, atomically."""
    content = pack(classifier.state_dict(), _METADATA_KEY, asdict(classifier.spec))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_classifier(path: Path | str) -> Classifier:
    """Load a stored classifier, ready to classify.

    Args:
        path: a file written by `save_classifier`, or a folder of Kedro's versions of one, of which
            the newest is taken.

    Returns:
        The classifier on the CPU in evaluation mode.

    Raises:
        UserError: no such file, damaged, not one of this project's classifiers, or its weights
            are not finite.
    """
    file = _newest_version(Path(path))
    try:
        weights, description = unpack(file, _METADATA_KEY)
        classifier = Classifier(ClassifierSpec.from_json(json.dumps(description)))
        load_current_state(classifier, weights)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: train the model first") from None
    except KeyError:
        raise UserError(f"{file} holds no classifier of this project") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file} is damaged or of another version ({reason})") from error
    if not all(bool(values.isfinite().all()) for values in classifier.state_dict().values()):
        raise UserError(f"{file} holds weights that are not finite: train the model again")
    return classifier.eval()


def _newest_version(path: Path) -> Path:
    if not path.is_dir():
        return path
    versions = sorted(path.glob(f"*/{path.name}"))
    if not versions:
        raise UserError(f"{path} holds no stored version: train the model first")
    return versions[-1]
