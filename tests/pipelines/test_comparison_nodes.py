"""Nodes of the comparison by themselves: how rows are named, and which pairs are tested."""

import logging
import warnings
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from cifar100_transfer.config import ComparisonConfig
from cifar100_transfer.data import Predictions
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.comparison.nodes import (
    compare_models,
    compare_pairs,
    draw_overlaid_curves,
    measure_time_to_accuracy,
)
from tests.conftest import random_image_set

RUN = "2024-01-01T10.00.00"


def result(model: str, run: str, predictions: Predictions | None) -> dict[str, Any]:
    history = pd.DataFrame({"epoch": [1], "validation_accuracy": [0.5], "seconds": [1.0]})
    judged = (lambda: predictions) if predictions else None
    summary = {"device": "cpu", "validation_images": 10}
    return {
        "metrics": {"classifier": "its own"},
        **{"model": model, "run": run, "history": history, "predictions": judged},
        "summary": summary,
    }


def predictions(labels: list[int]) -> Predictions:
    return Predictions(torch.eye(2), torch.tensor(labels), ("x", "y"))


def table(results: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([{"model": r["model"], "run": r["run"]} for r in results])


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        ((f"{RUN}.001Z", "2024-01-02T10.00.00.001Z"), (f"a {RUN}", "a 2024-01-02T10.00.00")),
        ((f"{RUN}.001Z", f"{RUN}.002Z"), (f"a {RUN}.001Z", f"a {RUN}.002Z")),
    ],
)
def test_runs_of_one_model_are_told_apart(runs: tuple[str, str], names: tuple[str, str]) -> None:
    results = [result("a", run, predictions([0, 1])) for run in runs]
    (pair,) = compare_pairs(results, table(results)).to_dict("records")
    assert (pair["first"], pair["second"]) == names
    axes = draw_overlaid_curves(results, table(results)).axes[0]
    assert axes.get_legend_handles_labels()[1] == list(names)


