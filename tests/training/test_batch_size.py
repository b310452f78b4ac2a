"""`batch_size: auto`: a rule, a measurement that leaves no trace, and a choice that lasts."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cifar100_transfer.config import (
    AugmentationConfig,
    AveragingConfig,
    OptimizerConfig,
    TrainingConfig,
)
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier
from cifar100_transfer.training import (
    Compute,
    EpochRecord,
    batch_size,
    batches,
    choose_batch_size,
    train,
)
from tests.training.tiny import Killed, Sets, recipe, results, tiny_classifier


@pytest.fixture
def sets(make_image_set: Callable[..., ImageSet]) -> Sets:
    return (
        make_image_set(classes=6, per_class=25, size=8),
        make_image_set(classes=6, per_class=3, size=8, seed=1),
    )


def auto(**changes: object) -> TrainingConfig:
    return recipe(batch_size="auto", **changes)


def choose(sets: Sets, config: TrainingConfig, **options: Any) -> TrainingConfig:
    return choose_batch_size(tiny_classifier(sets[0], config), *sets, config, **options)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> dict[int, float | None]:
    """What measurements find, in the place of a clock; those asked for are in `asked`."""
    found: dict[int, float | None] = {32: 50.0, 64: 96.0, 128: 100.0}

    def measured(_: Classifier, __: ImageSet, config: TrainingConfig, *___: Any) -> float | None:
        return found[config.images_per_step]

    monkeypatch.setattr(batch_size, "images_per_second", measured)
    return found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({32: 50.0, 64: 95.1, 128: 100.0}, 64),
        ({32: 50.0, 64: 94.9, 128: 100.0}, 128),
        ({32: 100.0, 64: 50.0}, 32),
        ({32: 99.0, 64: 50.0, 128: 100.0}, 32),
    ],
)
def test_the_smallest_size_near_the_highest_rate_is_taken(
    found: dict[int, float], expected: int
) -> None:
    assert batch_size.smallest_near_best(found) == expected


def test_the_log_has_the_table_that_the_choice_is_from(
    sets: Sets, rates: dict[int, float | None], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        chosen = choose(sets, auto())
    assert chosen == recipe(batch_size=64)
    (said,) = caplog.messages
    rows = [line.split() for line in said.splitlines()]
    assert said.startswith("training.batch_size=auto is 64: the smallest within 5 %")
    assert rows[2:] == [["32", "50", "50%"], ["64", "96", "96%"], ["128", "100", "100%"]]


def test_a_number_is_not_measured(sets: Sets, rates: dict[int, float | None]) -> None:
    rates.clear()
    config = recipe()
    assert choose(sets, config) is config


def test_no_size_is_larger_than_the_training_set(
    sets: Sets, rates: dict[int, float | None]
) -> None:
    few = sets[0].subset(torch.arange(0, 150, 5))
    rates |= {16: 1.0}
    assert choose((few, sets[1]), auto()).batch_size == 16


def test_sizes_that_a_training_refuses_are_left_aside(
    sets: Sets, rates: dict[int, float | None]
) -> None:
    # 129 images: a batch of 64 leaves one alone, and so do 32 and 128.
    lonely = sets[0].subset(torch.arange(129))
    with pytest.raises(UserError, match=r"batch_size=128 leaves one image of 129 alone"):
        choose((lonely, sets[1]), auto())
    with pytest.raises(UserError, match="no training image of 5 classes"):
        choose((sets[0].subset(torch.arange(0, 150, 6)), sets[1]), auto())
    rates |= {32: 100.0}
    # A batch of 32 can't be cut into as many parts.
    assert choose(sets, auto(accumulation_steps=33)).batch_size == 64


def test_memory_is_kept_as_in_the_training_that_follows(
    sets: Sets, rates: dict[int, float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates |= {32: 100.0}
    order: list[str] = []
    measure = batch_size.images_per_second
    monkeypatch.setattr(batch_size, "keep_freed_memory", lambda: order.append("kept"))
    monkeypatch.setattr(
        batch_size, "images_per_second", lambda *a: order.append("measured") or measure(*a)
    )
    choose(sets, auto())
    assert order[:2] == ["kept", "measured"]


def test_real_measurements_end_in_a_size(sets: Sets, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        chosen = choose(sets, auto(), compute=Compute(precision=torch.bfloat16))
    assert chosen.batch_size in (32, 64, 128)
    assert chosen == recipe(batch_size=chosen.batch_size)
    assert len(caplog.messages[0].splitlines()) == 2 + 3


def test_what_a_training_does_once_is_not_measured(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corrupted copies are made before the clock starts, as they cost a training no step."""
    running: list[bool] = []
    made: list[bool] = []
    kinds = set()
    clock, copies = batch_size.time.perf_counter, batches.corrupted_copies

    def perf_counter() -> float:
        running.append(True)
        return clock()

    def corrupted_copies(*arguments: Any) -> torch.Tensor:
        made.append(len(running) % 2 == 1)
        kinds.update(arguments[1].corruptions)
        return copies(*arguments)

    monkeypatch.setattr(batch_size.time, "perf_counter", perf_counter)
    monkeypatch.setattr(batches, "corrupted_copies", corrupted_copies)
    augmentation = AugmentationConfig(corruption_share=0.5, corruption_copies=2)
    choose(sets, auto(augmentation=augmentation))
    assert made
    assert not any(made), "while the clock ran"
    assert kinds == {"brightness"}, "the quickest to make: their content does not matter"


