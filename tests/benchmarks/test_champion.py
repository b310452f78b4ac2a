"""The champion's script: slices end in what one call makes, and figures are what they say."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from cifar100_transfer.config import AugmentationConfig, ModelConfig, TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation.robustness import measure_robustness, predictors_of
from cifar100_transfer.models import average_classifiers, load_classifier
from cifar100_transfer.training import Compute

METHODS = ("plain", "batch_norm", "tta", "batch_norm_tta")


@pytest.fixture
def champion() -> ModuleType:
    return importlib.import_module("champion")


@pytest.fixture
def job(
    champion: ModuleType, make_image_set: Callable[..., ImageSet], tmp_path: Path
) -> Callable[..., object]:
    sets = tuple(
        make_image_set(classes=4, per_class=count, size=8, seed=seed)
        for seed, count in enumerate((10, 4, 5))
    )

    def make(**changes: object) -> object:
        settings = {
            "model": ModelConfig(architecture="wrn_10_1"),
            "training": TrainingConfig(
                epochs=3,
                batch_size=20,
                augmentation=AugmentationConfig(corruption_share=0.5, corruption_copies=1),
            ),
            "sets": sets,
            "compute": Compute(),
            "folder": tmp_path,
            "slice_seconds": 1e9,
            "part": "test",
            "images": 8,
            "adapted": True,
            "quick": True,
        }
        return champion.Job(**(settings | changes))

    return make


@pytest.fixture
def few_sets(champion: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two corruptions instead of nineteen."""
    names = ("contrast", "gaussian_noise")
    monkeypatch.setattr(champion, "CORRUPTIONS", names)
    pairs = [(name, severity) for name in names for severity in champion.SEVERITIES]
    monkeypatch.setattr(champion, "SETS", (champion.CLEAN, *pairs))
    monkeypatch.setattr(champion, "rank_source_weights", lambda *_: {0.5: 0.3, 0.0: 0.2})


@pytest.mark.parametrize(("env", "track"), [("base", "open"), ("held_out", "held_out")])
def test_each_track_has_a_recipe(champion: ModuleType, env: str, track: str) -> None:
    model, training = champion.read_recipe(env, ["training.optimizer.learning_rate=0.25"])
    assert model.architecture == "express_large"
    assert training.augmentation.track == track
    assert training.optimizer.learning_rate == 0.25
    assert training.optimizer.name == "sgd", "its neighbours stay"


def test_an_unknown_environment_is_named(champion: ModuleType) -> None:
    with pytest.raises(UserError, match="held_out"):
        champion.read_recipe("heldout", [])


def test_slices_end_in_the_result_of_one_call(
    champion: ModuleType,
    job: Callable[..., object],
    few_sets: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    champion.run(job(folder=tmp_path / "whole"), [0, 1], "command")
    calls = 0
    while not (tmp_path / "sliced" / "result.json").exists():
        assert calls < 40
        # No time is left from the start: every call does one thing and stops.
        champion.run(job(folder=tmp_path / "sliced", slice_seconds=0.0), [0, 1], "command")
        calls += 1
    assert calls == 4 + len(champion.SETS), "after two epochs of each training, and every set"
    assert capsys.readouterr().out.count("The slice is over") == calls - 1
    whole, sliced = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "sliced")
    )
    assert sliced["members"] == whole["members"]
    assert sliced["ensemble"] == whole["ensemble"]
    losses = [
        [epoch["train_loss"] for training in record["trainings"] for epoch in training["history"]]
        for record in (whole, sliced)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6
    assert not list((tmp_path / "sliced").glob("seed_*/resume"))


def test_figures_are_those_of_the_evaluation(
    champion: ModuleType, job: Callable[..., object], few_sets: None, tmp_path: Path
) -> None:
    one = job()
    champion.run(one, [0, 1], "command")
    record = json.loads((tmp_path / "result.json").read_text())
    members = [
        load_classifier(tmp_path / f"seed_{seed}" / "classifier.safetensors") for seed in (0, 1)
    ]
    fewer = champion.stratified_subset(one.sets[2], 8, 0)
    for found, judged in (
        (record["members"][1], members[1:]),
        (record["ensemble"], members),
    ):
        predictors = predictors_of(average_classifiers(judged, {}), METHODS, 0.5)
        with one.autocast():
            table = measure_robustness(predictors, fewer, "test", 0, champion.CORRUPTIONS)
        for method, rows in table.groupby("method"):
            assert found[method]["corrupted"] == pytest.approx(rows["accuracy"].mean())
    assert record["images"] == {"clean": 20, "distorted": 8}
    assert "ensemble" in champion.table(record)


def test_unadapted_figures_are_the_same(
    champion: ModuleType, job: Callable[..., object], few_sets: None, tmp_path: Path
) -> None:
    records = []
    for adapted in (True, False):  # one after the other, by the same members
        champion.run(job(adapted=adapted), [0, 1], "command")
        records.append(json.loads((tmp_path / "result.json").read_text()))
    for figures in (*records[1]["members"], records[1]["ensemble"]):
        assert list(figures) == ["plain", "tta"]
    assert records[1]["ensemble"] == {m: records[0]["ensemble"][m] for m in ("plain", "tta")}
    assert records[1]["source_weight"] is None
    assert "batch_norm" not in champion.table(records[1])


def test_judging_that_was_cut_off_counts_whole_corruptions(champion: ModuleType) -> None:
    def right(share: float) -> dict[str, object]:
        return {"images": 10, "members": {"plain": [share * 10]}, "ensemble": {"plain": 0}}

    first, second = champion.CORRUPTIONS[:2]
    sets = {"clean 0": right(0.9)}
    sets |= {f"{first} {severity}": right(severity / 10) for severity in champion.SEVERITIES}
    sets |= {f"{second} 1": right(1.0)}
    figures = champion.accuracies(sets, 0)["plain"]
    assert figures == {
        "clean": 0.9,
        "corrupted": pytest.approx(0.3),
        "per_corruption": {first: pytest.approx(0.3)},
    }


def test_trials_see_no_test_image(
    champion: ModuleType, job: Callable[..., object], few_sets: None, tmp_path: Path
) -> None:
    one = job(part="validation")
    no_test = one.sets[2].subset(torch.arange(0))
    trial = champion.replace(one, sets=(*one.sets[:2], no_test))
    champion.run(trial, [0], "command")
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["judged_on"], record["images"]["clean"]) == ("validation", 16)
    assert record["ensemble"] is None


