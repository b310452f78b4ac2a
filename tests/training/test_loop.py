"""Training: it learns, it repeats itself to the bit, and it returns its best epoch."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from cifar100_transfer.config import (
    AugmentationConfig,
    AveragingConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
)
from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, predict_logits
from cifar100_transfer.training import (
    EpochRecord,
    TrainingResult,
    build_classifier,
    loop,
    train,
)
from cifar100_transfer.training.batches import ResidentBatches
from tests.training.tiny import Sets, recipe, results, tiny_classifier

MODEL = ModelConfig(architecture="simple_cnn")
MakeImageSet = Callable[..., ImageSet]


@pytest.fixture
def sets(make_image_set: MakeImageSet) -> tuple[ImageSet, ImageSet]:
    return (
        make_image_set(classes=6, per_class=10, size=12),
        make_image_set(classes=6, per_class=4, size=12, seed=1),
    )


def build(images: ImageSet, config: TrainingConfig, model: ModelConfig = MODEL) -> Classifier:
    statistics = channel_statistics(images.images)
    normalization = {"mean": list(statistics.mean), "std": list(statistics.std)}
    return build_classifier(images, normalization, model, config)


def run(
    sets: tuple[ImageSet, ImageSet], config: TrainingConfig, model: ModelConfig = MODEL
) -> TrainingResult:
    return train(build(sets[0], config, model), *sets, config)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_it_learns_coloured_classes(sets: tuple[ImageSet, ImageSet], optimizer: str) -> None:
    config = recipe(epochs=10, optimizer=OptimizerConfig(name=optimizer, learning_rate=3e-3))
    result = run(sets, config)
    assert result.best.validation_accuracy > 0.9
    assert result.history[-1].train_loss < result.history[0].train_loss


def test_all_processes_judge_by_what_the_first_one_saw(
    sets: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one ends by `patience` and the others wait for it; another GPU may round otherwise."""

    def take(values: tuple[torch.Tensor, torch.Tensor]) -> None:
        for value, of_first in zip(values, (0.5, 6), strict=True):
            value.fill_(of_first)

    monkeypatch.setattr(loop, "take_from_first", take, raising=False)
    history = run(sets, recipe(epochs=5, patience=2)).history
    assert [(r.validation_loss, r.validation_accuracy) for r in history] == [(0.5, 0.25)] * 3


@pytest.mark.parametrize(("averaging", "epochs"), [("none", 3), ("swa", 8)])
def test_patience_waits_for_the_average(
    sets: tuple[ImageSet, ImageSet], averaging: str, epochs: int
) -> None:
    config = recipe(
        epochs=10,
        patience=2,
        averaging=AveragingConfig(name=averaging, swa_start=0.6),
        optimizer=OptimizerConfig(name="sgd", learning_rate=1e-30),
    )
    assert len(run(sets, config).history) == epochs


def test_one_seed_gives_one_result(sets: tuple[ImageSet, ImageSet]) -> None:
    model = ModelConfig(architecture="simple_cnn", dropout=0.3)
    config = recipe(label_smoothing=0.1, schedule=ScheduleConfig(name="one_cycle"))
    first = run(sets, config, model)
    torch.manual_seed(99)
    second = run(sets, config, model)
    assert results(first) == results(second)
    assert same_weights(first.classifier, second.classifier)


def test_a_result_carries_no_gradients(sets: tuple[ImageSet, ImageSet]) -> None:
    assert all(p.grad is None for p in run(sets, recipe(epochs=1)).classifier.parameters())


def test_another_seed_gives_another_result(sets: tuple[ImageSet, ImageSet]) -> None:
    first, second = run(sets, recipe(seed=0)), run(sets, recipe(seed=1))
    assert results(first) != results(second)
    assert not same_weights(first.classifier, second.classifier)


