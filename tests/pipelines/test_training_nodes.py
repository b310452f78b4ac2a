"""What a node hands on from the parameters to the engine."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cifar100_transfer import tracking
from cifar100_transfer.config import ComputeConfig, ModelConfig
from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.training import create_pipeline
from cifar100_transfer.pipelines.training.nodes import train_classifier
from cifar100_transfer.training import EpochRecord, batch_size, distributed
from cifar100_transfer.training.recording import StepRecorder
from tests.training.tiny import recipe


@pytest.mark.parametrize("wanted", [True, False])
def test_whether_steps_are_recorded_reaches_measurement_and_training(
    make_image_set: Callable[..., ImageSet],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wanted: bool,
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(StepRecorder, "of", lambda *_, wanted: asked.append(wanted))
    monkeypatch.setattr(batch_size, "SIZES", (16,))
    images = make_image_set(classes=6, per_class=3, size=8)
    train_classifier(
        images,
        images,
        asdict(channel_statistics(images.images)),
        ModelConfig(architecture="simple_cnn"),
        recipe(epochs=1, batch_size="auto"),
        ComputeConfig(device="cpu", cuda_graphs=wanted),
        tmp_path,
        name="simple_cnn",
    )
    assert asked == [wanted] * (batch_size.ROUNDS + 1)  # measured in rounds, then trained


def test_learning_curves_are_titled_by_the_model() -> None:
    (draw,) = create_pipeline("transfer").filter(node_names=["transfer.draw_learning_curves"]).nodes
    epoch = EpochRecord(1, 0.5, 0.5, 0.5, 0.5, 0.1, 1.0, 1.0)
    figure = draw.func(pd.DataFrame([asdict(epoch)]))
    assert figure.get_suptitle() == "Learning curves: transfer"


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


def test_an_error_in_a_recipe_names_the_model_it_is_of(
    make_image_set: Callable[..., ImageSet], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = make_image_set(classes=6, per_class=3, size=8)
    with caplog.at_level("INFO"), pytest.raises(UserError) as refused:
        train_classifier(
            images,
            images,
            asdict(channel_statistics(images.images)),
            ModelConfig(architecture="simple_cnn"),
            recipe(epochs=1, batch_size=1000),
            ComputeConfig(device="cpu"),
            tmp_path,
            name="mine",
        )
    assert str(refused.value).startswith("mine.training.batch_size=1000 is larger than")
    assert "Training mine (simple_cnn) on 18 images" in caplog.messages
