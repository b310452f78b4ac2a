"""Recorded steps: what is replayed and what is not, and that a GPU's results are the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from cifar100_transfer.config import (
    AugmentationConfig,
    AveragingConfig,
    OptimizerConfig,
)
from cifar100_transfer.data import ImageSet
from cifar100_transfer.models import Classifier
from cifar100_transfer.training import Compute, TrainingResult, train
from cifar100_transfer.training.recording import StepRecorder
from tests.training.tiny import Sets, recipe, results, tiny_classifier

CPU = torch.device("cpu")
GPU = torch.device("cuda")


class Graph:
    """Stands in for a CUDA graph: it does the recorded work again on the recorded tensors."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def replay(self) -> None:
        for work in self.work:
            work()


class Stream:
    """Stands in for a CUDA stream."""

    def __init__(self, *_: object) -> None:
        pass

    def wait_stream(self, other: object) -> None:
        pass


class Generator:
    """Stands in for the generator of a GPU's random numbers, which counts those of a recording."""

    def __init__(self) -> None:
        self.recorded = False

    def clone_state(self) -> "Generator":
        clone = Generator()
        clone.recorded = self.recorded
        return clone

    def graphsafe_set_state(self, other: "Generator") -> None:
        self.recorded = other.recorded


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    """Let the CPU have one of a GPU's generators."""
    generator = Generator()
    monkeypatch.setattr(
        "cifar100_transfer.training.recording._generator_of", lambda device: generator
    )
    return generator


