"""Figures, statistics and budgets: changes of the code that no other test had noticed."""

import numpy as np
import pandas as pd
import pytest
import torch

from cifar100_transfer.config import AveragingConfig, SpaceEntry
from cifar100_transfer.data import Predictions
from cifar100_transfer.evaluation import figures
from cifar100_transfer.training import train
from cifar100_transfer.tuning import search
from cifar100_transfer.tuning.screening import _spend
from tests.training.tiny import recipe, tiny_classifier
from tests.tuning.conftest import data  # noqa: F401
from tests.tuning.test_kinds import RECIPE


def test_matrices_have_the_true_class_in_the_row_and_neighbours_of_one_coarse_class() -> None:
    labels = torch.arange(30)
    said = labels * 7 % 30  # a permutation that is not its own inverse
    predictions = Predictions(
        *(torch.eye(30)[said], labels, tuple(f"class_{k}" for k in range(30))),
        *(("a", "b", "c"), tuple(k % 3 for k in range(30))),
    )
    shown = figures.confusion_matrix(predictions, "t").axes[0].images[0].get_array()
    order = sorted(range(30), key=lambda k: (k % 3, k))
    assert [order[row.argmax()] for row in np.asarray(shown)] == [int(said[k]) for k in order]


def test_the_coarse_matrix_has_the_true_class_in_the_row() -> None:
    labels = torch.arange(6)
    predictions = Predictions(
        *(torch.eye(6)[[1] * 6], labels, tuple("uvwxyz"), ("a", "b", "c")),
        tuple(k % 3 for k in range(6)),
    )
    axes = figures.coarse_confusion_matrix(predictions, "t").axes[0]
    shown = np.asarray(axes.collections[0].get_array()).reshape(3, 3)
    assert shown.tolist() == [[0, 1, 0]] * 3


def test_bars_of_the_comparison_end_at_the_interval() -> None:
    row = {"model": "m", "test_accuracy": 0.5, "test_accuracy_low": 0.45, "test_accuracy_high": 0.6}
    row |= {"validation_accuracy": 0.5, "train_accuracy": 0.5, "parameters": 1, "seconds": 1.0}
    axes = figures.comparison(pd.DataFrame([row])).axes[0]
    ((start, end),) = axes.containers[0][2][0].get_segments()
    assert (start[0], end[0]) == pytest.approx((0.45, 0.6))


@pytest.mark.parametrize("name", ["none", "swa"])
def test_the_statistics_that_several_processes_share_are_those_they_judge_by(
    make_image_set, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sets = tuple(make_image_set(classes=6, per_class=8, size=8, seed=seed) for seed in (0, 1))
    handed: list[list[torch.Tensor]] = []
    monkeypatch.setattr(
        "cifar100_transfer.training.steps.take_from_first",
        lambda values: handed.append([value.clone() for value in values]),
    )
    config = recipe(epochs=1, averaging=AveragingConfig(name=name, swa_start=0))
    result = train(tiny_classifier(sets[0], config), *sets, config)
    judged = list(result.classifier.buffers())
    assert any(
        all(map(torch.equal, values, judged)) for values in handed if len(values) == len(judged)
    )


@pytest.mark.parametrize("images", [8, 30, 50, 64, 100])
def test_a_budget_of_images_is_spread_over_epochs(data, images: int) -> None:  # noqa: F811
    spread, part = _spend(RECIPE, data, images)
    spent = spread.training.epochs * len(part.train_set)
    assert images - spread.training.epochs * 8 < spent <= images  # whole batches of 8


@pytest.mark.parametrize("parameter", ["training.batch_size", "training.optimizer.learning_rate"])
def test_ranges_are_drawn_by_order_of_magnitude_where_asked(parameter: str) -> None:
    entry = SpaceEntry(parameter=parameter, low=1, high=100, log=True)
    assert search._distribution(entry).log
