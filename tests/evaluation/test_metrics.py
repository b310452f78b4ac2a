"""Every metric against scikit-learn, torchmetrics or a slow reference, on random predictions."""

import math
import warnings
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from cifar100_transfer.data import Predictions
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation.metrics import (
    calibration_table,
    classification_metrics,
    confusion_counts,
    expected_calibration_error,
    fit_temperature,
    holm,
    mcnemar,
    most_confused_pairs,
    per_class_table,
    time_to_accuracy,
    top_k_accuracy,
    wilson_interval,
    with_temperature,
)


def make(logits: torch.Tensor, labels: torch.Tensor, groups: int = 0) -> Predictions:
    classes = logits.shape[1]
    return Predictions(
        logits,
        labels,
        tuple(f"class_{k}" for k in range(classes)),
        tuple(f"group_{k}" for k in range(groups)),
        tuple(k % groups for k in range(classes)) if groups else (),
    )


@st.composite
def predictions_of_any_kind(draw: st.DrawFn) -> Predictions:
    """One image or many, one class or many, absent classes, and ties from integer logits."""
    images, classes = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    occurring = draw(st.integers(1, classes))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = random.normal(size=(images, classes)) * draw(st.sampled_from([0.0, 0.5, 3.0, 60.0]))
    if draw(st.booleans()):
        logits = logits.round()
    labels = random.integers(0, occurring, size=images)
    return make(
        torch.tensor(logits, dtype=torch.float32),
        torch.tensor(labels),
        groups=draw(st.integers(0, classes)),
    )


@given(predictions_of_any_kind())
@settings(max_examples=80)
def test_metrics_equal_their_references(predictions: Predictions) -> None:
    logits, labels = predictions.logits.numpy(), predictions.labels.numpy()
    classes, images = logits.shape[1], len(labels)
    predicted = [max(range(classes), key=lambda k: (row[k], -k)) for row in logits]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning of a library would reach every user
        got = classification_metrics(predictions)

    assert got["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_probabilities[np.arange(images), labels].mean()
    assert got["loss"] == pytest.approx(loss, rel=1e-9, abs=1e-12)
    top5 = [
        label in sorted(range(classes), key=lambda k: (-row[k], k))[:5]
        for row, label in zip(logits, labels, strict=True)
    ]
    assert got["top5_accuracy"] == pytest.approx(np.mean(top5))
    f1 = sklearn_metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    assert got["macro_f1"] == pytest.approx(f1)
    assert got["ece"] == pytest.approx(slow_calibration_error(predictions, 15), abs=1e-9)
    if predictions.has_hierarchy:
        group = np.array(predictions.coarse_of_class)
        assert got["coarse_accuracy"] == pytest.approx(np.mean(group[labels] == group[predicted]))
    else:
        assert "coarse_accuracy" not in got
    assert got["accuracy_low"] <= got["accuracy"] <= got["accuracy_high"]
    assert all(0 <= value <= 1 for key, value in got.items() if key != "loss")
    assert all(type(value) is float for value in got.values())


def slow_calibration_error(predictions: Predictions, bins: int) -> float:
    """Guo et al. 2017, equations 2 and 3, image by image: bin m holds ((m - 1) / M, m / M]."""
    edges = np.linspace(0, 1, bins + 1)
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, correct in zip(predictions.confidence, predictions.correct, strict=True):
        m = next(m for m in range(bins) if float(confidence) <= edges[m + 1] or m == bins - 1)
        members[m].append((float(confidence), bool(correct)))
    return sum(
        abs(sum(c for c, _ in part) - sum(hit for _, hit in part)) / len(predictions)
        for part in members
    )


def test_calibration_error_equals_torchmetrics_away_from_the_edges() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 10, generator=random) * 2
    predictions = make(logits, torch.randint(0, 10, (2000,), generator=random))

    reference = multiclass_calibration_error(
        predictions.probabilities, predictions.labels, num_classes=10, n_bins=15
    )

    assert expected_calibration_error(predictions) == pytest.approx(float(reference), abs=1e-5)


def test_top_k_equals_sklearn_without_ties() -> None:
    random = torch.Generator().manual_seed(0)
    predictions = make(
        torch.randn(300, 20, generator=random), torch.randint(0, 20, (300,), generator=random)
    )

    for k in (1, 2, 5, 19):
        reference = sklearn_metrics.top_k_accuracy_score(
            predictions.labels, predictions.logits, k=k, labels=range(20)
        )
        assert top_k_accuracy(predictions, k) == pytest.approx(reference)
    assert top_k_accuracy(predictions, 20) == 1


@given(predictions_of_any_kind())
@settings(max_examples=30)
def test_top_1_is_accuracy_even_with_ties(predictions: Predictions) -> None:
    assert top_k_accuracy(predictions, 1) == float(predictions.correct.double().mean())


