"""Fixtures that several test modules share."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch

from cifar100_transfer.data import ImageSet

# How long an example takes is the machine's matter: a busy one would fail tests.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Kedro's telemetry would look for a network in every test that runs a pipeline.
os.environ["DO_NOT_TRACK"] = "1"

ROOT = Path(__file__).resolve().parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker for every core: threads of their own would only wait for one another.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder that holds the official cifar-100-python/; tests that need it skip without it."""
    candidates = [
        Path(os.environ.get("CIFAR100_DATA", ROOT / "data" / "01_raw")),
        ROOT.parent / "shared" / "data",
    ]
    for candidate in candidates:
        if (candidate / "cifar-100-python" / "train").is_file():
            return candidate
    pytest.skip("the official CIFAR-100 is not here; set CIFAR100_DATA to its folder")


@pytest.fixture
def image_set() -> ImageSet:
    """Six classes in three coarse ones, ten random images of 12 x 12 pixels each."""
    return random_image_set(classes=6, per_class=10, size=12)


@pytest.fixture
def make_image_set() -> Callable[..., ImageSet]:
    """Give `random_image_set` to tests that need other sizes or seeds."""
    return random_image_set


def random_image_set(classes: int, per_class: int, size: int, seed: int = 0) -> ImageSet:
    """Random images; every class has a colour of its own, so it can be learned."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(per_class)
    colours = torch.randint(60, 196, (classes, 3, 1, 1), generator=torch.Generator().manual_seed(7))
    noise = torch.randint(-60, 60, (len(labels), 3, size, size), generator=generator)
    return ImageSet(
        images=(colours[labels] + noise).to(torch.uint8),
        labels=labels,
        class_names=tuple(f"class_{index:03}" for index in range(classes)),
        coarse_names=tuple(f"group_{index}" for index in range((classes + 1) // 2)),
        coarse_of_class=tuple(index // 2 for index in range(classes)),
    )
