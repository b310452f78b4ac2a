"""Accuracy under corruptions: rows, order, summary, and the choice of images."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from cifar100_transfer.config import RobustnessConfig, RobustnessMethod
from cifar100_transfer.data import ImageSet, stratified_subset
from cifar100_transfer.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation import figures
from cifar100_transfer.evaluation.adaptation import (
    Predictor,
    adapt_batch_norm,
    augmented,
    plain,
)
from cifar100_transfer.evaluation.robustness import (
    corruption_examples,
    measure_accuracy,
    measure_robustness,
    predictors_of,
    rank_source_weights,
    summarize_robustness,
)
from cifar100_transfer.models import (
    Classifier,
    ClassifierSpec,
    average_classifiers,
    mean_log_probabilities,
)
from tests.conftest import random_image_set
from tests.evaluation.test_adaptation import two_layers

SOME = ("gaussian_noise", "contrast", "saturate")


def by_colour(images: ImageSet) -> Predictor:
    """Classify by the nearest mean colour of a class: fast, and hurt by corruptions."""
    means = images.images.float().mean((2, 3))
    colours = torch.stack([means[images.labels == c].mean(0) for c in range(images.num_classes)])
    return lambda pixels: -torch.cdist(pixels.float().mean((2, 3)), colours)


def scored(correct: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Logits that are right where `correct`."""
    return torch.nn.functional.one_hot((labels + (~correct).long()) % classes, classes).float()


def test_every_cell_is_the_accuracy_on_that_corrupted_set(image_set: ImageSet) -> None:
    predict = by_colour(image_set)
    table = measure_robustness({"colour": predict}, image_set, "validation", 3, severities=(2, 5))
    assert list(table.columns) == ["set", "method", "corruption", "severity", "accuracy", "images"]
    assert list(zip(table["corruption"], table["severity"], strict=True)) == [
        (corruption, severity) for corruption in CORRUPTIONS for severity in (2, 5)
    ]
    assert set(table["set"]) == {"validation"}
    assert set(table["images"]) == {len(image_set)}
    for row in table[::5].itertuples():
        pixels = corrupt(image_set.images, row.corruption, row.severity, 3)
        hits = predict(pixels).argmax(1) == image_set.labels
        assert row.accuracy == pytest.approx(hits.double().mean().item())
    assert table["accuracy"].nunique() > 3


def test_images_are_corrupted_and_chosen_by_every_seed_that_is_allowed(
    image_set: ImageSet,
) -> None:
    seed = RobustnessConfig(seed=2**32 - 1).seed
    corrupt(stratified_subset(image_set, 10, seed).images, "shot_noise", 1, seed)
    with pytest.raises(ValidationError, match="seed"):
        RobustnessConfig(seed=2**32)


def test_rows_depend_on_neither_order_nor_company(image_set: ImageSet) -> None:
    predictors = {"colour": by_colour(image_set), "first": lambda p: torch.eye(6)[[0] * len(p)]}
    forwards = measure_robustness(predictors, image_set, "test", 0, SOME)
    backwards = measure_robustness(
        dict(reversed(predictors.items())), image_set, "test", 0, SOME[::-1], SEVERITIES[::-1]
    )
    keys = ["method", "corruption", "severity"]
    pd.testing.assert_frame_equal(
        forwards.sort_values(keys, ignore_index=True),
        backwards.sort_values(keys, ignore_index=True),
    )
    alone = measure_robustness({"colour": predictors["colour"]}, image_set, "test", 0, SOME[1:2])
    own = forwards[(forwards["method"] == "colour") & (forwards["corruption"] == SOME[1])]
    pd.testing.assert_frame_equal(own.reset_index(drop=True), alone)