@given(predictions_of_any_kind())
@settings(max_examples=30)
def test_tables_of_classes_equal_their_references(predictions: Predictions) -> None:
    labels, predicted = predictions.labels.tolist(), predictions.predicted.tolist()
    names, classes = predictions.class_names, predictions.num_classes
    counts = Counter(zip(labels, predicted, strict=True))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = confusion_counts(predictions.labels, predictions.predicted, classes)
        table = per_class_table(predictions)
        pairs = most_confused_pairs(predictions, limit=7)

    assert got.dtype == np.int64
    assert got.shape == (classes, classes)
    assert {key: got[key] for key in zip(*np.nonzero(got), strict=True)} == dict(counts)
    assert table["class"].tolist() == list(names)
    for k, row in enumerate(table.to_dict("records")):
        hits, support, said = counts[k, k], labels.count(k), predicted.count(k)
        assert row["support"] == support
        assert row["recall"] == pytest.approx(hits / support if support else math.nan, nan_ok=True)
        assert row["precision"] == pytest.approx(hits / said if said else math.nan, nan_ok=True)
        either = support + said
        assert row["f1"] == pytest.approx(2 * hits / either if either else math.nan, nan_ok=True)
        wrong = {j: counts[k, j] for j in range(classes) if j != k and counts[k, j]}
        worst = max(wrong, key=lambda j: (wrong[j], -j)) if wrong else None
        assert row["mistaken_for"] == (names[worst] if worst is not None else "")
        assert row["mistaken_count"] == (wrong[worst] if worst is not None else 0)
        if predictions.has_hierarchy:
            assert row["coarse_class"] == f"group_{predictions.coarse_of_class[k]}"
        else:
            assert row["coarse_class"] == ""
    mistakes = [(-n, t, p) for (t, p), n in counts.items() if t != p]
    assert pairs.to_dict("records") == [
        {"true": names[t], "predicted": names[p], "count": -n, "share": -n / labels.count(t)}
        for n, t, p in sorted(mistakes)[:7]
    ]
    assert list(pairs) == ["true", "predicted", "count", "share"]


@given(predictions_of_any_kind(), st.integers(1, 20))
@settings(max_examples=30)
def test_calibration_table_holds_every_image_once(predictions: Predictions, bins: int) -> None:
    table = calibration_table(predictions, bins)

    assert len(table) == bins
    assert table["count"].sum() == len(predictions)
    filled = table[table["count"] > 0]
    assert (filled["confidence"] > filled["lower"] - 1e-6).all()
    assert (filled["confidence"] <= filled["upper"] + 1e-6).all()
    assert table["accuracy"].isna().tolist() == (table["count"] == 0).tolist()
    hits = (filled["accuracy"] * filled["count"]).sum()
    assert hits == pytest.approx(int(predictions.correct.sum()))


def test_confidence_on_an_edge_lies_in_the_lower_bin() -> None:
    table = calibration_table(make(torch.zeros(1, 2), torch.tensor([0])), bins=2)

    assert table["count"].tolist() == [1, 0]


def test_certain_predictions_lie_in_the_last_bin() -> None:
    predictions = make(torch.tensor([[0.0, 500.0], [500.0, 0.0]]), torch.tensor([1, 1]))

    assert calibration_table(predictions)["count"].tolist() == [0] * 14 + [2]
    assert expected_calibration_error(predictions) == pytest.approx(0.5)


@given(st.integers(0, 500), st.integers(1, 500), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_interval_is_where_the_score_test_turns(
    correct: int, total: int, confidence: float
) -> None:
    correct = min(correct, total)
    low, high = wilson_interval(correct, total, confidence)

    z = stats.norm.ppf(0.5 + confidence / 2)
    share = correct / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + (z / 2 / total) ** 2)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_wilson_interval_of_the_literature() -> None:
    # Newcombe (1998), table I: 81 of 263 and 0 of 20, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def loss(predictions: Predictions) -> float:
    return classification_metrics(predictions)["loss"]


@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 2.5, 8.0])
def test_temperature_is_recovered(true_temperature: float) -> None:
    random = torch.Generator().manual_seed(1)
    calibrated = torch.randn(20_000, 10, generator=random) * 2
    labels = torch.multinomial(calibrated.softmax(1), 1, generator=random).squeeze(1)

    found = fit_temperature(make(calibrated * true_temperature, labels))

    assert found == pytest.approx(true_temperature, rel=0.05)


@given(predictions_of_any_kind())
@settings(max_examples=30)
def test_temperature_never_makes_the_loss_larger(predictions: Predictions) -> None:
    temperature = fit_temperature(predictions)

    assert 0.01 <= temperature <= 100
    assert type(temperature) is float
    best = loss(with_temperature(predictions, temperature))
    for other in (0.02, 0.2, 0.9, 1.0, 1.1, 5.0, 90.0):
        assert best <= loss(with_temperature(predictions, other)) + 1e-4 * max(1, best)


