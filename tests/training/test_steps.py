"""Sizes, precision and compilation of an epoch's steps; errors that say where."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from cifar100_transfer.config import (
    AugmentationConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from cifar100_transfer.data import channel_statistics
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier
from cifar100_transfer.training import Compute, build_classifier, train
from cifar100_transfer.training.optimization import ascended
from cifar100_transfer.training.steps import training_size
from tests.training.test_loop import tiny_run
from tests.training.tiny import Sets, recipe, results, tiny_classifier


def test_sizes_hold_until_their_share_of_the_epochs() -> None:
    config = recipe(epochs=10, progressive_sizes=((0.3, 16), (0.5, 24)))
    sizes = [training_size(config, epoch) for epoch in range(1, 11)]
    assert sizes == [(16, 16)] * 3 + [(24, 24)] * 2 + [None] * 5


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_the_last_epoch_is_at_full_size(epochs: int) -> None:
    config = recipe(epochs=epochs, progressive_sizes=((0.5, 16), (0.9, 24)))
    sizes = [training_size(config, epoch) for epoch in range(1, epochs + 1)]
    assert [size is None for size in sizes] == [False] * (epochs - 1) + [True]


def test_training_images_are_resized_and_validation_images_are_not(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(epochs=4, progressive_sizes=((0.4, 12), (0.7, 10)))
    classifier = tiny_classifier(sets[0], config)
    seen: list[tuple[bool, int]] = []
    classifier.network.stem.register_forward_hook(
        lambda module, inputs, _: seen.append((module.training, inputs[0].shape[-1]))
    )
    train(classifier, *sets, config)
    assert {size for training, size in seen if not training} == {8, 10, 12}  # checked in advance
    assert [size for training, size in seen if training] == [12] * 6 + [10] * 3 + [8] * 3


def test_a_head_of_one_size_refuses_others(sets: Sets) -> None:
    config = recipe(progressive_sizes=((0.5, 12),))
    normalization = vars(channel_statistics(sets[0].images))
    model = ModelConfig(architecture="simple_cnn")
    classifier = build_classifier(sets[0], normalization, model, config)
    with pytest.raises(UserError, match=r"simple_cnn can't take images of 12 x 12 pixels .*sizes"):
        train(classifier, *sets, config)


@pytest.mark.parametrize("sizes", [((0.5, 12), (0.5, 16)), ((0.6, 12), (0.5, 16))])
def test_shares_must_rise(sizes: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="shares of the epochs must rise"):
        recipe(progressive_sizes=sizes)


def test_bfloat16_is_near_float32_and_keeps_float32_weights(sets: Sets) -> None:
    config = recipe()
    full = train(tiny_classifier(sets[0], config), *sets, config)
    classifier = tiny_classifier(sets[0], config)
    kinds: set[torch.dtype] = set()
    classifier.network.stem.register_forward_hook(
        lambda module, _, output: kinds.add(output.dtype) if module.training else None
    )
    half = train(classifier, *sets, config, Compute(precision=torch.bfloat16))
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in half.classifier.parameters()} == {torch.float32}
    losses = [[r.train_loss for r in result.history] for result in (full, half)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_compilation_wraps_the_steps_alone(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.compile makes of it is torch's; here it must be what trains, and only that."""
    calls: list[bool] = []

    def compile_(classifier: Classifier, **_: object) -> Callable[..., torch.Tensor]:
        def forward(*args: Any) -> torch.Tensor:
            calls.append(classifier.training)
            return classifier(*args)

        return forward

    config = recipe(epochs=2)
    plain = train(tiny_classifier(sets[0], config), *sets, config)
    monkeypatch.setattr(torch, "compile", compile_)
    compiled = train(tiny_classifier(sets[0], config), *sets, config, Compute(compiled=True))
    assert calls == [True] * 6
    assert results(compiled) == results(plain)


def test_a_loss_that_breaks_names_epoch_step_and_rate(sets: Sets) -> None:
    optimizer = OptimizerConfig(name="sgd", learning_rate=1e30)
    config = recipe(epochs=2, batch_size=24, optimizer=optimizer)
    said = r"training loss is (nan|inf) in epoch 1, step 2, at learning rate 1e\+30: lower training"
    with pytest.raises(UserError, match=said):
        train(tiny_classifier(sets[0], config, batch_norm=False), *sets, config)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 B"),
        MemoryError(),
    ],
    ids=["GPU", "CPU", "Python"],
)
def test_too_little_memory_names_the_batch(
    sets: Sets, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    config = recipe()
    classifier = tiny_classifier(sets[0], config)
    monkeypatch.setattr(classifier.network.stem, "forward", full)
    with pytest.raises(UserError, match=r"batch_size=16: lower it, or raise .*accumulation_steps"):
        train(classifier, *sets, config)


def test_every_variant_of_a_step_is_compiled(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sizes of images, two of batches, and all twice by SAM: more than torch's default."""
    counter, compile_ = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", partial(compile_, backend=counter))
    config = recipe(
        epochs=4,
        batch_size=20,
        progressive_sizes=((0.25, 9), (0.5, 10)),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.01, sam_radius=0.05),
    )
    train(tiny_classifier(sets[0], config), *sets, config, Compute(compiled=True))
    assert counter.frame_count == 3 * 2 * 2


def test_rates_move_at_every_step(sets: Sets) -> None:
    history = tiny_run(sets, recipe(epochs=2, schedule=ScheduleConfig(name="one_cycle"))).history
    assert history[-1].learning_rate == pytest.approx(1e-3 * 4e-6)


def test_dropout_draws_anew_in_every_epoch(sets: Sets) -> None:
    config = recipe(batch_size=48)
    classifier = tiny_classifier(sets[0], config)
    states: list[bytes] = []

    def note(module: nn.Module, _: object) -> None:
        if module.training:
            states.append(torch.get_rng_state().numpy().tobytes())

    classifier.network.dropout.register_forward_pre_hook(note)
    train(classifier, *sets, config)
    assert len(set(states)) == len(states) == 3


def test_a_step_of_sam_follows_the_gradient_up_there_alone(sets: Sets) -> None:
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.0, sam_radius=0.5)
    plain = AugmentationConfig(flip=False, crop_padding=0)
    config = recipe(epochs=1, batch_size=48, optimizer=optimizer, augmentation=plain)
    classifier = tiny_classifier(sets[0], config, batch_norm=False, dropout=0.0)
    twin = copy.deepcopy(classifier)

    def derive() -> None:
        twin.zero_grad()
        nn.functional.cross_entropy(twin(sets[0].images), sets[0].labels).backward()

    derive()
    with ascended(twin.network, 0.5):
        derive()
    expected = [value.detach() - 0.1 * value.grad for value in twin.parameters()]
    found = list(train(classifier, *sets, config).classifier.parameters())
    torch.testing.assert_close([value.detach() for value in found], expected)
