"""What several tests of the training share."""

from collections.abc import Callable

import pytest

from cifar100_transfer.data import ImageSet
from tests.training.tiny import Sets


@pytest.fixture
def sets(make_image_set: Callable[..., ImageSet]) -> Sets:
    """48 training and 18 validation images of 8 pixels and six classes."""
    return (
        make_image_set(classes=6, per_class=8, size=8),
        make_image_set(classes=6, per_class=3, size=8, seed=1),
    )
