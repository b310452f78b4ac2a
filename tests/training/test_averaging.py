"""Means of weights in closed form, and with statistics that fit them."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch.optim.swa_utils import update_bn

from cifar100_transfer.config import AugmentationConfig, AveragingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.models import Classifier, predict_logits
from cifar100_transfer.training import Compute, steps, train
from cifar100_transfer.training.averaging import Average
from cifar100_transfer.training.steps import Engine, _in_swa
from tests.training.test_loop import tiny_run
from tests.training.tiny import Sets, recipe, tiny_classifier


@pytest.fixture
def classifier(sets: Sets) -> Classifier:
    return tiny_classifier(sets[0], recipe())


def fill(classifier: Classifier, value: float) -> None:
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            parameter.fill_(value)


def head(average: Average) -> float:
    values = average.classifier.network.head.weight.detach()
    assert float(values.min()) == float(values.max())
    return float(values[0, 0])


def test_swa_is_the_plain_mean(classifier: Classifier) -> None:
    average = Average(classifier, AveragingConfig(name="swa"))
    for value in (1.0, 4.0, 10.0, 1.0):
        fill(classifier, value)
        average.update(classifier)
    assert head(average) == pytest.approx(4.0)
    assert average.updates == 4


def test_ema_forgets_at_its_rate(classifier: Classifier) -> None:
    """After the warm-up of its decay: mean = v + decay^n (start - v)."""
    average = Average(classifier, AveragingConfig(name="ema", ema_decay=0.5))
    average.updates = 100
    fill(average.classifier, 3.0)
    fill(classifier, 1.0)
    for _ in range(5):
        average.update(classifier)
    assert head(average) == pytest.approx(1.0 + 0.5**5 * (3.0 - 1.0), rel=1e-6)


def test_emas_first_updates_forget_faster(classifier: Classifier) -> None:
    fill(classifier, 0.0)
    average = Average(classifier, AveragingConfig(name="ema", ema_decay=0.999))
    fill(classifier, 1.0)
    average.update(classifier)
    assert head(average) == pytest.approx(1 - 1 / 10)
    average.update(classifier)
    assert head(average) == pytest.approx(1 - 1 / 10 * 2 / 11)


def test_ema_takes_statistics_and_counters_along(classifier: Classifier) -> None:
    average = Average(classifier, AveragingConfig(name="ema"))
    classifier.train()
    classifier(torch.rand(8, 3, 8, 8))
    average.update(classifier)
    norm, mean_norm = classifier.network.norm, average.classifier.network.norm
    assert torch.allclose(mean_norm.running_mean, 0.9 * norm.running_mean)
    assert int(mean_norm.num_batches_tracked) == 1


@pytest.mark.parametrize("views", [1, 3])
def test_statistics_are_those_of_the_mean_weights(
    sets: Sets, classifier: Classifier, views: int
) -> None:
    images = sets[0].images.float() / 255
    average = Average(classifier, AveragingConfig(name="swa"))
    average.classifier.eval()
    average.reestimate_batch_norm([images.expand(views, *images.shape)], nullcontext)
    features = classifier.network.stem(classifier.preprocess(images))
    norm = average.classifier.network.norm
    assert torch.allclose(norm.running_mean, features.mean((0, 2, 3)), atol=1e-5)
    if views == 1:
        assert torch.allclose(norm.running_var, features.var((0, 2, 3)), rtol=1e-4)
    assert norm.momentum == 0.1
    assert not average.classifier.training


def test_statistics_of_equal_parts_are_those_of_torch(sets: Sets, classifier: Classifier) -> None:
    averages = [Average(classifier, AveragingConfig(name="swa")) for _ in range(2)]
    averages[0].reestimate_batch_norm(sets[0].images.split(16), nullcontext)
    update_bn(sets[0].images.split(16), averages[1].classifier)
    found, expected = (list(average.classifier.network.buffers()) for average in averages)
    torch.testing.assert_close(found, expected)


def test_every_image_weighs_the_same_in_the_statistics(sets: Sets, classifier: Classifier) -> None:
    average = Average(classifier, AveragingConfig(name="swa"))
    average.reestimate_batch_norm(sets[0].images.split([45, 3]), nullcontext)
    features = classifier.network.stem(classifier.preprocess(sets[0].images))
    found = average.classifier.network.norm.running_mean
    torch.testing.assert_close(found, features.mean((0, 2, 3)))


@pytest.mark.parametrize("processes", [1, 2])
def test_the_statistics_are_of_the_parts_that_are_trained_on(
    sets: Sets, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """Larger ones would take more memory than the training."""
    monkeypatch.setattr(steps, "process_count", lambda: processes)
    config = recipe(
        batch_size=13,
        accumulation_steps=2,
        averaging=AveragingConfig(name="swa", swa_start=0),
        augmentation=AugmentationConfig(policy="augmix", augmix_jsd=1.0),
    )
    engine = Engine.of(tiny_classifier(sets[0], config), sets[0], config)
    whole, last = {1: ([7, 6], [7, 2]), 2: ([4, 3, 4, 2], [4, 1, 4])}[processes]
    expected = [(3, images) for images in (*whole * 3, *last)]
    assert [part.shape[:2] for part in steps._parts(engine, 1)] == expected


def test_in_bfloat16_the_statistics_are_of_images_in_full_precision(sets: Sets) -> None:
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    def spy(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if module.training:
            seen.append((inputs[0].dtype, output.dtype))

    config = recipe(
        epochs=1,
        averaging=AveragingConfig(name="swa", swa_start=0),
        augmentation=AugmentationConfig(policy="augmix"),
    )
    classifier = tiny_classifier(sets[0], config)
    classifier.network.stem.register_forward_hook(spy)
    train(classifier, *sets, config, Compute(precision=torch.bfloat16))
    assert seen == [(torch.float32, torch.bfloat16)] * 6


def test_frozen_epochs_leave_the_statistics_of_the_mean_alone(sets: Sets) -> None:
    config = recipe(frozen_epochs=3, averaging=AveragingConfig(name="swa", swa_start=0))
    classifier = tiny_classifier(sets[0], config)
    before = [value.clone() for value in classifier.network.norm.buffers()]
    norm = train(classifier, *sets, config).classifier.network.norm
    for value, expected in zip(norm.buffers(), before, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("name", ["none", "swa"])
def test_the_statistics_that_several_processes_share_are_those_they_judge_by(
    sets: Sets, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    handed: list[list[torch.Tensor]] = []
    monkeypatch.setattr(
        "cifar100_transfer.training.steps.take_from_first",
        lambda values: handed.append([value.clone() for value in values]),
    )
    config = recipe(epochs=1, averaging=AveragingConfig(name=name, swa_start=0))
    result = train(tiny_classifier(sets[0], config), *sets, config)
    judged = list(result.classifier.buffers())
    assert any(
        all(map(torch.equal, values, judged)) for values in handed if len(values) == len(judged)
    )


@pytest.mark.parametrize(
    ("share", "epochs", "first"), [(0.58, 50, 30), (0.29, 100, 30), (0.7, 90, 64), (0.75, 3, 3)]
)
def test_swa_starts_after_its_share_of_the_epochs(share: float, epochs: int, first: int) -> None:
    config = recipe(epochs=epochs, averaging=AveragingConfig(name="swa", swa_start=share))
    averaged = [epoch for epoch in range(1, epochs + 1) if _in_swa(config, epoch)]
    assert averaged == list(range(first, epochs + 1))


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_the_mean_is_judged_and_kept(sets: Sets, name: str) -> None:
    config = recipe(epochs=2, averaging=AveragingConfig(name=name, swa_start=0))
    classifier = tiny_classifier(sets[0], config)
    result = train(classifier, *sets, config)
    logits = predict_logits(result.classifier, sets[1].images)
    loss = torch.nn.functional.cross_entropy(logits, sets[1].labels)
    assert float(loss) == pytest.approx(result.best.validation_loss, rel=1e-5)
    plain = train(tiny_classifier(sets[0], recipe(epochs=2)), *sets, recipe(epochs=2))
    assert [r.train_loss for r in plain.history] == [r.train_loss for r in result.history]
    assert plain.history[1].validation_loss != result.history[1].validation_loss


def test_swa_averages_the_last_epochs_only(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    update = Average.update

    def spy(self: Average, classifier: Classifier) -> None:
        rates.append(float(classifier.network.head.weight.detach().abs().sum()))
        update(self, classifier)

    monkeypatch.setattr(Average, "update", spy)
    config = recipe(epochs=4, averaging=AveragingConfig(name="swa", swa_factor=0.1))
    result = train(tiny_classifier(sets[0], config), *sets, config)
    assert len(rates) == 1
    assert [r.learning_rate for r in result.history] == pytest.approx([1e-3] * 3 + [1e-4])


def test_ema_takes_the_weights_that_a_step_has_made(sets: Sets) -> None:
    changes = {"epochs": 1, "batch_size": 48}
    before = tiny_classifier(sets[0], recipe(**changes)).network.stem.weight.detach()
    plain, averaged = (
        tiny_run(sets, recipe(**changes, averaging=AveragingConfig(name=name)))
        for name in ("none", "ema")
    )
    expected = torch.lerp(before, plain.classifier.network.stem.weight.detach(), 0.9)
    torch.testing.assert_close(averaged.classifier.network.stem.weight.detach(), expected)


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
