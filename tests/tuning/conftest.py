"""Images small enough for a training in milliseconds."""

from collections.abc import Callable
from dataclasses import asdict

import pytest

from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.training import Compute
from cifar100_transfer.tuning.trial_data import TrialData


@pytest.fixture
def data(make_image_set: Callable[..., ImageSet]) -> TrialData:
    """Four classes, eight training and five validation images each, of 8 x 8 pixels."""
    train_set = make_image_set(classes=4, per_class=8, size=8)
    validation_set = make_image_set(classes=4, per_class=5, size=8, seed=1)
    statistics = asdict(channel_statistics(train_set.images))
    return TrialData(train_set, validation_set, statistics, Compute())
