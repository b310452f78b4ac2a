"""Studies, searches and the challenge's score: changes that no other test had noticed."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from cifar100_transfer.config import SearchConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.pipelines.challenge_score.nodes import compute_score
from cifar100_transfer.tuning import search
from cifar100_transfer.tuning.search import run_search
from cifar100_transfer.tuning.trial_data import TrialData
from tests.tuning.test_kinds import RECIPE


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


def test_all_that_trials_are_trained_and_judged_by_is_part_of_the_study(data: TrialData) -> None:
    def mirrored(images: ImageSet) -> ImageSet:
        return images.with_images(images.images.flip(-1))

    def relabelled(images: ImageSet) -> ImageSet:
        return replace(images, labels=images.labels.flip(0))

    changes: list[dict[str, Any]] = [
        *({"train_set": change(data.train_set)} for change in (mirrored, relabelled)),
        *({"validation_set": change(data.validation_set)} for change in (mirrored, relabelled)),
        *({"pretrained_weights": {"a": torch.full((1,), value)}} for value in (1.0, 2.0)),
    ]
    identities = {replace(data, **change).identity() for change in [{}, *changes]}
    assert len(identities) == 1 + len(changes)


def test_another_seed_draws_other_settings(data: TrialData, url: str) -> None:
    rate = {"parameter": "training.optimizer.learning_rate", "low": 1e-4, "high": 0.1}
    drawn = [
        run_search(
            "m",
            RECIPE.with_changes({"training.epochs": 1}),
            SearchConfig.model_validate(
                {"sampler": "tpe", "trials": 1, "space": [rate], "seed": seed}
            ),
            data,
            url,
        )
        .trials[rate["parameter"]]
        .tolist()
        for seed in (0, 1)
    ]
    assert drawn[0] != drawn[1]


def test_a_trial_that_has_come_to_its_end_is_not_given_up(data: TrialData) -> None:
    hopeless: Any = SimpleNamespace(report=lambda *_: None, should_prune=lambda: True)
    short = RECIPE.with_changes({"training.epochs": 1})
    assert not search._train_or_give_up(hopeless, short, data, None).pruned
    assert search._train_or_give_up(hopeless, RECIPE, data, None).pruned


def test_the_score_is_the_accuracy_over_all_images() -> None:
    accuracy = pd.DataFrame(
        {"severity": [1, 2, 1, 2], "accuracy": [0.1, 0.3, 0.5, 0.7], "images": 10}
    )
    assert compute_score(accuracy, model="m") == {
        "challenge_accuracy": pytest.approx(0.4),
        "severity_1": pytest.approx(0.3),
        "severity_2": pytest.approx(0.5),
        "images": 40,
    }
