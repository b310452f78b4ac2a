"""Two processes train what one does, each on its half of every batch."""

import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.elastic.multiprocessing.api import _terminate_process_handler
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.multiprocessing.errors.error_handler import ErrorHandler

from cifar100_transfer.config import (
    AugmentationConfig,
    AveragingConfig,
    ModelConfig,
    OptimizerConfig,
)
from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier
from cifar100_transfer.training import (
    Compute,
    EpochRecord,
    TrainingResult,
    build_classifier,
    distributed,
    processes,
    steps,
    train,
)
from cifar100_transfer.training.distributed import train_on_devices
from cifar100_transfer.training.steps import Engine
from tests.training.tiny import Sets, recipe, results


@pytest.fixture
def sets(make_image_set: Callable[..., ImageSet]) -> Sets:
    return (
        make_image_set(classes=6, per_class=8, size=12),
        make_image_set(classes=6, per_class=3, size=12, seed=1),
    )


# Everything that the processes must agree on; batches of 13 are shared out unevenly.
CONFIG = recipe(
    epochs=2,
    batch_size=13,
    accumulation_steps=2,
    frozen_epochs=1,
    averaging=AveragingConfig(name="ema"),
    augmentation=AugmentationConfig(crop_padding=1, mixup_alpha=0.4),
    optimizer=OptimizerConfig(name="muon", clip_norm=1.0, learning_rate=0.003),
)


def build(images: ImageSet, architecture: str = "simple_cnn") -> Classifier:
    normalization = vars(channel_statistics(images.images))
    model = ModelConfig(architecture=architecture)
    return build_classifier(images, normalization, model, CONFIG)


def test_two_processes_train_what_one_does(
    sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    alone = train(build(sets[0]), *sets, CONFIG)
    seen: list[EpochRecord] = []
    folder = tmp_path / "resume"
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    together = train_on_devices(2, build(sets[0]), *sets, CONFIG, Compute(), folder, seen.append)
    for found, expected in zip(results(together), results(alone), strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    assert list(folder.iterdir()), "the first process stores resume points"
    assert not list(temporary.iterdir())
    assert seen == together.history
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_every_process_computes_as_it_was_asked(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Compute] = []

    def spy(*arguments: Any, **options: Any) -> TrainingResult:
        asked.append(arguments[4])
        return train(*arguments, **options)

    monkeypatch.setattr(distributed, "run_in_processes", lambda _, device, f, *a: f(device, *a))
    monkeypatch.setattr(distributed, "train", spy)
    compute = Compute(precision=torch.bfloat16)
    for devices in (1, 2):
        train_on_devices(devices, build(sets[0]), *sets, CONFIG, compute)
    assert asked == [compute, compute]


def test_networks_with_marked_states_go_to_the_processes_and_back(
    make_image_set: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNASNet refuses a state dict without torch's version marks."""
    images = make_image_set(classes=6, per_class=4, size=32)
    monkeypatch.setattr(distributed, "run_in_processes", lambda _, device, f, *a: f(device, *a))
    config = recipe(epochs=1, batch_size=24)
    together = train_on_devices(2, build(images, "mnasnet0_5"), images, images, config)
    alone = train(build(images, "mnasnet0_5"), images, images, config)
    assert results(together) == results(alone)
    weights = alone.classifier.state_dict()
    torch.testing.assert_close(dict(together.classifier.state_dict()), dict(weights))


def test_one_device_needs_no_further_process(sets: Sets) -> None:
    alone = train(build(sets[0]), *sets, CONFIG)
    assert results(train_on_devices(1, build(sets[0]), *sets, CONFIG)) == results(alone)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_are_the_batch_without_overlap(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    batch = torch.arange(2 * 13).view(2, 13)
    shares = []
    monkeypatch.setattr(processes, "process_count", lambda: count)
    for rank in range(count):
        monkeypatch.setattr(processes, "process_rank", lambda rank=rank: rank)
        shares.append(processes.share(batch, 1))
    assert torch.equal(torch.cat(shares, 1), batch)
    assert max(s.shape[1] for s in shares) - min(s.shape[1] for s in shares) <= 1


def test_a_batch_of_fewer_images_than_devices_is_refused(sets: Sets) -> None:
    config = recipe(batch_size=47)  # the last batch of 48 images has one
    with pytest.raises(UserError, match=r"batch_size=47 .* too few for compute\.devices=2"):
        train_on_devices(2, build(sets[0]), *sets, config)


def test_more_devices_than_there_are_is_refused(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"compute\.devices=2: there are fewer devices .* cuda"):
        train_on_devices(2, build(sets[0]), *sets, CONFIG, Compute(torch.device("cuda")))


def test_several_devices_are_not_one_gpu(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    said = r"compute\.device=cuda:2: .*compute\.devices=2\) .* set it to cuda,"
    with pytest.raises(UserError, match=said):
        train_on_devices(2, build(sets[0]), *sets, CONFIG, Compute(torch.device("cuda:2")))


@pytest.mark.parametrize(
    ("raised", "expected", "said"),
    [
        (UserError("mend: me"), UserError, "^mend: me$"),
        (RuntimeError("a bug"), ChildFailedError, "training FAILED"),
    ],
)
def test_what_a_process_raises_ends_the_whole(
    sets: Sets,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    expected: type[Exception],
    said: str,
) -> None:
    """As the launcher hands it over, by way of a file."""
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))

    def launch(*_: object) -> Callable[..., None]:
        def run(*_: object) -> None:
            ErrorHandler().record_exception(raised)
            failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(file))
            raise ChildFailedError("training", {0: failure})

        return run

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", launch)
    with pytest.raises(expected, match=said):
        train_on_devices(2, build(sets[0]), *sets, CONFIG)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_to_the_launcher_is_no_failure_of_the_training(
    sets: Sets,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    expected: type[BaseException],
) -> None:
    def launch(*_: object) -> Callable[..., None]:
        def run(*_: object) -> None:
            signal.raise_signal(number)

        signal.signal(number, _terminate_process_handler)
        return run

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", launch)
    before = signal.getsignal(number)
    with pytest.raises(expected):
        train_on_devices(2, build(sets[0]), *sets, CONFIG)
    assert signal.getsignal(number) is before


def test_the_mean_of_the_processes_gradients_is_the_batchs(
    make_image_set: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Muon, Adam and a clipped norm are blind to a common factor."""
    images = make_image_set(classes=6, per_class=8, size=12)
    classifier = build(images)
    engine = Engine.of(classifier, images, recipe(batch_size=13, accumulation_steps=2))
    batch = images.images[:13], images.labels[:13]

    def gradients(rank: int, count: int) -> list[torch.Tensor]:
        for module in (steps, processes):
            monkeypatch.setattr(module, "process_count", lambda: count)
        monkeypatch.setattr(processes, "process_rank", lambda: rank)
        engine.optimizer.zero_grad()
        steps._add_gradients(engine, classifier, *batch, size=None)
        return [parameter.grad.clone() for parameter in classifier.parameters()]

    together = zip(gradients(0, 2), gradients(1, 2), strict=True)
    torch.testing.assert_close([(a + b) / 2 for a, b in together], gradients(0, 1))