def test_one_corrupted_set_is_judged_at_a_time(
    image_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    monkeypatch.setattr(
        "cifar100_transfer.evaluation.robustness.corrupt",
        lambda images, *key: events.append("corrupt") or images,
    )

    def predict(images: Tensor) -> Tensor:
        events.append("predict")
        return torch.zeros(len(images), 6)

    measure_robustness({"a": predict, "b": predict}, image_set, "test", 0, SOME)
    assert events == ["corrupt", "predict", "predict"] * len(SOME) * len(SEVERITIES)


def test_accuracy_counts_hits_and_refuses_nan(image_set: ImageSet) -> None:
    correct = torch.arange(len(image_set)) % 4 == 0
    logits = scored(correct, image_set.labels, 6)
    assert measure_accuracy({"a": lambda _: logits}, image_set) == {"a": 0.25}
    with pytest.raises(UserError, match="'a' predicts NaN"):
        measure_accuracy({"a": lambda _: logits / 0}, image_set)


@given(st.lists(st.floats(0, 1), min_size=95, max_size=95), st.floats(0, 1))
@settings(max_examples=30)
def test_a_summary_equals_numpys_means(accuracies: list[float], clean: float) -> None:
    table = pd.DataFrame(
        [(c, s) for c in CORRUPTIONS for s in SEVERITIES], columns=["corruption", "severity"]
    ).assign(accuracy=accuracies)
    summary = summarize_robustness(table.sample(frac=1, random_state=0), clean)
    grid = np.array(accuracies).reshape(19, 5)
    assert summary["clean_accuracy"] == clean
    assert summary["mean_corruption_accuracy"] == pytest.approx(grid.mean())
    assert summary["drop"] == pytest.approx(clean - grid.mean())
    assert summary["per_corruption"] == pytest.approx(
        dict(zip(CORRUPTIONS, grid.mean(axis=1), strict=True))
    )


def test_a_summary_refuses_two_methods_or_gaps(image_set: ImageSet) -> None:
    predict = by_colour(image_set)
    table = measure_robustness({"a": predict, "b": predict}, image_set, "test", 0, SOME)
    for rows in (table, table[table["method"] == "a"].iloc[1:]):
        with pytest.raises(UserError, match="once at every severity"):
            summarize_robustness(rows, 1.0)


def test_methods_without_batch_norm_are_left_out() -> None:
    spec = ClassifierSpec("simple_cnn", ("a", "b"), (0.5,) * 3, (0.2,) * 3, (8, 8))
    methods = ("plain", "batch_norm", "tta", "batch_norm_tta")
    assert list(predictors_of(Classifier(spec), methods, None)) == ["plain", "tta"]
    assert list(predictors_of(two_layers(), methods, 0.5)) == list(methods)
    with pytest.raises(UserError, match="add plain"):
        predictors_of(Classifier(spec), ["batch_norm"], None)


def test_all_views_are_classified_by_one_adaptation_to_the_images_as_they_are() -> None:
    images = random_image_set(classes=4, per_class=8, size=8).images
    adapted = adapt_batch_norm(two_layers(), images, 0.25)
    predict = predictors_of(two_layers(), ["batch_norm_tta"], 0.25)["batch_norm_tta"]
    expected = augmented(plain(adapted))
    torch.testing.assert_close(predict(images), expected(images))


@pytest.mark.parametrize("method", ["plain", "batch_norm", "tta", "batch_norm_tta"])
def test_an_ensemble_says_the_mean_of_its_members_by_every_method(
    method: RobustnessMethod,
) -> None:
    images = random_image_set(classes=4, per_class=8, size=16).images
    torch.manual_seed(0)
    spec = ClassifierSpec("express_small", tuple("abcd"), (0.5,) * 3, (0.2,) * 3, (16, 16))
    adapted = [Classifier(spec).eval() for _ in range(2)]
    without = Classifier(replace(spec, architecture="simple_cnn")).eval()
    ensemble = average_classifiers([*adapted, without], {})
    said = [predictors_of(one, [method], 0.25)[method](images) for one in adapted]
    alone = "tta" if method.endswith("tta") else "plain"
    said.append(predictors_of(without, [alone], None)[alone](images))
    found = predictors_of(ensemble, [method], 0.25)[method](images)
    wanted = mean_log_probabilities(said)
    torch.testing.assert_close(found.softmax(1), wanted.softmax(1), rtol=1e-4, atol=1e-5)


def test_weights_are_ranked_by_the_mean_over_all_corruptions(
    image_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cifar100_transfer.evaluation.robustness.corrupt",
        lambda images, corruption, severity, seed: images // (severity + len(corruption) % 3),
    )
    images = random_image_set(classes=4, per_class=8, size=8)
    classifier = two_layers()
    ranked = rank_source_weights(classifier, images, (0.0, 0.5, 1.0), seed=0)
    assert set(ranked) == {0.0, 0.5, 1.0}
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)
    unadapted = measure_robustness(predictors_of(classifier, ["plain"], None), images, "v", 0)
    assert ranked[1.0] == pytest.approx(unadapted["accuracy"].mean())
    spec = ClassifierSpec("simple_cnn", image_set.class_names, (0.5,) * 3, (0.2,) * 3, (12, 12))
    assert rank_source_weights(Classifier(spec), image_set, (0.0, 0.5), 0) == {}


def test_figures_are_drawn(image_set: ImageSet) -> None:
    predict = by_colour(image_set)
    table = measure_robustness(
        {"plain": predict, "batch_norm": predict}, image_set, "test", 0, SOME
    )
    figure = figures.robustness_heat_map(table, "Corrupted")
    numbers = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {f"{100 * accuracy:.1f}" for accuracy in table["accuracy"]} == numbers
    examples = corruption_examples(image_set.images[0], seed=0)
    assert examples.shape == (19, 5, 3, 12, 12)
    assert torch.equal(examples[3, 1], corrupt(image_set.images, CORRUPTIONS[3], 2, 0)[0])
    grid = figures.corruption_grid(examples, CORRUPTIONS, SEVERITIES, "Corruptions")
    assert len(grid.axes[0].images) == 95
