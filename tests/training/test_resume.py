"""A killed training goes on and ends in the same bits; another recipe's state is refused."""

import re
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cifar100_transfer.config import (
    AugmentationConfig,
    AveragingConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
)
from cifar100_transfer.training import (
    Compute,
    EpochRecord,
    TrainingResult,
    loop,
    train,
)
from cifar100_transfer.training.checkpoint import (
    ResumePoint,
    load_resume_point,
    save_resume_point,
)
from tests.training.tiny import Killed, Sets, recipe, results, tiny_classifier


def run(
    sets: Sets, config: TrainingConfig, folder: Path | None = None, until: int | None = None
) -> TrainingResult:
    """Train; with `until`, be killed after that epoch."""

    def kill(record: EpochRecord) -> None:
        if record.epoch == until:
            raise Killed

    return train(
        tiny_classifier(sets[0], config), *sets, config, resume_folder=folder, on_epoch=kill
    )


RECIPES = {
    "report": {"schedule": ScheduleConfig(step_epochs=1)},
    "muon": {"optimizer": OptimizerConfig(name="muon", weight_decay=0.1)},
    "sam": {"optimizer": OptimizerConfig(name="sgd", learning_rate=0.05, sam_radius=0.05)},
    "groups": {
        "optimizer": OptimizerConfig(
            name="adamw",
            layer_decay=0.7,
            head_multiplier=2.0,
            decay_norms_and_biases=False,
            weight_decay=0.1,
            clip_norm=0.5,
        )
    },
    "frozen": {"frozen_epochs": 2},
    "frozen_sgd": {
        "frozen_epochs": 2,
        "optimizer": OptimizerConfig(name="sgd", learning_rate=0.05, momentum=0.9),
    },
    "accumulation": {"accumulation_steps": 3},
    "ema": {"averaging": AveragingConfig(name="ema", ema_decay=0.9)},
    "swa": {"averaging": AveragingConfig(name="swa", swa_start=0.4, swa_factor=0.5)},
    "augmix": {"augmentation": AugmentationConfig(policy="augmix", augmix_jsd=12.0)},
    "copies": {
        "augmentation": AugmentationConfig(
            corruption_share=0.5, corruptions=("contrast",), corruption_copies=2
        )
    },
    "mixed": {"augmentation": AugmentationConfig(mixup_alpha=0.4, cutmix_alpha=1.0)},
    "sizes": {"progressive_sizes": ((0.4, 9), (0.7, 10))},
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_run_ends_in_the_same_bits(
    sets: Sets, tmp_path: Path, name: str, epoch: int
) -> None:
    config = recipe(**RECIPES[name])
    whole = run(sets, config)
    with pytest.raises(Killed):
        run(sets, config, tmp_path, until=epoch)
    seen: list[int] = []
    resumed = train(
        tiny_classifier(sets[0], config),
        *sets,
        config,
        resume_folder=tmp_path,
        on_epoch=lambda record: seen.append(record.epoch),
    )
    assert seen == list(range(epoch + 1, len(whole.history) + 1))
    assert results(resumed) == results(whole)
    pairs = zip(
        resumed.classifier.state_dict().items(),
        whole.classifier.state_dict().values(),
        strict=True,
    )
    for (key, value), expected in pairs:
        assert torch.equal(value, expected), key


def test_a_resumed_run_lets_go_of_the_resume_point(
    sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights would lie in memory beside the network's until the end."""
    with pytest.raises(Killed):
        run(sets, recipe(), tmp_path, until=1)
    points: list[weakref.ref[ResumePoint]] = []

    def load(*arguments: Any) -> ResumePoint | None:
        point = load_resume_point(*arguments)
        points.append(weakref.ref(point))  # type: ignore[type-var]
        return point

    monkeypatch.setattr(loop, "load_resume_point", load)
    held: list[bool] = []
    classifier = tiny_classifier(sets[0], recipe())
    train(
        classifier,
        *sets,
        recipe(),
        resume_folder=tmp_path,
        on_epoch=lambda _: held.append(points[0]() is not None),
    )
    assert held == [False, False]


@pytest.mark.parametrize("name", RECIPES)
def test_every_option_makes_a_difference(sets: Sets, name: str) -> None:
    """Otherwise the recipes above would test nothing."""
    plain = run(sets, recipe(epochs=2))
    assert results(run(sets, recipe(**(RECIPES[name] | {"epochs": 2})))) != results(plain)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": OptimizerConfig(name="muon")}, "training.optimizer.name was 'adam'"),
        ({"frozen_epochs": 1}, "training.frozen_epochs was 0 and is 1"),
        ({"seed": 1}, "training.seed was 0 and is 1"),
        ({"averaging": AveragingConfig(name="ema")}, "averaging.name was 'none' and is 'ema'"),
        ({"progressive_sizes": [(0.5, 9)]}, "training.progressive_sizes was [] and is [[0.5, 9]]"),
    ],
)
def test_a_changed_recipe_starts_anew_and_says_what_changed(
    sets: Sets,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, object],
    said: str,
) -> None:
    run(sets, recipe(epochs=1), tmp_path)
    changed = recipe(epochs=1, **change)
    assert results(run(sets, changed, tmp_path)) == results(run(sets, changed))
    assert said in caplog.text