@pytest.mark.parametrize(("enough", "expected"), [(0.0, 2), (1e9, 4)])
def test_a_measurement_grows_until_it_takes_long_enough_or_has_all_images(
    sets: Sets, monkeypatch: pytest.MonkeyPatch, enough: float, expected: int
) -> None:
    trained: list[int] = []

    def train_epoch(engine: batch_size.Engine, _: int) -> None:
        trained.append(engine.batches.images)

    monkeypatch.setattr(batch_size, "train_epoch", train_epoch)
    monkeypatch.setattr(batch_size, "PROBE_SECONDS", enough)
    monkeypatch.setattr(batch_size, "PROBE_IMAGES", 64)
    config = recipe(batch_size=32)
    classifier = tiny_classifier(sets[0], config)
    rate = batch_size.images_per_second(classifier, sets[0], config, Compute())
    assert rate
    assert trained[0] == 32, "what is made once"
    assert trained[1] == 64
    assert trained[-1] == expected * 32, "150 images are four whole batches"


class Small(nn.Module):
    """A layer with memory for few images."""

    def __init__(self, layer: nn.Module, limit: int, error: Exception) -> None:
        super().__init__()
        self.weight, self.layer = layer.weight, layer
        self.limit, self.error = limit, error
        self.seen: list[int] = []

    def __deepcopy__(self, _: object) -> "Small":
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        if len(images) > self.limit:
            raise self.error
        return self.layer(images)


def choose_with_little_memory(
    sets: Sets, limit: int, error: Exception
) -> tuple[TrainingConfig, set[int]]:
    config = auto()
    classifier = tiny_classifier(sets[0], config)
    small = Small(classifier.network.stem, limit, error)
    classifier.network.stem = small
    return choose_batch_size(classifier, *sets, config), set(small.seen)


