"""A network with everything it needs to be used: preprocessing, class names, and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from torch import nn

from cifar100_transfer.errors import UserError
from cifar100_transfer.sealed import content_digest, pack, read_description, unpack
from cifar100_transfer.storage import atomic_path

from .backbones import build_network, load_current_state, memory_format
from .log_probabilities import mean_log_probabilities

_METADATA_KEY = "classifier"
_MEMBERS = "members"
ENSEMBLE = "ensemble"
"""What stands for the architecture of a classifier that averages several others."""


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

    @staticmethod
    def from_json(text: str) -> ClassifierSpec:
        """Rebuild a spec, an `EnsembleSpec` where it has members, from the JSON of `to_json`.

        Raises:
            ValueError: the text is no JSON object with exactly the fields of one of the two.
        """
        return _spec_from(json.loads(text))

    def to_json(self) -> str:
        """Return the spec as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True)
class EnsembleSpec(ClassifierSpec):
    """All that is needed to rebuild an ensemble; see `average_classifiers`.

    Attributes:
        members: of the classifiers that are averaged.
    """

    members: tuple[ClassifierSpec, ...] = ()


def _spec_from(values: Any) -> ClassifierSpec:
    kind = EnsembleSpec if isinstance(values, dict) and _MEMBERS in values else ClassifierSpec
    names = {entry.name for entry in fields(kind)}
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError(f"expected the fields {sorted(names)}")
    # JSON has no tuples.
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    if kind is EnsembleSpec:
        values[_MEMBERS] = tuple(map(_spec_from, values[_MEMBERS]))
    return kind(**values)


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
        self.network = (
            _Ensemble(spec.members)
            if isinstance(spec, EnsembleSpec)
            else build_network(
                spec.architecture, len(spec.class_names), self.network_size, spec.dropout
            )
        )
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))

    @property
    def members(self) -> tuple[Classifier, ...]:
        """The classifiers that are averaged, if this is an ensemble; otherwise itself alone."""
        network = self.network
        if isinstance(network, _Ensemble):
            return tuple(cast(Iterable[Classifier], network.members))
        return (self,)

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
        """Return what the network sees: resized and normalised images [N, 3, H', W'].

        Those of an ensemble are scaled to [0, 1] only: its members do the rest, each its own way.
        """
        _check_images(images)
        if size is None:
            whole = isinstance(self.network, _Ensemble)
            size = (images.shape[-2], images.shape[-1]) if whole else self.network_size
        values = images.to(self.mean.dtype)
        # Scaling belongs to the bytes, not to the statistics: floats are in [0, 1] already.
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        if values.shape[-2:] != size:
            values = nn.functional.interpolate(values, size=size, mode="bilinear", antialias=True)
        normalized = (values - self.mean * scale) / (self.std * scale)
        return normalized.contiguous(memory_format=memory_format(self.spec.architecture))


class _Ensemble(nn.Module):
    """Several classifiers on the same images, each with its own preprocessing.

    Args:
        specs: of the members.
    """

    def __init__(self, specs: Sequence[ClassifierSpec]) -> None:
        super().__init__()
        self.members = nn.ModuleList(map(Classifier, specs))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return mean_log_probabilities(member(images) for member in self.members)


def average_classifiers(members: Sequence[Classifier], recipe: dict[str, Any]) -> Classifier:
    """Make one classifier of several: its logits are the mean of their log-probabilities.

    It is stored, judged and used as any other. Deep ensembles (Lakshminarayanan et al. 2017)
    average probabilities; the mean of log-probabilities is explained at `mean_log_probabilities`.

    Args:
        members: at least one; all of the same classes, for images of the same size. They are
            copied.
        recipe: for the specification of the ensemble.

    Returns:
        The ensemble on the CPU in evaluation mode.

    Raises:
        UserError: there are no members, or their classes or sizes of images differ.
    """
    if not members:
        raise UserError("an ensemble of no classifiers predicts nothing: name at least one member")
    first = members[0].spec
    for member in members:
        if isinstance(member.spec, EnsembleSpec):
            raise UserError("an ensemble can't be a member of another one: name its members")
        if _classes(member.spec) != _classes(first):
            raise UserError(
                "members of an ensemble must know the same classes, in the same order, and the "
                "same coarse classes"
            )
        if member.spec.input_size != first.input_size:
            raise UserError(
                f"members of an ensemble must take images of the same size, not "
                f"{list(first.input_size)} and {list(member.spec.input_size)} pixels"
            )
    ensemble = Classifier(
        EnsembleSpec(
            architecture=ENSEMBLE,
            class_names=first.class_names,
            # To [0, 1] and no further: every member normalises as it was trained to.
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            input_size=first.input_size,
            coarse_names=first.coarse_names,
            coarse_of_class=first.coarse_of_class,
            recipe=recipe,
            members=tuple(member.spec for member in members),
        )
    )
    for own, member in zip(ensemble.members, members, strict=True):
        load_current_state(own, member.state_dict())
    return ensemble.eval()


def _classes(spec: ClassifierSpec) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    return spec.class_names, spec.coarse_names, spec.coarse_of_class


def _check_images(images: torch.Tensor) -> None:
    """Refuse another shape or data type; to look at values would be to wait for a GPU."""
    if not isinstance(images, torch.Tensor):
        raise ValueError(
            f"images are a torch.Tensor, got {type(images).__name__}: torch.from_numpy makes one "
            f"of an array"
        )
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
        classifier = Classifier(_spec_from(description))
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


def read_spec(file: Path) -> ClassifierSpec:
    """Read what a stored classifier is, without its weights and without checking them.

    Raises:
        UserError: no such file, damaged, or not one of this project's classifiers.
    """
    try:
        return _spec_from(read_description(file, _METADATA_KEY))
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{file} is damaged, or holds no classifier of this project: remove that version, or "
            f"train the model again"
        ) from error


def _newest_version(path: Path) -> Path:
    if not path.is_dir():
        return path
    versions = sorted(path.glob(f"*/{path.name}"))
    if not versions:
        raise UserError(f"{path} holds no stored version: train the model first")
    return versions[-1]