def test_a_damaged_resume_point_is_not_used(
    sets: Sets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = recipe(epochs=2)
    whole = run(sets, config, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert results(run(sets, config, tmp_path)) == results(whole)
    assert "is not used: it is damaged" in caplog.text


def test_another_precision_starts_anew(
    sets: Sets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = recipe(epochs=1)
    run(sets, config, tmp_path)
    train(
        tiny_classifier(sets[0], config),
        *sets,
        config,
        resume_folder=tmp_path,
        compute=Compute(precision=torch.bfloat16),
    )
    assert "precision was 'torch.float32' and is 'torch.bfloat16'" in caplog.text


@pytest.mark.parametrize(
    ("what", "other", "said"),
    [
        ("torch.get_num_threads", lambda: 99, r"CPU threads was \d+ and is 99"),
        ("torch.__version__", "9.9", r"torch was '\d.*' and is '9\.9'"),
        (f"{loop.__name__}.hardware_name", str.upper, r"hardware was '.*' and is 'CPU'"),
    ],
)
def test_other_circumstances_go_on_with_a_warning(
    sets: Sets,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    other: object,
    said: str,
) -> None:
    config = recipe(epochs=2)
    with pytest.raises(Killed):
        run(sets, config, tmp_path, until=1)
    caplog.set_level("INFO")
    with monkeypatch.context() as patch:
        patch.setattr(what, other)
        run(sets, config, tmp_path)
    assert re.search(f"not be that of an undisturbed run: {said}", caplog.text)
    assert "Going on after epoch 1" in caplog.text


def test_patience_that_is_over_stays_over(sets: Sets, tmp_path: Path) -> None:
    rate = OptimizerConfig(name="sgd", learning_rate=1e-30)
    config = recipe(epochs=9, patience=2, optimizer=rate)
    seen: list[int] = []
    whole = run(sets, config, tmp_path)
    assert len(whole.history) == whole.best.epoch + 2 < 9
    again = train(
        tiny_classifier(sets[0], config),
        *sets,
        config,
        resume_folder=tmp_path,
        on_epoch=lambda record: seen.append(record.epoch),
    )
    assert not seen
    assert results(again) == results(whole)


def test_a_finished_run_is_not_trained_again(sets: Sets, tmp_path: Path) -> None:
    config = recipe(epochs=2)
    whole = run(sets, config, tmp_path)
    again = run(sets, config, tmp_path, until=1)
    assert results(again) == results(whole)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let storing take long; returns the epochs whose state is stored."""
    epochs: list[int] = []

    def save(folder: Path, point: ResumePoint) -> None:
        epochs.append(point.epoch)
        save_resume_point(folder, point)

    monkeypatch.setattr(loop, "save_resume_point", save)
    monkeypatch.setattr(loop, "FREE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "RESUME_SHARE", 1e-9)
    return epochs


def test_resume_points_that_take_long_are_rare(
    sets: Sets, tmp_path: Path, stored: list[int]
) -> None:
    run(sets, recipe(epochs=5), tmp_path)
    assert stored == [1, 5], "the first shows how long it takes, the last is always stored"


def test_resume_points_that_take_a_moment_are_not_rare(
    sets: Sets, tmp_path: Path, stored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "FREE_SECONDS", 3600.0)
    with pytest.raises(Killed):
        run(sets, recipe(epochs=5), tmp_path, until=4)
    assert stored == [1, 2, 3, 4], "each once"


def test_half_a_second_is_too_much_after_epochs_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, stored = [0.0], []

    def save(_: Path, point: ResumePoint) -> None:
        now[0] += 0.5
        stored.append(point.epoch)

    monkeypatch.setattr(loop, "save_resume_point", save)
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    state = SimpleNamespace(state_dict=dict)
    engine: Any = SimpleNamespace(classifier=state, optimizer=state, average=None)
    points = loop._ResumePoints(tmp_path, {}, {})
    history: list[EpochRecord] = []
    for epoch in range(1, 41):
        now[0] += 1
        history.append(EpochRecord(epoch, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0))
        if points.is_due():
            points.store(engine, history, {})
    assert stored == [1, 11, 21, 31]


def test_an_exception_loses_no_epoch(sets: Sets, tmp_path: Path, stored: list[int]) -> None:
    config = recipe(epochs=5)
    with pytest.raises(Killed):
        run(sets, config, tmp_path, until=3)
    assert stored == [1, 3]
    resumed = run(sets, config, tmp_path)
    assert stored == [1, 3, 4, 5]
    assert results(resumed) == results(run(sets, config))


@pytest.mark.parametrize("changed", ["training images", "validation images", "initial weights"])
def test_other_images_or_initial_weights_start_anew(
    sets: Sets, tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: str
) -> None:
    seen: list[int] = []

    def run(until: int | None, changed: str = "") -> None:
        def note(record: loop.EpochRecord) -> None:
            seen.append(record.epoch)
            if record.epoch == until:
                raise Killed

        mirrored = [images.with_images(images.images.flip(-1)) for images in sets]
        given = [
            mirrored[number] if changed == name else sets[number]
            for number, name in enumerate(("training images", "validation images"))
        ]
        classifier = tiny_classifier(sets[0], recipe())
        if changed == "initial weights":
            nn.init.zeros_(classifier.network.head.bias)
        train(classifier, *given, recipe(), resume_folder=tmp_path, on_epoch=note)

    with pytest.raises(Killed):
        run(until=1)
    run(until=None, changed=changed)
    assert seen == [1, 1, 2, 3]
    assert f"is not used, and the first epoch will replace it: {changed} was" in caplog.text
