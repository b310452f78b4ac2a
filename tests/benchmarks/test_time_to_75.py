"""Time to 75 %: the mean decides, and a run is timed without its test images."""

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from cifar100_transfer.config import ModelConfig, TrainingConfig
from cifar100_transfer.data import ImageSet


@pytest.fixture
def time_to_75() -> ModuleType:
    return importlib.import_module("time_to_75")


@pytest.mark.parametrize(("accuracies", "reaches"), [((0.76, 0.745), True), ((0.77, 0.72), False)])
def test_the_mean_accuracy_decides(
    time_to_75: ModuleType, accuracies: tuple[float, float], reaches: bool
) -> None:
    runs = [{"seconds": 2.0 + i, "accuracy": accuracy} for i, accuracy in enumerate(accuracies)]
    summary = time_to_75.summarize(runs)
    assert summary["reaches_target"] is reaches
    assert summary["mean_seconds"] == 2.5
    assert summary["runs"] == 2


def test_the_clock_stands_still_for_test_images(
    time_to_75: ModuleType, make_image_set: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = tuple(make_image_set(classes=3, per_class=6, size=8, seed=seed) for seed in range(3))
    ticks = iter(range(100))
    monkeypatch.setattr(time_to_75.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(time_to_75, "train", lambda classifier, *_, **__: _Trained(classifier))

    def predict(*_: object) -> torch.Tensor:
        assert next(ticks) == 2, "the clock has been read twice before"
        return torch.nn.functional.one_hot(sets[2].labels, 3).float()

    monkeypatch.setattr(time_to_75, "predict_logits", predict)
    run = time_to_75.measure(
        sets, ModelConfig(architecture="simple_cnn"), TrainingConfig(), torch.device("cpu")
    )
    assert run == {"seconds": 1, "accuracy": 1.0}


class _Trained:
    def __init__(self, classifier: torch.nn.Module) -> None:
        self.classifier = classifier


@pytest.mark.parametrize("env", ["speedrun", "base"])
def test_the_recipe_is_of_the_small_network(time_to_75: ModuleType, env: str) -> None:
    model, training = time_to_75.read_recipe(env, ["training.epochs=3"], "express")
    assert model.architecture == "express"
    assert training.epochs == 3
