"""Steps, resumes and augmentation: changes of the code that no other test had noticed."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from cifar100_transfer.config import (
    AugmentationConfig,
    AveragingConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from cifar100_transfer.data import ImageSet
from cifar100_transfer.training import loop, processes, steps, train
from cifar100_transfer.training.augmentation import to_unit
from cifar100_transfer.training.batches import ResidentBatches
from cifar100_transfer.training.optimization import Optimizer, ascended
from cifar100_transfer.training.policies import STRENGTHS
from cifar100_transfer.training.steps import Engine
from tests.training.test_augmentation import CPU, collect
from tests.training.test_distributed import build as build_for_processes
from tests.training.test_loop import same_weights, tiny_run
from tests.training.test_resume import Killed
from tests.training.tiny import Sets, recipe, tiny_classifier, tiny_network


@pytest.fixture
def sets(make_image_set: Callable[..., ImageSet]) -> Sets:
    return (
        make_image_set(classes=6, per_class=8, size=8),
        make_image_set(classes=6, per_class=3, size=8, seed=1),
    )


def test_of_epochs_that_are_equally_good_the_first_is_kept(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.zeros(len(sets[1]), 6)
    monkeypatch.setattr(loop, "predict_logits", lambda *_: logits)
    first, longer = (tiny_run(sets, recipe(epochs=epochs)) for epochs in (1, 3))
    assert longer.best.epoch == 1
    assert same_weights(longer.classifier, first.classifier)


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
    assert f"is not used: {changed} was" in caplog.text


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


def test_ema_takes_the_weights_that_a_step_has_made(sets: Sets) -> None:
    changes = {"epochs": 1, "batch_size": 48}
    before = tiny_classifier(sets[0], recipe(**changes)).network.stem.weight.detach()
    plain, averaged = (
        tiny_run(sets, recipe(**changes, averaging=AveragingConfig(name=name)))
        for name in ("none", "ema")
    )
    expected = torch.lerp(before, plain.classifier.network.stem.weight.detach(), 0.9)
    torch.testing.assert_close(averaged.classifier.network.stem.weight.detach(), expected)


def test_the_mean_of_the_processes_gradients_is_the_batchs(
    make_image_set: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Muon, Adam and a clipped norm are blind to a common factor."""
    images = make_image_set(classes=6, per_class=8, size=12)
    classifier = build_for_processes(images)
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


def grey(count: int = 40, size: int = 8) -> ImageSet:
    """Images of one colour, so that whatever differs was drawn."""
    pixels = torch.full((count, 3, size, size), 128, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 5, ("a", "b", "c", "d", "e"))


def test_a_corruption_is_drawn_anew_in_every_batch_and_epoch() -> None:
    config = AugmentationConfig(corruption_share=1.0, corruptions=("gaussian_noise",))
    config = config.model_copy(update={"flip": False, "crop_padding": 0})
    batches = ResidentBatches(grey(), config, 8, CPU)
    seen = [
        image.numpy().tobytes()
        for epoch in (1, 2)
        for images, _ in batches.epoch(1, epoch)
        for image in images
    ]
    assert len(set(seen)) == len(seen) == 80


@pytest.mark.parametrize("kind", [{"noise_share": 1.0}, {"erasing_share": 1.0}])
def test_pixels_are_drawn_anew_in_every_epoch(kind: dict[str, float]) -> None:
    config = AugmentationConfig(flip=False, crop_padding=0, **kind)
    batches = ResidentBatches(grey(), config, 40, CPU)
    first, second = (
        to_unit(next(iter(batches.epoch(1, epoch)))[0]) - 128 / 255 for epoch in (1, 2)
    )
    changed = (first.abs() > 1e-3) & (second.abs() > 1e-3)
    assert int(changed.sum()) > 100
    agreeing = (first.sign() == second.sign())[changed].float().mean()
    assert float(agreeing) == pytest.approx(0.5, abs=0.1)


def test_kinds_choose_their_images_independently() -> None:
    """Of one generator, both would take the same half."""
    off = {"flip": False, "crop_padding": 0}
    plain = to_unit(collect(off, count=400)[0])
    noisy, erased = (
        (to_unit(collect(off | {kind: 0.5}, count=400)[0]) != plain).flatten(1).any(1)
        for kind in ("noise_share", "erasing_share")
    )
    # Binomial(400, 1/4) has a standard deviation of 8.7.
    assert abs(int((noisy & erased).sum()) - 100) < 40


@pytest.mark.parametrize(
    ("policy", "reference"),
    [
        ("rand_augment", v2.RandAugment._AUGMENTATION_SPACE),
        ("trivial_augment", v2.TrivialAugmentWide._AUGMENTATION_SPACE),
        ("augmix", v2.AugMix._PARTIAL_AUGMENTATION_SPACE),
    ],
)
def test_magnitude_1_is_what_torchvision_takes_for_the_most(policy: str, reference: dict) -> None:
    def most(name: str) -> float:
        return pytest.approx(float(reference[name][0](31, 32, 32)[-1]))

    strength = STRENGTHS[policy]
    found = strength.shear, 32 * strength.translate, strength.rotate
    assert found == (most("ShearX"), most("TranslateX"), most("Rotate"))
    if policy == "augmix":
        assert strength.bits == (4, 1)  # torchvision goes down to no bit, which is black
    else:
        assert (strength.enhance, strength.bits[1]) == (most("Brightness"), most("Posterize"))


def test_muon_and_adamw_decay_their_parameters_alike() -> None:
    network = tiny_network(5)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    config = OptimizerConfig(name="muon", learning_rate=0.1, weight_decay=0.5)
    optimizer = Optimizer(network, config)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), 0.95 * before[name], msg=name)
