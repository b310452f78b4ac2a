"""Nodes of the submission template. None of them knows a label of the test set."""

from pathlib import Path
from typing import Any

from cifar100_transfer.config import ComputeConfig, SubmissionConfig
from cifar100_transfer.pipelines.annotations import ChallengeFiles, Classifier, Submission


def predict_challenge(
    classifier: Classifier,
    challenge_files: ChallengeFiles,
    parts: Path,
    compute: ComputeConfig,
    submission: SubmissionConfig,
) -> tuple[Submission, dict[str, Any]]:
    """Classify every distorted image; a killed run goes on after its last finished file.

    Returns the submission and a summary of what was predicted.
    """
    from cifar100_transfer.evaluation import challenge
    from cifar100_transfer.models import choose_device

    device = choose_device(compute.device)
    predictions = challenge.predict_challenge(
        classifier, challenge_files, parts, device, submission
    )
    summary = challenge.summarize(predictions, classifier.spec.class_names)
    return predictions.submission, {**submission.model_dump(), **summary, "device": str(device)}