FULL = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_a_size_that_does_not_fit_ends_the_series(
    sets: Sets, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    with caplog.at_level(logging.INFO):
        chosen, seen = choose_with_little_memory(sets, 32, error)
    assert chosen.batch_size == 32
    assert seen == {32, 64}, "a larger one was tried after one that did not fit"
    assert caplog.messages[0].splitlines()[-1].split() == ["64", "out", "of", "memory"]


def test_memory_for_no_size_is_a_user_error(sets: Sets) -> None:
    with pytest.raises(UserError, match=r"too little memory for training\.batch_size=32"):
        choose_with_little_memory(sets, 31, FULL[0])


def test_other_errors_are_not_taken_for_a_lack_of_memory(sets: Sets) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        choose_with_little_memory(sets, 32, RuntimeError("a bug"))


@pytest.mark.parametrize(
    "changes",
    [
        {"averaging": AveragingConfig(name="swa", swa_start=0.0)},
        {"averaging": AveragingConfig(name="ema"), "frozen_epochs": 1},
        {"optimizer": OptimizerConfig(name="sgd", learning_rate=1e30)},
    ],
    ids=["swa", "ema and frozen", "a rate that breaks the loss"],
)
def test_measuring_leaves_no_trace(sets: Sets, changes: dict[str, Any]) -> None:
    config = auto(**changes)
    classifier = tiny_classifier(sets[0], config)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    modes = [module.training for module in classifier.modules()]
    state = torch.get_rng_state()
    choose_batch_size(classifier, *sets, config)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in classifier.modules()]
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_training_is_that_of_the_number_given_outright(sets: Sets) -> None:
    config = auto()
    classifier = tiny_classifier(sets[0], config)
    chosen = choose_batch_size(classifier, *sets, config)
    found = train(classifier, *sets, chosen)
    given = recipe(batch_size=chosen.batch_size)
    expected = train(tiny_classifier(sets[0], given), *sets, given)
    assert results(found) == results(expected)
    weights = expected.classifier.state_dict()
    for name, value in found.classifier.state_dict().items():
        assert torch.equal(value, weights[name]), name


def run(sets: Sets, folder: Path, until: int | None = None, **changes: object) -> list[int]:
    """Choose, build, train; with `until`, be killed after that epoch. Return the epochs trained."""
    seen: list[int] = []

    def watch(record: EpochRecord) -> None:
        seen.append(record.epoch)
        if record.epoch == until:
            raise Killed

    chosen = choose(sets, auto(**changes), resume_folder=folder)
    train(tiny_classifier(sets[0], chosen), *sets, chosen, resume_folder=folder, on_epoch=watch)
    return seen


def test_a_killed_training_keeps_its_size(
    sets: Sets,
    tmp_path: Path,
    rates: dict[int, float | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Killed):
        run(sets, tmp_path, until=1)
    rates |= {32: 1000.0}  # what would now be the choice
    with caplog.at_level(logging.INFO):
        assert run(sets, tmp_path) == [2, 3]
    assert "training.batch_size=auto is 64, as in the interrupted run" in caplog.messages
    assert "is not used" not in caplog.text


def test_another_training_is_measured_anew(
    sets: Sets, tmp_path: Path, rates: dict[int, float | None]
) -> None:
    with pytest.raises(Killed):
        run(sets, tmp_path, until=1)
    rates |= {32: 1000.0}
    assert run(sets, tmp_path, seed=1) == [1, 2, 3]
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    assert choose(sets, auto(), resume_folder=tmp_path).batch_size == 32


def test_several_devices_are_refused(sets: Sets) -> None:
    with pytest.raises(UserError, match=r"batch_size=auto measures one device, .*devices=2"):
        choose(sets, auto(), devices=2)


def test_an_open_question_cannot_be_trained(sets: Sets) -> None:
    with pytest.raises(UserError, match="pass on the recipe that choose_batch_size returns"):
        train(tiny_classifier(sets[0], auto()), *sets, auto())
    with pytest.raises(ValueError, match="no number yet"):
        _ = auto().images_per_step


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", "Auto", None, [32]])
def test_what_is_neither_a_number_nor_auto_is_refused_once(value: object) -> None:
    with pytest.raises(ValueError, match="Input should be a whole number greater than 0, or auto"):
        TrainingConfig.model_validate({"batch_size": value})