@pytest.fixture
def recording(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Let there be something like CUDA graphs on the CPU; returns the graphs that are open."""
    opened: list[Graph] = []

    @contextmanager
    def graph(graph: Graph, **_: object) -> Iterator[None]:
        opened.append(graph)
        yield
        opened.remove(graph)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: torch.no_grad())  # any context
    return opened


class Passes:
    """A mean over weighted images; its gradient is computed by hand."""

    def __init__(self, opened: list[Graph]) -> None:
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.computed = 0
        self._opened = opened

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if not self._opened:
            self.computed += 1
            self.weight.grad = images.mean().float()
            return self.weight.detach() * images.mean(), targets.sum()
        gradient, loss, right = torch.zeros(()), torch.zeros(()), torch.zeros((), dtype=torch.int64)

        def work() -> None:
            gradient.copy_(images.mean())
            loss.copy_(self.weight.detach() * images.mean())
            right.copy_(targets.sum())

        self._opened[-1].work.append(work)
        self.weight.grad = gradient
        return loss, right


def batch(value: float, size: int = 4) -> tuple[Tensor, Tensor]:
    return torch.full((size, 3, 2, 2), value), torch.full((size,), int(value))


def test_the_first_step_of_a_kind_is_computed_and_the_others_replayed(
    recording: list[Graph],
) -> None:
    passes = Passes(recording)
    recorder = StepRecorder([passes.weight], CPU)
    batches = {value: batch(value) for value in (1.0, 2.0, 3.0)}
    for value, made in batches.items():
        passes.weight.grad = None
        loss, right = recorder(passes, *made, "a")
        assert (float(loss), int(right)) == (2 * value, 4 * value)
        assert passes.weight.grad is not None
        assert float(passes.weight.grad) == value
    assert passes.computed == 1
    assert all(bool((images == value).all()) for value, (images, _) in batches.items())


@pytest.mark.parametrize(
    ("variant", "changed"),
    [("b", batch(5.0)), ("a", batch(5.0, size=3)), ("a", (batch(5.0)[0].double(), batch(5.0)[1]))],
    ids=["variant", "shape", "type"],
)
def test_another_kind_of_step_is_recorded_anew(
    recording: list[Graph], variant: str, changed: tuple[Tensor, Tensor]
) -> None:
    passes = Passes(recording)
    recorder = StepRecorder([passes.weight], CPU)
    for _ in range(2):
        recorder(passes, *batch(1.0), "a")
    for _ in range(2):
        loss, _ = recorder(passes, *changed, variant)
        assert float(loss) == 10.0
    assert passes.computed == 2


def test_what_cannot_be_recorded_is_computed(
    recording: list[Graph],
    generator: Generator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @contextmanager
    def refuse(*_: object, **__: object) -> Iterator[None]:
        generator.recorded = True  # dropout would be refused from now on
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    passes = Passes([])
    recorder = StepRecorder([passes.weight], CPU)
    with caplog.at_level("INFO"):
        losses = [float(recorder(passes, *batch(value), "a")[0]) for value in (1.0, 2.0, 3.0)]
    assert losses == [2.0, 4.0, 6.0]
    assert not generator.recorded
    assert caplog.messages == [
        "steps are not recorded as a CUDA graph: operation not permitted when stream is capturing"
    ]


def test_only_one_process_on_a_gpu_records_and_only_if_wanted(
    recording: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torch.nn.Linear(1, 1)
    assert StepRecorder.of(network, GPU) is not None
    assert StepRecorder.of(network, CPU) is None
    assert StepRecorder.of(network, GPU, wanted=False) is None
    monkeypatch.setattr("cifar100_transfer.training.recording.process_count", lambda: 2)
    assert StepRecorder.of(network, GPU) is None


def test_a_training_hands_whole_batches_over_with_size_and_frozenness(
    make_image_set: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def call(passes: Callable[..., Any], images: Tensor, targets: Tensor, variant: Any) -> Any:
        seen.append((len(images), variant))
        return passes(images, targets)

    images = make_image_set(classes=6, per_class=6, size=8)
    config = recipe(epochs=3, frozen_epochs=1, progressive_sizes=((0.5, 10),))
    plain = train(tiny_classifier(images, config), images, images, config)
    monkeypatch.setattr(StepRecorder, "of", lambda *_, **__: call)
    recorded = train(tiny_classifier(images, config), images, images, config)
    size = (10, 10)
    assert seen == [(16, (size, True))] * 2 + [(16, (size, False))] * 2 + [(16, (None, False))] * 2
    assert results(recorded) == results(plain)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, True), ({"cuda_graphs": False}, False), ({"compiled": True}, False)],
)
def test_steps_are_recorded_unless_refused_or_compiled(
    make_image_set: Callable[..., ImageSet],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, bool],
    expected: bool,
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(StepRecorder, "of", lambda *_, wanted: asked.append(wanted))
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    images, config = make_image_set(classes=6, per_class=3, size=8), recipe(epochs=1)
    train(tiny_classifier(images, config), images, images, config, Compute(**options))
    assert asked == [expected]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [
        {"frozen_epochs": 2},
        {"accumulation_steps": 2, "averaging": AveragingConfig(name="ema")},
        {"progressive_sizes": ((0.4, 12), (0.7, 10)), "optimizer": OptimizerConfig(name="muon")},
        {"optimizer": OptimizerConfig(name="sgd", sam_radius=0.1, clip_norm=1.0)},
        {"averaging": AveragingConfig(name="swa", swa_start=0.5)},
        {"augmentation": AugmentationConfig(mixup_alpha=0.3, mix_share=0.5)},
        {"augmentation": AugmentationConfig(policy="augmix", augmix_jsd=3.0)},
    ],
    ids=["frozen", "parts and EMA", "sizes and Muon", "SAM", "SWA", "mixed", "views"],
)
def test_a_gpu_trains_to_the_same_weights(
    make_image_set: Callable[..., ImageSet], changes: dict[str, Any], precision: torch.dtype
) -> None:
    sets = (
        make_image_set(classes=6, per_class=12, size=8),
        make_image_set(classes=6, per_class=3, size=8, seed=1),
    )
    recorded, plain = (
        run_on_gpu(sets, changes, Compute(GPU, precision, cuda_graphs=wanted))
        for wanted in (True, False)
    )
    for found, expected in zip(results(recorded), results(plain), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    weights = plain.classifier.state_dict()
    for name, values in recorded.classifier.state_dict().items():
        torch.testing.assert_close(values, weights[name], rtol=1e-3, atol=1e-4, msg=name)


def run_on_gpu(sets: Sets, changes: dict[str, Any], compute: Compute) -> TrainingResult:
    config = recipe(epochs=6, **changes)
    classifier: Classifier = tiny_classifier(sets[0], config)
    # Before batch normalisation its gradient is nothing but rounding, which Adam makes steps of.
    classifier.network.stem.bias = None
    return train(classifier, *sets, config, compute)


def wait_for_device(_: torch.nn.Module, inputs: tuple[Tensor], __: Tensor) -> None:
    inputs[0].max().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_goes_on_where_recording_fails(
    make_image_set: Callable[..., ImageSet], caplog: pytest.LogCaptureFixture
) -> None:
    """A step that waits for the device, as some networks' do, can't be recorded."""
    images = make_image_set(classes=6, per_class=12, size=8)
    config = recipe()
    histories = []
    for wanted in (True, False):
        classifier = tiny_classifier(images, config)
        classifier.network.stem.register_forward_hook(wait_for_device)
        with caplog.at_level("INFO", "cifar100_transfer.training.recording"):
            compute = Compute(GPU, cuda_graphs=wanted)
            result = train(classifier, images, images, config, compute)
        histories.append(results(result))
    # Seen on a GPU after one epoch: the same training loss, validation losses 6e-6 apart.
    assert histories[0][0][:2] == histories[1][0][:2], "the same random numbers"
    for found, expected in zip(*histories, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    assert [m.split(":")[0] for m in caplog.messages if "recorded" in m] == [
        "steps are not recorded as a CUDA graph"
    ]
