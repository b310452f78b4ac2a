"""What a submission costs beside the bare network, in one process.

    python benchmarks/submission.py [images]

Writes a challenge of random images into a temporary folder, classifies it with an untrained
SimpleCNN, writes the CSV, and compares with `predict_logits` on images in memory, before and after.
"""

import argparse
import json
import logging
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cifar100_transfer.data.challenge import (
    DISTORTIONS,
    challenge_path,
    open_own_challenge,
    write_submission,
)
from cifar100_transfer.evaluation.challenge import predict_challenge
from cifar100_transfer.models import Classifier, ClassifierSpec, predict_logits

CPU = torch.device("cpu")


def main(images_per_severity: int) -> None:
    """Print the rates in images per second, their ratio, and the peak memory."""
    names = tuple(f"class_{index}" for index in range(100))
    classifier = Classifier(ClassifierSpec("simple_cnn", names, (0.5,) * 3, (0.25,) * 3)).eval()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for distortion in range(len(DISTORTIONS)):
            images = generator.integers(0, 256, (5 * images_per_severity, 32, 32, 3), np.uint8)
            np.save(challenge_path(folder, distortion), images)
        files = open_own_challenge(folder)
        in_memory = torch.from_numpy(images[:10_000].transpose(0, 3, 1, 2).copy())
        _bare_rate(classifier, in_memory)
        bare = [_bare_rate(classifier, in_memory)]
        started = time.perf_counter()
        predictions = predict_challenge(classifier, files, folder, CPU)
        classified = time.perf_counter()
        write_submission(predictions.submission, folder / "submission.csv")
        written = time.perf_counter()
        bare.append(_bare_rate(classifier, in_memory))
    rate = predictions.labels.size / (written - started)
    outcome = {
        "images": predictions.labels.size,
        "bare_images_per_second": bare,
        "submission_images_per_second": rate,
        "ratio": rate / (sum(bare) / len(bare)),
        "csv_seconds": written - classified,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    print(json.dumps(outcome, indent=2))


def _bare_rate(classifier: Classifier, images: torch.Tensor) -> float:
    started = time.perf_counter()
    predict_logits(classifier, images)
    return len(images) / (time.perf_counter() - started)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # an untrained network is rightly warned of
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=int, nargs="?", default=1000, help="of each severity")
    main(parser.parse_args().images)