def test_the_best_epochs_weights_are_returned(
    sets: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiling_rate(_: ScheduleConfig, step: int, steps_per_epoch: int, __: int) -> float:
        return 1.0 if step < 5 * steps_per_epoch else 1e4

    monkeypatch.setattr("cifar100_transfer.training.steps.learning_rate_factor", spoiling_rate)
    result = run(sets, recipe(epochs=6))
    accuracies = [record.validation_accuracy for record in result.history]
    assert accuracies[-1] < max(accuracies)
    assert result.best.epoch == accuracies.index(max(accuracies)) + 1
    logits = predict_logits(result.classifier, sets[1].images)
    assert not result.classifier.training
    accuracy = float((logits.argmax(1) == sets[1].labels).double().mean())
    assert accuracy == pytest.approx(result.best.validation_accuracy)
    loss = float(nn.functional.cross_entropy(logits, sets[1].labels))
    assert loss == pytest.approx(result.best.validation_loss, rel=1e-5)


def test_validation_images_are_neither_augmented_nor_trained_on(
    sets: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def spy(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return predict_logits(classifier, images)

    monkeypatch.setattr("cifar100_transfer.training.loop.predict_logits", spy)
    result = run(sets, recipe())
    assert len(seen) == 3
    assert all(torch.equal(images, sets[1].images) for images in seen)
    # Which validation images there are changes nothing but their own columns.
    other = run((sets[0], sets[1].subset(torch.arange(3))), recipe())
    assert [r[:2] for r in results(result)] == [r[:2] for r in results(other)]


def test_memory_of_the_steps_is_given_back_before_validation(
    sets: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def noted(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        return lambda *arguments: (events.append(name), function(*arguments))[1]

    for name in ("train_epoch", "return_freed_memory", "predict_logits"):
        monkeypatch.setattr(loop, name, noted(getattr(loop, name), name))
    config = recipe(epochs=2)
    train(tiny_classifier(sets[0], config), *sets, config)
    assert events == ["train_epoch", "return_freed_memory", "predict_logits"] * 2


def test_the_loss_is_that_of_an_untrained_network_at_rate_zero(
    sets: tuple[ImageSet, ImageSet],
) -> None:
    config = recipe(
        epochs=1,
        batch_size=7,  # the last batch is smaller: means must weigh it as such
        optimizer=OptimizerConfig(name="sgd", learning_rate=1e-30),
        augmentation=AugmentationConfig(flip=False, crop_padding=0),
        label_smoothing=0.2,
    )
    classifier = build(sets[0], config)
    logits = predict_logits(classifier, sets[0].images)
    expected = nn.functional.cross_entropy(logits, sets[0].labels, label_smoothing=0.2)
    record = train(classifier, *sets, config).history[0]
    assert record.train_loss == pytest.approx(float(expected), rel=1e-5)
    accuracy = float((logits.argmax(1) == sets[0].labels).double().mean())
    assert record.train_accuracy == pytest.approx(accuracy)


def test_the_summary_tells_the_best_epoch_and_the_whole_cost(
    sets: tuple[ImageSet, ImageSet],
) -> None:
    result = run(sets, recipe())
    summary = result.summary()
    best = result.best
    assert summary["architecture"] == "simple_cnn"
    assert summary["parameters"] == 3 * 32 * 9 + 32 + 32 * 6 * 6 * 6 + 6
    assert summary["epochs"] == len(result.history) == 3
    assert summary["best_epoch"] == best.epoch
    for key in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        assert summary[key] == getattr(best, key)
    assert summary["seconds"] == pytest.approx(sum(r.seconds for r in result.history))
    rates = [r.images_per_second for r in result.history]
    assert min(rates) <= summary["images_per_second"] <= max(rates)
    assert [r.epoch for r in result.history] == [1, 2, 3]


def test_the_schedule_is_followed(sets: tuple[ImageSet, ImageSet]) -> None:
    schedule = ScheduleConfig(name="step", step_epochs=2, gamma=0.1)
    history = run(sets, recipe(epochs=4, schedule=schedule)).history
    assert [r.learning_rate for r in history] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_a_classifier_of_other_classes_is_refused(
    sets: tuple[ImageSet, ImageSet], make_image_set: MakeImageSet
) -> None:
    classifier = build(make_image_set(classes=4, per_class=2, size=12), recipe())
    with pytest.raises(UserError, match=r"has 4 classes and the training images 6"):
        train(classifier, *sets, recipe())


def test_validation_images_of_other_classes_are_refused(
    sets: tuple[ImageSet, ImageSet], make_image_set: MakeImageSet
) -> None:
    other = make_image_set(classes=4, per_class=2, size=12)
    with pytest.raises(UserError, match="different classes"):
        run((sets[0], other), recipe())


def test_a_batch_larger_than_the_set_is_refused(sets: tuple[ImageSet, ImageSet]) -> None:
    with pytest.raises(UserError, match=r"batch_size=61 is larger .*60 images"):
        run(sets, recipe(batch_size=61))


def test_a_single_image_cannot_be_batch_normalised(sets: tuple[ImageSet, ImageSet]) -> None:
    model = ModelConfig(architecture="resnet18", image_size=32)
    with pytest.raises(UserError, match=r"batch_size=59 .*one image"):
        run(sets, recipe(batch_size=59), model)
    assert run(sets, recipe(batch_size=59, epochs=1)).history  # nothing is normalised here


def test_a_class_without_training_images_is_named(sets: tuple[ImageSet, ImageSet]) -> None:
    without = sets[0].subset((sets[0].labels != 2).nonzero().squeeze(1))
    with pytest.raises(UserError, match=r"no training image of 1 classes \(class_002\)"):
        run((without, sets[1]), recipe())


def test_an_empty_validation_set_is_refused(sets: tuple[ImageSet, ImageSet]) -> None:
    empty = sets[1].subset(torch.arange(0))
    with pytest.raises(UserError, match=r"validation set is empty: raise split\.validation_share"):
        run((sets[0], empty), recipe())


@pytest.mark.parametrize("batch_size", [16, 60])
def test_a_diverging_training_is_a_user_error(
    sets: tuple[ImageSet, ImageSet], batch_size: int
) -> None:
    """With one batch an epoch, only the validation sees the broken weights."""
    config = recipe(
        epochs=1, batch_size=batch_size, optimizer=OptimizerConfig(name="sgd", learning_rate=1e38)
    )
    with pytest.raises(UserError, match=r"lower training\.optimizer\.learning_rate"):
        run(sets, config)


def tiny_run(sets: tuple[ImageSet, ImageSet], config: TrainingConfig) -> TrainingResult:
    return train(tiny_classifier(sets[0], config), *sets, config)


def test_memory_that_ends_in_validation_is_a_user_error(
    sets: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(loop, "predict_logits", full)
    with pytest.raises(UserError, match=r"too little memory for validating images of 12 x 12 pix"):
        run(sets, recipe(epochs=1))


def test_frozen_epochs_train_the_head_alone(sets: tuple[ImageSet, ImageSet]) -> None:
    config = recipe(epochs=2, frozen_epochs=2, optimizer=OptimizerConfig(weight_decay=0.1))
    before = tiny_classifier(sets[0], config).network.state_dict()
    result = tiny_run(sets, config)
    for key, value in result.classifier.network.state_dict().items():
        assert torch.equal(value, before[key]) == (not key.startswith("head.")), key
    assert all(parameter.requires_grad for parameter in result.classifier.parameters())


def test_the_backbone_learns_after_its_frozen_epochs(sets: tuple[ImageSet, ImageSet]) -> None:
    config = recipe(epochs=2, frozen_epochs=1, optimizer=OptimizerConfig(learning_rate=0.01))
    before = tiny_classifier(sets[0], config).network.state_dict()
    result = tiny_run(sets, config)
    assert result.best.epoch == 2
    after = result.classifier.network.state_dict()
    assert not torch.equal(after["stem.weight"], before["stem.weight"])
    assert not torch.equal(after["norm.running_mean"], before["norm.running_mean"])


def test_a_batch_in_parts_is_the_same_batch(sets: tuple[ImageSet, ImageSet]) -> None:
    """Batch normalisation would see the parts, dropout would draw anew."""
    histories = []
    for steps in (1, 2, 5):
        config = recipe(epochs=2, batch_size=16, accumulation_steps=steps, label_smoothing=0.1)
        classifier = tiny_classifier(sets[0], config, batch_norm=False, dropout=0.0)
        histories.append(results(train(classifier, *sets, config)))
    for history in histories[1:]:
        for found, expected in zip(history, histories[0], strict=True):
            assert found == pytest.approx(expected, rel=1e-4)


def test_mixed_targets_and_views_are_trained_on(
    sets: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What batches may yield: labels or shares of classes, one image or several views of it."""
    config = recipe(epochs=1, batch_size=15)
    plain = tiny_run(sets, config)
    cut = ResidentBatches.epoch

    def mixed(self: ResidentBatches, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, ...]]:
        for images, labels in cut(self, seed, epoch):
            yield images / 255, nn.functional.one_hot(labels, 6).float()

    def views(self: ResidentBatches, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, ...]]:
        for images, labels in cut(self, seed, epoch):
            yield torch.stack([images, images.flip(-1), images.flip(-2)]), labels

    monkeypatch.setattr(ResidentBatches, "epoch", mixed)
    for found, expected in zip(results(tiny_run(sets, config)), results(plain), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
    monkeypatch.setattr(ResidentBatches, "epoch", views)
    assert tiny_run(sets, recipe(epochs=1, batch_size=15, accumulation_steps=2)).history


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accumulation_steps": 17}, "no more parts than images"),
        ({"accumulation_steps": 2, "optimizer": {"sam_radius": 0.1}}, "whole batch first"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe(**change)


def test_a_part_of_one_image_cannot_be_batch_normalised(sets: tuple[ImageSet, ImageSet]) -> None:
    config = recipe(batch_size=9, accumulation_steps=2)  # a last batch of 6, in parts of 5 and 1
    with pytest.raises(UserError, match=r"batch_size=9 in 2 parts leaves one image of 60 alone"):
        tiny_run(sets, config)


def test_every_epoch_is_reported_once_and_an_exception_ends_the_training(
    sets: tuple[ImageSet, ImageSet],
) -> None:
    seen: list[int] = []

    def stop_after_two(record: EpochRecord) -> None:
        seen.append(record.epoch)
        if record.epoch == 2:
            raise KeyboardInterrupt

    config = recipe(epochs=5)
    with pytest.raises(KeyboardInterrupt):
        train(build(sets[0], config), *sets, config, on_epoch=stop_after_two)
    assert seen == [1, 2]


def test_of_epochs_that_are_equally_good_the_first_is_kept(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.zeros(len(sets[1]), 6)
    monkeypatch.setattr(loop, "predict_logits", lambda *_: logits)
    first, longer = (tiny_run(sets, recipe(epochs=epochs)) for epochs in (1, 3))
    assert longer.best.epoch == 1
    assert same_weights(longer.classifier, first.classifier)
