"""Nodes of the score template."""

import logging
from typing import Any

from cifar100_transfer.pipelines.annotations import DataFrame, ImageSet, Submission

logger = logging.getLogger(__name__)


def measure_accuracy(submission: Submission, test_set: ImageSet) -> DataFrame:
    """Compare a submission with the test labels, distortion by distortion."""
    from cifar100_transfer.evaluation.challenge import challenge_accuracy

    return challenge_accuracy(submission, test_set.labels)


def compute_score(accuracy: DataFrame, model: str) -> dict[str, Any]:
    """Compute the challenge's score, the accuracy over all images, and that of every severity."""
    by_severity = accuracy.groupby("severity")["accuracy"].mean()
    score, images = float(accuracy["accuracy"].mean()), int(accuracy["images"].sum())
    logger.info("%s: %.2f %% of %s challenge images", model, 100 * score, f"{images:,}")
    return {
        "challenge_accuracy": score,
        **{f"severity_{severity}": float(value) for severity, value in by_severity.items()},
        "images": images,
    }
