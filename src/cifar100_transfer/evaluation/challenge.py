"""Classifying the challenge files, warning of what looks wrong, and the score after the fact."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cifar100_transfer.config import ADAPTING, SubmissionConfig
from cifar100_transfer.data.challenge import (
    CLASSES,
    DISTORTIONS,
    SIDE,
    ChallengeFiles,
    Submission,
    writing,
)
from cifar100_transfer.data.corruptions import CORRUPTIONS, SEVERITIES
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, ClassifierSpec, classifier_digest
from cifar100_transfer.sealed import pack, unpack
from cifar100_transfer.storage import mark_as_used

from .adaptation import Predictor, has_batch_norm
from .robustness import predictors_of

logger = logging.getLogger(__name__)

_METADATA_KEY = "part"

PLAINLY = SubmissionConfig()

CHUNK = 4096  # images copied out of a file at a time: 12 MB
DOMINANT_FACTOR = 10
"""A class predicted more than this many times its uniform share is warned of."""
CHANCE_FACTOR = 2
"""So is a mean confidence below this many times chance, 1 / classes."""


@dataclass(frozen=True, eq=False)
class ChallengePredictions:
    """What a classifier said about every distorted image.

    Attributes:
        labels: predicted class, int16 [19, 5, n].
        confidence: its probability, float32 [19, 5, n].
        seconds: spent on each file, [19], whichever run did it.
    """

    labels: NDArray[np.int16]
    confidence: NDArray[np.float32]
    seconds: tuple[float, ...]

    @property
    def submission(self) -> Submission:
        """The labels alone."""
        return Submission(self.labels)


@dataclass(frozen=True, eq=False)
class _Part:
    """One file's share of the predictions: labels int16 and confidence float32, each [5 n]."""

    labels: NDArray[np.int16]
    confidence: NDArray[np.float32]
    seconds: float


def predict_challenge(
    classifier: Classifier,
    challenge: ChallengeFiles,
    parts: Path,
    device: torch.device,
    config: SubmissionConfig = PLAINLY,
) -> ChallengePredictions:
    """Classify all challenge files, going on after the last file that an earlier run finished.

    A finished file's predictions are stored in `parts` under a name that contains a digest of the
    classifier, of the images and of the method, so those of others are never taken. Of the images
    only a chunk is in memory, or where a method adapts to them, those of one severity.

    Args:
        classifier: knows 100 classes.
        challenge: the files.
        parts: existing folder for the predictions of finished files.
        device: where to compute.
        config: by which method.

    Raises:
        UserError: another number of classes or size of images, a method that adapts what the
            classifier has none of, a file that has changed, predictions that are not finite, or a
            full disk.
    """
    check_challenger(classifier.spec)
    check_method(classifier, config)
    names = classifier.spec.class_names
    adapts = config.method in ADAPTING
    origin = classifier_digest(classifier)
    if config.method != "plain":
        origin += f" {config.method} {config.source_weight if adapts else ''}"
    one = predictors_of(classifier.to(device), [config.method], config.source_weight)
    predict = one[config.method]
    at_once = challenge.images_per_severity if adapts else CHUNK
    total = len(DISTORTIONS) * len(SEVERITIES) * challenge.images_per_severity
    done = []
    with tqdm(total=total, desc="Challenge", unit=" images", disable=None) as bar:
        for distortion, name in enumerate(DISTORTIONS):
            key = hashlib.sha256((origin + challenge.digests[distortion]).encode())
            path = parts / f"{name}-{key.hexdigest()[:24]}.safetensors"
            part = _load_part(path, len(SEVERITIES) * challenge.images_per_severity)
            if part is None:
                part = _predict_file(predict, challenge.open(distortion), at_once, name, bar)
                _save_part(part, path)
                progress = f"{len(part.labels) / part.seconds:,.0f} images/s"
            else:
                bar.update(len(part.labels))
                progress = "kept from an earlier run"
            if bar.disable:
                logger.info("%s (%d of %d): %s", name, distortion + 1, len(DISTORTIONS), progress)
            for warning in suspicions(name, part.labels, part.confidence, names):
                logger.warning(warning)
            done.append(part)
    shape = (len(DISTORTIONS), len(SEVERITIES), -1)
    return ChallengePredictions(
        labels=np.stack([part.labels for part in done]).reshape(shape),
        confidence=np.stack([part.confidence for part in done]).reshape(shape),
        seconds=tuple(part.seconds for part in done),
    )


def check_challenger(spec: ClassifierSpec) -> None:
    """Raise a `UserError` if a classifier knows other classes or images than the challenge has."""
    if len(spec.class_names) != CLASSES:
        raise UserError(
            f"the challenge has {CLASSES} classes, but the classifier knows "
            f"{len(spec.class_names)}: train one on CIFAR-100"
        )
    if spec.input_size != (SIDE, SIDE):
        height, width = spec.input_size
        raise UserError(
            f"the challenge's images are of {SIDE} x {SIDE} pixels, but the classifier was trained "
            f"on {height} x {width}: train one on CIFAR-100"
        )


def check_method(classifier: Classifier, config: SubmissionConfig) -> None:
    """Raise a `UserError` if a classifier has nothing of what the method adapts."""
    if config.method in ADAPTING and not has_batch_norm(classifier):
        raise UserError(
            f"submission.method={config.method}: {classifier.spec.architecture} has no batch "
            f"normalisation to adapt: choose plain or tta"
        )


