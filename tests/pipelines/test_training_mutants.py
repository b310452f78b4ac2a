"""What reaches a training: changes of the code that no other test had noticed."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cifar100_transfer import tracking
from cifar100_transfer.config import AveragingConfig, ComputeConfig, ModelConfig
from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.pipelines.training.nodes import train_classifier
from cifar100_transfer.training import EpochRecord, batch_size, distributed
from tests.training.test_loop import tiny_run
from tests.training.tiny import recipe


def test_a_killed_training_goes_on_with_the_batch_size_that_was_measured(
    make_image_set: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = make_image_set(classes=6, per_class=3, size=8)
    rates = {8: 2.0, 16: 1.0}
    monkeypatch.setattr(batch_size, "SIZES", (8, 16))
    monkeypatch.setattr(
        batch_size, "images_per_second", lambda _, __, config, *___: rates[config.images_per_step]
    )

    def kill(_: EpochRecord) -> None:
        raise KeyboardInterrupt

    def run() -> int:
        _, _, summary = train_classifier(
            *(images, images, asdict(channel_statistics(images.images))),
            ModelConfig(architecture="simple_cnn"),
            recipe(epochs=2, batch_size="auto"),
            ComputeConfig(device="cpu"),
            tmp_path,
            name="m",
        )
        return summary["recipe"]["training"]["batch_size"]

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "epoch_listener", lambda: kill)
        with pytest.raises(KeyboardInterrupt):
            run()
    rates |= {8: 1.0, 16: 2.0}
    assert run() == 8


def test_a_training_takes_as_many_devices_as_asked(
    make_image_set: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = make_image_set(classes=6, per_class=3, size=8)

    def started(count: int, *_: Any) -> None:
        raise InterruptedError(f"{count} processes")

    monkeypatch.setattr(distributed, "run_in_processes", started)
    with pytest.raises(InterruptedError, match="2 processes"):
        train_classifier(
            *(images, images, asdict(channel_statistics(images.images))),
            ModelConfig(architecture="simple_cnn"),
            recipe(epochs=1, batch_size=6),
            ComputeConfig(device="cpu", devices=2),
            tmp_path,
            name="m",
        )


def test_until_its_mean_begins_a_training_is_judged_by_its_own_weights(
    make_image_set: Callable[..., ImageSet],
) -> None:
    sets = tuple(make_image_set(classes=6, per_class=4, size=8, seed=seed) for seed in (0, 1))
    plain, averaged = (
        tiny_run(sets, recipe(epochs=2, averaging=AveragingConfig(name=name, swa_start=0.5)))
        for name in ("none", "swa")
    )
    assert averaged.history[0].validation_loss == plain.history[0].validation_loss
    assert averaged.history[1].validation_loss != plain.history[1].validation_loss