def test_packed_members_classify_as_before(
    champion: ModuleType,
    job: Callable[..., object],
    few_sets: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(champion, "PART_BYTES", 50_000)
    home = job(folder=tmp_path / "home")
    champion.run(home, [3], "command")
    champion.pack_members(home, [3], tmp_path / "packed")
    parts = list((tmp_path / "packed").iterdir())
    assert len(parts) > 2
    assert all(part.stat().st_size <= 50_000 for part in parts)
    away = job(folder=tmp_path / "away")
    champion.unpack_members(away, tmp_path / "packed")
    before, after = (
        load_classifier(tmp_path / name / "seed_3" / "classifier.safetensors")
        for name in ("home", "away")
    )
    images = home.sets[2].images
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert torch.equal(before(images), after(images)), "filters are rounded there anyway"
    champion.run(away, [3], "command")  # neither trained again nor refused


def test_a_classifier_of_another_recipe_is_refused(
    champion: ModuleType, job: Callable[..., object], few_sets: None
) -> None:
    champion.run(job(), [0], "command")
    with pytest.raises(UserError, match="another recipe: name another --work"):
        champion.run(job(training=TrainingConfig(epochs=2, batch_size=20)), [0], "command")


def test_a_training_of_another_recipe_that_was_begun_is_refused(
    champion: ModuleType,
    job: Callable[..., object],
    few_sets: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise champion.SliceOverError

    with monkeypatch.context() as patched:
        patched.setattr(champion, "train", stop)
        champion.run(job(), [0], "command")
    with pytest.raises(UserError, match="another recipe: name another --work"):
        champion.run(job(training=TrainingConfig(epochs=2, batch_size=20)), [0], "command")
    champion.run(job(), [0], "command")


def test_a_result_replaces_one_of_the_same_alone(champion: ModuleType) -> None:
    def record(decay: float, images: int = 10) -> dict[str, Any]:
        training = {"epochs": 3, "optimizer": {"weight_decay": decay}}
        return {
            "track": "open",
            "recipe": {"model": {"architecture": "net"}, "training": training},
            "seeds": [0, 1],
            "images": {"distorted": images},
            "members": [{"plain": {}}],
        }

    name = "open, net, 2 seeds, 3 epochs"
    stored = {name: record(0.1)}
    assert champion._name(record(0.1), stored) == name
    assert champion._name(record(0.2), stored) == f"{name} (2)"
    stored[f"{name} (2)"] = record(0.2)
    assert champion._name(record(0.2), stored) == f"{name} (2)"
    assert champion._name(record(0.1, images=20), stored) == f"{name} (3)"


def test_what_another_classifier_got_right_is_not_taken_up(
    champion: ModuleType, job: Callable[..., object], few_sets: None, tmp_path: Path
) -> None:
    other = TrainingConfig(epochs=1, batch_size=5)
    champion.run(job(folder=tmp_path / "work"), [0], "command")
    champion.run(job(folder=tmp_path / "other", training=other), [0], "command")
    shutil.rmtree(tmp_path / "work" / "seed_0")
    champion.run(job(folder=tmp_path / "work", training=other), [0], "command")
    trained_anew, expected = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("work", "other")
    )
    assert trained_anew["members"] == expected["members"]


def test_results_of_another_network_stay(
    champion: ModuleType,
    job: Callable[..., object],
    few_sets: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = tmp_path / "champion.json"
    monkeypatch.setattr(champion, "RESULTS", results)
    for name in ("wrn_10_1", "express_small"):
        model = ModelConfig(architecture=name, image_size=16)
        champion.run(job(model=model, folder=tmp_path / name, quick=False), [0], "command")
    assert list(json.loads(results.read_text())) == [
        "open, wrn_10_1, 1 seeds, 3 epochs",
        "open, express_small, 1 seeds, 3 epochs",
    ]


def test_a_folder_without_packed_members_is_refused(
    champion: ModuleType, job: Callable[..., object], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="nowhere holds no packed members"):
        champion.unpack_members(job(), tmp_path / "nowhere")
