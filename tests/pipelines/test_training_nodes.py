"""What a node hands on from the parameters to the engine."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from cifar100_transfer.config import ComputeConfig, ModelConfig
from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.pipelines.training import create_pipeline
from cifar100_transfer.pipelines.training.nodes import train_classifier
from cifar100_transfer.training import EpochRecord, batch_size
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
