"""Bugs that raise no error, planted one by one: each is warned of, or refused."""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cifar100_transfer.config import (
    AugmentationConfig,
    ComputeConfig,
    ModelConfig,
    OptimizerConfig,
    SplitConfig,
    TrainingConfig,
)
from cifar100_transfer.data import ImageSet, count_copies, stratified_split
from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation.suspicion import warn_of_gap
from cifar100_transfer.models import Classifier
from cifar100_transfer.pipelines.evaluation.nodes import compute_metrics, predict_set
from cifar100_transfer.pipelines.ingestion.nodes import compute_normalization, split_images
from cifar100_transfer.pipelines.training.nodes import train_classifier
from cifar100_transfer.training import EpochRecord, build_classifier
from cifar100_transfer.training.suspicion import warn_at_chance
from tests.conftest import random_image_set

CPU = ComputeConfig(device="cpu")
RECIPE = TrainingConfig(
    epochs=3,
    batch_size=25,
    optimizer=OptimizerConfig(learning_rate=0.01),
    augmentation=AugmentationConfig(crop_padding=0),
)


def raw_images(seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Eight classes, each of a colour of its own."""
    return (
        random_image_set(classes=8, per_class=80, size=8, seed=seed),
        random_image_set(classes=8, per_class=80, size=8, seed=seed + 1),
    )


def shuffled(images: ImageSet) -> ImageSet:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return replace(images, labels=images.labels[order])


def run(
    tmp_path: Path,
    raw: tuple[ImageSet, ImageSet],
    before_test: Callable[[Classifier, ImageSet], ImageSet] = lambda _, images: images,
) -> dict[str, float]:
    """Ingest, train and judge as the pipelines do, with bugs in between."""
    train_set, validation_set, test_set = split_images(raw, SplitConfig(validation_share=0.5))
    classifier, _, summary = train_classifier(
        train_set,
        validation_set,
        compute_normalization(train_set),
        ModelConfig(architecture="simple_cnn", dropout=0.9),
        RECIPE,
        CPU,
        tmp_path,
        name="simple_cnn",
    )
    trained = copy.deepcopy(classifier)
    test_set = before_test(classifier, test_set)
    predictions = predict_set(classifier, test_set, CPU)
    return compute_metrics(predictions, {"temperature": 1.0}, summary, trained, test_set)


def test_a_sound_run_warns_of_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = run(tmp_path, raw_images())
    assert metrics["test_accuracy"] > 0.8
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_shuffled_labels_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, test = raw_images()
    run(tmp_path, (shuffled(train), test))
    assert "simple_cnn: validation accuracy is" in caplog.text
    assert "no better than guessing (12.5 %)" in caplog.text


def swap_channels(_: Classifier, images: ImageSet) -> ImageSet:
    return images.with_images(images.images.flip(1))


def forget_to_normalise(classifier: Classifier, images: ImageSet) -> ImageSet:
    classifier.preprocess = lambda batch, *_: batch.float()  # type: ignore[method-assign]
    return images


def permute_the_head(classifier: Classifier, images: ImageSet) -> ImageSet:
    with torch.no_grad():
        head = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][
            -1
        ]
        head.weight.copy_(head.weight.roll(1, 0))
        head.bias.copy_(head.bias.roll(1, 0))
    return images


def judge_in_training_mode(classifier: Classifier, images: ImageSet) -> ImageSet:
    classifier.train()
    classifier.eval = lambda: classifier  # type: ignore[method-assign]
    return images


@pytest.mark.parametrize(
    "bug",
    [
        swap_channels,
        forget_to_normalise,
        judge_in_training_mode,
        lambda _, images: shuffled(images),
    ],
)
def test_test_images_that_are_treated_otherwise_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bug: Callable[..., ImageSet]
) -> None:
    run(tmp_path, raw_images(), before_test=bug)
    assert "which chance does not explain" in caplog.text


def test_a_classifier_that_is_changed_before_it_is_judged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="predictions are another classifier's"):
        run(tmp_path, raw_images(), before_test=permute_the_head)


def test_normalising_twice_is_seen_in_what_the_network_sees() -> None:
    # Accuracy may not suffer from it: to a network of one layer it is but another scale.
    train_set, _, _ = split_images(raw_images(), SplitConfig())
    classifier = build_classifier(
        train_set,
        compute_normalization(train_set),
        ModelConfig(architecture="simple_cnn"),
        RECIPE,
    )

    def is_standard(seen: torch.Tensor) -> bool:
        std, mean = torch.std_mean(seen, dim=(0, 2, 3), correction=0)
        return torch.allclose(mean, torch.zeros(3), atol=1e-4) and torch.allclose(
            std, torch.ones(3), atol=1e-4
        )

    seen = classifier.preprocess(train_set.images)
    assert is_standard(seen)
    assert is_standard(classifier.preprocess(train_set.images / 255))
    assert not is_standard(classifier.preprocess(seen))
    assert not is_standard(train_set.images.float())


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    def rename(_: Classifier, images: ImageSet) -> ImageSet:
        return replace(images, class_names=images.class_names[::-1])

    with pytest.raises(UserError, match="trained on other classes"):
        run(tmp_path, raw_images(), before_test=rename)


def test_training_images_among_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    train, test = raw_images()
    known = torch.arange(len(test))
    known[:3] = 0
    copied = test.subset(known)
    copied.images[:2] = train.images[5]
    assert count_copies(copied, train) == 2
    assert count_copies(train, copied) == 1
    assert count_copies(test, train) == 0
    images = torch.cat([train.images, train.images])
    doubled = replace(train, images=images, labels=torch.cat([train.labels, train.labels]))
    split_images((doubled, copied), SplitConfig())
    assert "of 256 validation images are exact copies of training images" in caplog.text
    assert "2 of 640 test images are exact copies of training images" in caplog.text


@pytest.mark.parametrize(
    ("epoch", "accuracy", "warns"),
    [(3, 0.01, True), (3, 0.0, True), (3, 0.0399, False), (2, 0.01, False), (4, 0.01, False)],
)
def test_guessing_is_told_from_learning_slowly(
    caplog: pytest.LogCaptureFixture, epoch: int, accuracy: float, warns: bool
) -> None:
    # 100 classes and 100 images: one standard deviation is just under one point.
    warn_at_chance(EpochRecord(epoch, 1.0, 0.5, 1.0, accuracy, 0.1, 1.0, 1.0), "m", 100, 100)
    assert bool(caplog.records) == warns


@pytest.mark.parametrize(
    ("validation", "warns"),
    # The seed report's figures, whose validation images were augmented; then those of clean ones.
    [(0.3361, True), (0.377, False)],
)
def test_a_gap_that_chance_does_not_explain_is_told_from_noise(
    caplog: pytest.LogCaptureFixture, validation: float, warns: bool
) -> None:
    warn_of_gap(0.3726, 10_000, validation, 10_000)
    assert bool(caplog.records) == warns


@pytest.mark.real_data
def test_exact_copies_among_the_official_images(real_data: Path) -> None:
    train, test = read_cifar100(real_data)
    assert count_copies(test, train) == 10
    train_set, validation_set = stratified_split(train, 0.2, seed=0)
    assert count_copies(validation_set, train_set) == 1