def test_what_is_left_out_of_the_pairs_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    here, elsewhere = (
        replace(predictions([0, 1]), image_set=images, classifier="its own")
        for images in ("here", "elsewhere")
    )
    results = [
        result("a", RUN, here),
        result("b", RUN, predictions([1, 1])),
        result("c", RUN, None),
        result("d", RUN, elsewhere),
        result("e", RUN, replace(here, classifier="another's")),
    ]
    with caplog.at_level(logging.INFO):
        assert compare_pairs(results, table(results)).empty
    assert caplog.messages == [
        "'c' has no stored predictions: its pairs are not tested",
        "'e' has stored predictions of another classifier: its pairs are not tested",
        "'a' and 'b' were judged on different images: the pair is not tested",
        "'a' and 'd' were judged on different images: the pair is not tested",
        "'b' and 'd' were judged on different images: the pair is not tested",
    ]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"device": "cuda"}, "had other devices"),
        ({"hardware": "another GPU"}, "had other devices"),
        ({"devices": 2}, "had other devices"),
        ({"validation_images": 20}, "had other validation images"),
        ({"recipe": {"validation_images": "5e1f"}}, "had other validation images"),
    ],
)
def test_times_are_compared_under_equal_conditions_only(
    other: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    results = [result(name, RUN, None) for name in ("a", "b", "c")]
    results[1]["summary"] = {**results[1]["summary"], **other}

    with caplog.at_level(logging.INFO):
        times = measure_time_to_accuracy(results, table(results))

    assert list(zip(times["reference"], times["model"], strict=True)) == [("a", "c"), ("c", "a")]
    assert times.index.tolist() == [0, 1]
    assert caplog.messages == [
        f"'a' and 'b' {said}: their times are not compared",
        f"'b' and 'c' {said}: their times are not compared",
    ]


def test_a_table_without_pairs_keeps_its_columns() -> None:
    alone = [result("a", RUN, None)]
    different = [*alone, result("b", RUN, None)]
    different[1]["summary"] = {"device": "cuda", "validation_images": 10}
    for results in (alone, different):
        times = measure_time_to_accuracy(results, table(results))
        assert times.empty
        assert {"reference", "accuracy", "model", "seconds", "speedup"} <= set(times)


def test_an_ensemble_has_no_part_in_times_and_curves() -> None:
    together = {**result("ensemble", RUN, None), "history": None}
    trained = [result("a", RUN, None), result("b", RUN, None)]
    results = [*trained, together]
    times = measure_time_to_accuracy(results, table(results))
    assert set(times["model"]) == {"a", "b"}
    axes = draw_overlaid_curves(results, table(results)).axes[0]
    assert axes.get_legend_handles_labels()[1] == ["a", "b"]
    with warnings.catch_warnings(action="error"):
        alone = draw_overlaid_curves([together], table([together]))
    assert not any(axes.lines for axes in alone.axes)


TEST_SET = random_image_set(classes=2, per_class=2, size=4)


def judged(model: str, accuracy: float, run: str = RUN, **metrics_too: str) -> dict[str, Any]:
    parts = {"test": accuracy / 2, "validation": 0.0}
    plain = {part: {"mean_corruption_accuracy": share} for part, share in parts.items()}
    shares = {"train_accuracy": 0.9, "validation_accuracy": 0.6, "test_accuracy": accuracy}
    return {
        **{"model": model, "run": run, "metrics": {**shares, **metrics_too}, "summary": {}},
        **{"manifest": None, "robustness": {"methods": {"plain": plain}}},
    }


def test_models_stand_by_their_test_accuracy_with_their_gaps() -> None:
    results = [judged("a", 0.25), judged("b", 0.75, "2023"), judged("b", 0.5)]
    rows = compare_models(results, ComparisonConfig(), TEST_SET)
    assert rows["model"].tolist() == ["b", "a"]
    assert rows["train_test_gap"].tolist() == pytest.approx([0.4, 0.65])
    assert rows["train_validation_gap"].tolist() == pytest.approx([0.3, 0.3])
    assert rows["validation_test_gap"].tolist() == pytest.approx([0.1, 0.35])
    assert rows["corrupted_accuracy"].tolist() == [0.25, 0.125]
    every = compare_models(results, ComparisonConfig(all_runs=True), TEST_SET)
    assert every["test_accuracy"].tolist() == [0.75, 0.5, 0.25]


def test_models_are_ranked_by_the_same_test_images_only(caplog: pytest.LogCaptureFixture) -> None:
    here, elsewhere = TEST_SET.digest(), random_image_set(2, 2, size=4, seed=1).digest()
    results = [
        judged("a", 0.5, test_set=here),
        judged("b", 0.9, test_set=elsewhere),
        judged("c", 0.4, "2023", test_set=here),
        judged("c", 0.8, test_set=elsewhere),  # newer, and of other data
        judged("d", 0.3),  # of an earlier release
    ]
    rows = compare_models(results, ComparisonConfig(), TEST_SET)
    assert rows["model"].tolist() == ["a", "c", "d"]
    assert rows["test_accuracy"].tolist() == [0.5, 0.4, 0.3]
    assert [message.split(":")[0] for message in caplog.messages] == [
        "'b' was judged on other test images than the stored ones and is left out"
    ]
    with pytest.raises(UserError, match="no model has results on the stored test images"):
        compare_models([results[1]], ComparisonConfig(), TEST_SET)
    with pytest.raises(UserError, match="no model has results yet"):
        compare_models([], ComparisonConfig(), TEST_SET)


def test_a_pair_says_which_of_the_two_was_right_more_often() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    said = {"a": [0, 0, 0, 0], "b": [0, 1, 1, 1]}  # two that only a, one that only b got right
    results = [
        result(name, RUN, Predictions(torch.eye(2)[classes], labels, ("x", "y")))
        for name, classes in said.items()
    ]
    (pair,) = compare_pairs(results, table(results)).to_dict("records")
    assert (pair["first"], pair["first_only"], pair["second_only"]) == ("a", 2, 1)
    assert pair["accuracy_difference"] == 0.25
    assert pair["p_corrected"] == pair["p_value"]


def test_different_numbers_of_training_images_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    results = [judged(name, 0.5, test_set=None) for name in ("a", "b", "c")]
    for result, count in zip(results, (600, 200, None), strict=True):
        result["summary"]["train_images"] = count
    compare_models(results[::2], ComparisonConfig(), TEST_SET)
    assert not caplog.messages
    table = compare_models(results, ComparisonConfig(), TEST_SET)
    assert table["train_images"].fillna(0).tolist() == [600, 200, 0]
    (message,) = caplog.messages
    assert message.endswith("by their recipes alone: a on 600, b on 200")


def test_corrupted_images_of_another_judgement_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    results = [judged(name, 0.5) for name in ("a", "b", "c")]
    for one, seed in zip(results, (0, 0, 3), strict=True):
        one["robustness"] |= {"test_images": 20, "seed": seed}
    compare_models(results[:2], ComparisonConfig(), TEST_SET)
    assert not caplog.messages
    table = compare_models(results, ComparisonConfig(), TEST_SET)
    assert table["corrupted_images"].tolist() == [20, 20, 20]
    (message,) = caplog.messages
    assert message.endswith("compared: a, 20 of seed 0, b, 20 of seed 0, c, 20 of seed 3")


def test_pairs_are_corrected_for_their_number() -> None:
    labels = torch.zeros(40, dtype=torch.int64)
    said = {"a": 0, "b": 8, "c": 9}  # the number of mistakes
    results = [
        result(name, RUN, Predictions(torch.eye(2)[(labels + 1) * mistaken], labels, ("x", "y")))
        for name, mistakes in said.items()
        for mistaken in [(torch.arange(40) < mistakes).long()]
    ]
    pairs = compare_pairs(results, table(results))
    assert pairs["p_value"].tolist() == pytest.approx([2 / 2**8, 2 / 2**9, 1.0])
    assert pairs["p_corrected"].tolist() == pytest.approx([4 / 2**8, 6 / 2**9, 1.0])