def _predict_file(
    predict: Predictor, images: NDArray[np.uint8], at_once: int, name: str, bar: tqdm[Any]
) -> _Part:
    started = time.perf_counter()
    labels = np.empty(len(images), np.int16)
    confidence = np.empty(len(images), np.float32)
    for start in range(0, len(images), at_once):
        rows = slice(start, start + at_once)
        channels_first = torch.from_numpy(images[rows].transpose(0, 3, 1, 2).copy())
        highest = predict(channels_first).softmax(dim=1).max(dim=1)
        labels[rows] = highest.indices.cpu().numpy()
        confidence[rows] = highest.values.cpu().numpy()
        bar.update(len(channels_first))
    if not np.isfinite(confidence).all():
        raise UserError(
            f"{name}: the classifier's outputs are not finite: it diverged in training or its "
            f"weights are damaged"
        )
    return _Part(labels, confidence, time.perf_counter() - started)


def _save_part(part: _Part, path: Path) -> None:
    tensors = {
        "labels": torch.from_numpy(part.labels),
        "confidence": torch.from_numpy(part.confidence),
    }
    content = pack(tensors, _METADATA_KEY, {"seconds": part.seconds})
    with writing(path) as temporary:
        temporary.write_bytes(content)


def _load_part(path: Path, images: int) -> _Part | None:
    """Read a finished file's predictions; None if there are none, or they are damaged."""
    if not path.exists():
        return None
    try:
        tensors, description = unpack(path, _METADATA_KEY)
        labels, confidence = tensors["labels"].numpy(), tensors["confidence"].numpy()
        seconds = float(description["seconds"])
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s is damaged (%s): its images are classified anew", path, error)
        return None
    if len(labels) != images:
        return None
    mark_as_used(path)
    return _Part(labels, confidence, seconds)


def suspicions(
    name: str,
    labels: NDArray[np.int16],
    confidence: NDArray[np.float32],
    class_names: tuple[str, ...],
) -> list[str]:
    """Name what is odd about the predictions of one file, as when images were prepared wrongly.

    Args:
        name: of the file.
        labels: predicted classes, [N].
        confidence: their probabilities, [N].
        class_names: one name a class.

    Returns:
        No, one or two sentences.
    """
    classes = len(class_names)
    counts = np.bincount(labels, minlength=classes)
    share, mean = counts.max() / len(labels), confidence.mean()
    found = []
    if share > DOMINANT_FACTOR / classes:
        found.append(
            f"{name}: {share:.1%} of the images are taken for '{class_names[counts.argmax()]}', "
            f"which would be {1 / classes:.1%} if classes were predicted evenly: has the model "
            f"been trained, and on images like these?"
        )
    if mean < CHANCE_FACTOR / classes:
        found.append(
            f"{name}: the mean confidence is {mean:.2%}, about that of a guess "
            f"({1 / classes:.2%}): has the model been trained?"
        )
    return found


def summarize(predictions: ChallengePredictions, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Describe predictions without knowing what is true.

    Args:
        predictions: on all files.
        class_names: one name a class.

    Returns:
        Number of images, seconds and images per second of classification, mean confidence in all,
        by distortion and by severity within it, images by predicted class, and warnings.
    """
    labels, confidence = predictions.labels, predictions.confidence
    seconds = sum(predictions.seconds)
    by_severity = confidence.mean(axis=2, dtype=np.float64)
    counts = np.bincount(labels.ravel(), minlength=len(class_names))
    return {
        "images": labels.size,
        "seconds": seconds,
        "images_per_second": labels.size / seconds,
        "mean_confidence": float(by_severity.mean()),
        "mean_confidence_by_distortion": dict(
            zip(DISTORTIONS, by_severity.mean(axis=1).tolist(), strict=True)
        ),
        "mean_confidence_by_severity": dict(zip(DISTORTIONS, by_severity.tolist(), strict=True)),
        "predicted_images": dict(zip(class_names, counts.tolist(), strict=True)),
        "warnings": [
            warning
            for index, name in enumerate(DISTORTIONS)
            for warning in suspicions(
                name, labels[index].ravel(), confidence[index].ravel(), class_names
            )
        ],
    }


def challenge_accuracy(submission: Submission, labels: torch.Tensor) -> pd.DataFrame:
    """Score a submission by the test labels, after the fact.

    Args:
        submission: classes for n images under every distortion and severity.
        labels: true classes of the n test images in test order, int64 [n].

    Returns:
        95 rows: `distortion` (name of the file), `corruption` (the kind it was most likely made
        with), `severity`, `images` and `accuracy` in [0, 1].

    Raises:
        UserError: the submission is about another number of images.
    """
    if len(labels) != submission.images_per_severity:
        raise UserError(
            f"the submission is about {submission.images_per_severity:,} images a severity, the "
            f"test set has {len(labels):,}: score it with the test set it was made from"
        )
    accuracy = (submission.labels == labels.numpy()).mean(axis=2)
    return pd.DataFrame(
        {
            "distortion": np.repeat(DISTORTIONS, len(SEVERITIES)),
            "corruption": np.repeat(CORRUPTIONS, len(SEVERITIES)),
            "severity": np.tile(SEVERITIES, len(DISTORTIONS)),
            "images": len(labels),
            "accuracy": accuracy.ravel(),
        }
    )
