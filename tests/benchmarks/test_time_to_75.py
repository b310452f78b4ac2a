"""Time to 75 %: the mean decides, and a run is timed without its test images."""

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from cifar100_transfer.config import ModelConfig, TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.training import Compute


@pytest.fixture
def time_to_75() -> ModuleType:
    return importlib.import_module("time_to_75")


@pytest.mark.parametrize(("accuracies", "reaches"), [((0.76, 0.745), True), ((0.77, 0.72), False)])
@pytest.mark.parametrize("way", ["plain", "views"])
def test_the_mean_accuracy_of_a_way_decides(
    time_to_75: ModuleType, accuracies: tuple[float, float], reaches: bool, way: str
) -> None:
    neither = {"plain_accuracy": 0.0, "views_accuracy": 0.0}
    runs = [
        {"seconds": 2.0 + i, **neither, f"{way}_accuracy": accuracy}
        for i, accuracy in enumerate(accuracies)
    ]
    summary = time_to_75.summarize(runs)
    targets = {name: summary[f"{name}_reaches_target"] for name in ("plain", "views")}
    assert targets == {"plain": False, "views": False} | {way: reaches}
    assert summary["mean_seconds"] == 2.5
    assert summary["runs"] == 2


def test_training_and_both_ways_of_classifying_are_timed_apart(
    time_to_75: ModuleType, make_image_set: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = tuple(make_image_set(classes=3, per_class=6, size=8, seed=seed) for seed in range(3))
    now = [0.0]

    def spend(seconds: float) -> None:
        now[0] += seconds

    def train(classifier: torch.nn.Module, *_: object, **__: object) -> _Trained:
        spend(10)
        return _Trained(classifier)

    def plain(_: object) -> Callable[[torch.Tensor], torch.Tensor]:
        def predict(_: torch.Tensor) -> torch.Tensor:
            spend(1)
            return torch.nn.functional.one_hot(sets[2].labels, 3).float()

        return predict

    monkeypatch.setattr(time_to_75.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time_to_75, "train", train)
    monkeypatch.setattr(time_to_75, "plain", plain)
    run = time_to_75.measure(
        sets, ModelConfig(architecture="simple_cnn"), TrainingConfig(), Compute()
    )
    assert run == {
        "seconds": 10,
        "plain_seconds": 1,
        "plain_accuracy": 1.0,
        "views_seconds": 6,
        "views_accuracy": 1.0,
    }


class _Trained:
    def __init__(self, classifier: torch.nn.Module) -> None:
        self.classifier = classifier


@pytest.mark.parametrize("env", ["speedrun", "base"])
def test_the_recipe_is_of_the_small_network(time_to_75: ModuleType, env: str) -> None:
    model, training = time_to_75.read_recipe(env, ["training.epochs=3"], "express")
    assert model.architecture == "express"
    assert training.epochs == 3
