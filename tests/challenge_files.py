"""A tiny challenge of random images, for the tests of everything that reads one."""

from pathlib import Path

import numpy as np

from cifar100_transfer.data.challenge import (
    DISTORTIONS,
    ChallengeFiles,
    challenge_path,
    open_own_challenge,
)


def write_random_challenge(folder: Path, images_per_severity: int, seed: int = 0) -> ChallengeFiles:
    """Write nineteen files of random pixels and return the handle on them."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for distortion in range(len(DISTORTIONS)):
        images = generator.integers(0, 256, (5 * images_per_severity, 32, 32, 3), np.uint8)
        np.save(challenge_path(folder, distortion), images)
    return open_own_challenge(folder)
