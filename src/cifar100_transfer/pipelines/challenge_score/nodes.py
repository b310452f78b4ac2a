"""Nodes of the score template."""

from typing import Any

from cifar100_transfer.pipelines.annotations import DataFrame, ImageSet, Submission


def measure_accuracy(submission: Submission, test_set: ImageSet) -> DataFrame:
    """Compare a submission with the test labels, distortion by distortion."""
    from cifar100_transfer.evaluation.challenge import challenge_accuracy

    return challenge_accuracy(submission, test_set.labels)


def compute_score(accuracy: DataFrame) -> dict[str, Any]:
    """Compute the challenge's score, the accuracy over all images, and that of every severity."""
    by_severity = accuracy.groupby("severity")["accuracy"].mean()
    return {
        "challenge_accuracy": float(accuracy["accuracy"].mean()),
        **{f"severity_{severity}": float(value) for severity, value in by_severity.items()},
        "images": int(accuracy["images"].sum()),
    }