def test_temperature_of_uninformative_logits_is_one() -> None:
    assert fit_temperature(make(torch.zeros(5, 3), torch.tensor([0, 1, 2, 0, 1]))) == 1


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_temperature_that_is_none(temperature: float) -> None:
    with pytest.raises(UserError, match="temperature"):
        with_temperature(make(torch.zeros(1, 2), torch.tensor([0])), temperature)


def outcomes(both: int, only_a: int, only_b: int, neither: int) -> tuple[torch.Tensor, ...]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return torch.tensor(a, dtype=torch.bool), torch.tensor(b, dtype=torch.bool)


@given(st.integers(0, 24), st.integers(0, 24))
def test_mcnemar_is_exact_for_few_differences(b: int, c: int) -> None:
    b, c = min(b, c), min(c, 24 - min(b, c))
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n

    got = mcnemar(*outcomes(10, b, c, 10))

    assert (got["b"], got["c"]) == (b, c)
    assert got["p_value"] == pytest.approx(min(1.0, 2 * tail))


@given(st.lists(st.floats(0, 1), max_size=8))
def test_corrected_p_values_keep_their_order_and_grow(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(
        p <= one <= min(1, len(p_values) * p) for p, one in zip(p_values, corrected, strict=True)
    )
    assert [corrected[i] for i in sorted(range(len(p_values)), key=p_values.__getitem__)] == sorted(
        corrected
    )


def test_holm_steps_down() -> None:
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04, which is not below the one before.
    assert holm([0.03, 0.01, 0.04, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])


@pytest.mark.parametrize(
    ("b", "c", "p_value"),
    [
        # Agresti (1990), page 350: z-squared 34.71 without, 34.12 with the correction.
        (150, 86, 1 - stats.chi2.cdf(63**2 / 236, 1)),
        (20, 20, 1.0),
        (0, 25, 1 - stats.chi2.cdf(24**2 / 25, 1)),
    ],
)
def test_mcnemar_uses_chi_square_for_many(b: int, c: int, p_value: float) -> None:
    assert mcnemar(*outcomes(3, b, c, 0))["p_value"] == pytest.approx(p_value, rel=1e-6)


def test_mcnemar_refuses_different_numbers_of_images() -> None:
    with pytest.raises(UserError, match="same images"):
        mcnemar(torch.ones(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool))


@pytest.mark.parametrize(
    "function",
    [classification_metrics, per_class_table, calibration_table, fit_temperature],
)
def test_leaves_the_predictions_as_they_are(function: Callable[[Predictions], object]) -> None:
    predictions = make(torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]), groups=2)
    before = predictions.logits.clone(), predictions.labels.clone()

    function(predictions)

    assert torch.equal(predictions.logits, before[0])
    assert torch.equal(predictions.labels, before[1])


def course(accuracies: list[float], seconds: float) -> pd.DataFrame:
    epochs = range(1, len(accuracies) + 1)
    return pd.DataFrame({"epoch": epochs, "validation_accuracy": accuracies, "seconds": seconds})


def test_time_to_accuracy_counts_until_the_accuracy_is_first_reached() -> None:
    table = time_to_accuracy(
        {"slow": course([0.1, 0.3, 0.3], 10.0), "quick": course([0.2, 0.35, 0.3], 4.0)}
    )

    quick, slow = table.to_dict("records")
    assert quick == {
        "reference": "slow",
        "accuracy": 0.3,
        "reference_epochs": 2,
        "reference_seconds": 20,
        "model": "quick",
        "epochs": 2,
        "seconds": 8,
        "speedup": 2.5,
    }
    assert slow["reference"] == "quick"
    assert math.isnan(slow["epochs"])
    assert math.isnan(slow["seconds"])
    assert math.isnan(slow["speedup"])


def test_time_to_accuracy_of_one_model_is_an_empty_table() -> None:
    table = time_to_accuracy({"only": course([0.5], 1.0)})

    assert table.empty
    assert next(iter(table)) == "reference"


def test_the_number_of_bins_decides_the_calibration_error() -> None:
    # Half right at confidence 0.6, all right at 0.9: apart by 0.1 each, but joined by 0.
    confidence = torch.tensor([0.6, 0.6, 0.9, 0.9])
    probabilities = torch.stack([confidence, 1 - confidence], dim=1)
    predictions = Predictions(probabilities.log(), torch.tensor([0, 1, 0, 0]), ("a", "b"))
    assert expected_calibration_error(predictions, bins=10) == pytest.approx(0.1)
    assert expected_calibration_error(predictions, bins=1) == pytest.approx(0.0, abs=1e-6)


def test_a_temperature_divides_the_logits_and_nothing_else() -> None:
    predictions = Predictions(torch.tensor([[2.0, 1.0]]), torch.tensor([1]), ("a", "b"))
    cooled = with_temperature(predictions, 0.5)
    assert torch.equal(cooled.logits, torch.tensor([[4.0, 2.0]]))
    assert torch.equal(cooled.labels, predictions.labels)
