"""Numbers that judge a classifier: pure functions of its predictions.

Ties are resolved in one way throughout: of equal logits, counts or shares the class with the
smaller index comes first. (So a top-1 and a top-k hit agree, which they don't in
`sklearn.metrics.top_k_accuracy_score`: that prefers the larger index.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, chi2
from sklearn.metrics import f1_score, precision_recall_fscore_support
from torch.nn.functional import cross_entropy

from cifar100_transfer.data import Predictions
from cifar100_transfer.errors import UserError

# Fifteen bins are what Guo et al. (2017) report and what most papers since compare with.
CALIBRATION_BINS = 15
TEMPERATURE_RANGE = (0.01, 100.0)


def classification_metrics(predictions: Predictions) -> dict[str, float]:
    """Compute the metrics every model is reported with.

    Args:
        predictions: of N images and C classes.

    Returns:
        `accuracy`, `top5_accuracy` (top C where C is under 5), `loss` (mean cross-entropy in nats),
        `macro_f1` (mean over the classes that occur among labels or predictions, as scikit-learn
        defines it), `ece` (expected calibration error, see `calibration_table`), `accuracy_low`
        and `accuracy_high` (Wilson interval, 95 %), and `coarse_accuracy` where the classes have a
        hierarchy: a fine prediction counts if it lies in the right coarse class. All but `loss`
        are fractions in [0, 1].
    """
    correct = int(predictions.correct.sum())
    low, high = wilson_interval(correct, len(predictions))
    metrics = {
        "accuracy": correct / len(predictions),
        "top5_accuracy": top_k_accuracy(predictions, 5),
        "loss": mean_loss(predictions),
        "macro_f1": float(
            f1_score(predictions.labels.numpy(), predictions.predicted.numpy(), average="macro")
        ),
        "ece": expected_calibration_error(predictions),
        "accuracy_low": low,
        "accuracy_high": high,
    }
    if predictions.has_hierarchy:
        hits = predictions.coarse_predicted == predictions.coarse_labels
        metrics["coarse_accuracy"] = int(hits.sum()) / len(predictions)
    return metrics


def mean_loss(predictions: Predictions) -> float:
    """Compute the mean cross-entropy (negative log-likelihood) of the true classes, in nats."""
    return float(cross_entropy(predictions.logits.double(), predictions.labels))


def top_k_accuracy(predictions: Predictions, k: int) -> float:
    """Compute the share of images whose true class is among the k largest logits.

    Args:
        predictions: of N images and C classes.
        k: at least 1; from C on the result is 1.
    """
    own = predictions.logits.gather(1, predictions.labels[:, None])
    earlier = torch.arange(predictions.num_classes) < predictions.labels[:, None]
    ahead = (predictions.logits > own) | ((predictions.logits == own) & earlier)
    return int((ahead.sum(dim=1) < k).sum()) / len(predictions)


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Wilson (1927) score interval of a proportion, without continuity correction.

    Args:
        correct: number of successes, 0 to `total`.
        total: number of trials, at least 1.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper bound, in [0, 1].
    """
    interval = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def confusion_counts(
    labels: torch.Tensor, predicted: torch.Tensor, n: int
) -> npt.NDArray[np.int64]:
    """Count how often each true class (row) was predicted as each class (column).

    Args:
        labels: true classes, int64 [N], N at least 1, values 0 to n - 1.
        predicted: predicted classes, int64 [N], values 0 to n - 1.
        n: number of classes.

    Returns:
        int64 [n, n]; the sum is N.
    """
    # As scikit-learn's confusion_matrix, which warns where there is only one class.
    return torch.bincount(labels * n + predicted, minlength=n * n).view(n, n).numpy()


def per_class_table(predictions: Predictions) -> pd.DataFrame:
    """Tabulate how well each class is recognised and what it is mistaken for.

    Args:
        predictions: of N images and C classes.

    Returns:
        C rows in label order: `class`, `coarse_class` (empty without a hierarchy), `support`
        (images of the class), `precision` (NaN if it was never predicted), `recall` (NaN if it has
        no images), `f1` (NaN if both), `mistaken_for` (the wrong class it was most often predicted
        as, empty if none) and `mistaken_count` (how often).
    """
    n = predictions.num_classes
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.labels.numpy(),
        predictions.predicted.numpy(),
        labels=np.arange(n),
        zero_division=np.nan,
    )
    mistakes = confusion_counts(predictions.labels, predictions.predicted, n)
    np.fill_diagonal(mistakes, 0)
    worst, worst_count = mistakes.argmax(axis=1), mistakes.max(axis=1)
    return pd.DataFrame(
        {
            "class": predictions.class_names,
            "coarse_class": [predictions.coarse_names[c] for c in predictions.coarse_of_class]
            or [""] * n,
            "support": support,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "mistaken_for": [
                predictions.class_names[w] if count else ""
                for w, count in zip(worst, worst_count, strict=True)
            ],
            "mistaken_count": worst_count,
        }
    )


def most_confused_pairs(predictions: Predictions, limit: int) -> pd.DataFrame:
    """List the most frequent mistakes.

    Args:
        predictions: of N images and C classes.
        limit: largest number of rows, at least 0.

    Returns:
        At most `limit` rows, most frequent first, then in label order: `true` and `predicted`
        (class names, different), `count` (at least 1), `share` (of the images of the true class,
        in (0, 1]).
    """
    n = predictions.num_classes
    counts = confusion_counts(predictions.labels, predictions.predicted, n)
    support = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    largest = np.argsort(-counts.ravel(), kind="stable")[:limit]
    true, predicted = np.divmod(largest[counts.ravel()[largest] > 0], n)
    return pd.DataFrame(
        {
            "true": [predictions.class_names[t] for t in true],
            "predicted": [predictions.class_names[p] for p in predicted],
            "count": counts[true, predicted],
            "share": counts[true, predicted] / support[true],
        }
    )


def calibration_table(predictions: Predictions, bins: int = CALIBRATION_BINS) -> pd.DataFrame:
    """Compare confidence with accuracy in bins of equal width (Guo et al. 2017, section 2).

    Args:
        predictions: of N images and C classes.
        bins: number of bins over [0, 1], at least 1.

    Returns:
        `bins` rows: `lower` (excluded) and `upper` (included) edge, `count` of images whose
        confidence lies between them, their mean `confidence` and their `accuracy`; both NaN in an
        empty bin.
    """
    edges = np.linspace(0, 1, bins + 1)
    confidence = predictions.confidence.double().numpy()
    index = np.digitize(confidence, edges[1:-1], right=True)
    count = np.bincount(index, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    return pd.DataFrame(
        {
            "lower": edges[:-1],
            "upper": edges[1:],
            "count": count,
            "confidence": np.bincount(index, confidence, bins) / filled,
            "accuracy": np.bincount(index, predictions.correct.numpy(), bins) / filled,
        }
    )


def expected_calibration_error(predictions: Predictions, bins: int = CALIBRATION_BINS) -> float:
    """Compute the mean distance of confidence and accuracy over bins, weighted by their images.

    Taken from the same table as the reliability diagram, so that the two agree. (torchmetrics
    gives a bin of its own to a confidence of exactly 1, which float32 reaches easily.)

    Args:
        predictions: of N images and C classes.
        bins: number of bins over [0, 1], at least 1.

    Returns:
        Expected calibration error (Guo et al. 2017, equation 3), in [0, 1].
    """
    table = calibration_table(predictions, bins)
    gaps = (table["confidence"] - table["accuracy"]).abs() * table["count"]
    return float(gaps.sum() / len(predictions))


def fit_temperature(predictions: Predictions) -> float:
    """Find the temperature that minimises the cross-entropy of `predictions`.

    Temperature scaling (Guo et al. 2017, section 4.2): one number, fitted on validation images,
    that changes no predicted class. The loss is convex in 1/T, so it has one minimum over log T.

    Args:
        predictions: on validation images, never on those that are to be judged.

    Returns:
        Temperature in [0.01, 100]; 1 where no other lowers the loss. Above 1 the classifier was
        too sure, below too hesitant. Perfect predictions have no finite optimum and end near 0.01.
    """
    logits = predictions.logits.double()

    def loss(temperature: float) -> float:
        return float(cross_entropy(logits / temperature, predictions.labels))

    low, high = map(math.log, TEMPERATURE_RANGE)
    found = minimize_scalar(lambda log: loss(math.exp(log)), bounds=(low, high), method="bounded")
    return min(1.0, math.exp(found.x), key=loss)


def with_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Divide the logits by a temperature: other confidences, the same predicted classes.

    Args:
        predictions: of N images and C classes.
        temperature: from `fit_temperature`, above 0.

    Raises:
        UserError: the temperature is not a positive number.
    """
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature must be a positive number, got {temperature}")
    return replace(predictions, logits=predictions.logits / temperature)


def time_to_accuracy(histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tabulate how soon each model reaches the best validation accuracy of each other one.

    Args:
        histories: by model name; each with `epoch`, `validation_accuracy` and `seconds` (of that
            epoch).

    Returns:
        A row for each ordered pair of models: `reference` and its best validation `accuracy`, with
        the `reference_epochs` and `reference_seconds` in which it first got there; the other
        `model` with its `epochs` and `seconds` to at least that accuracy (NaN if it never got
        there); `speedup`, the reference's seconds over the model's.
    """
    rows = []
    for reference, reference_history in histories.items():
        accuracy = float(reference_history["validation_accuracy"].max())
        reference_epochs, reference_seconds = _time_to(reference_history, accuracy)
        for model, history in histories.items():
            if model == reference:
                continue
            epochs, seconds = _time_to(history, accuracy)
            rows.append(
                {
                    "reference": reference,
                    "accuracy": accuracy,
                    "reference_epochs": reference_epochs,
                    "reference_seconds": reference_seconds,
                    "model": model,
                    "epochs": epochs,
                    "seconds": seconds,
                    "speedup": reference_seconds / seconds,
                }
            )
    columns = ["reference", "accuracy", "reference_epochs", "reference_seconds"]
    return pd.DataFrame(rows, columns=[*columns, "model", "epochs", "seconds", "speedup"])


def _time_to(history: pd.DataFrame, accuracy: float) -> tuple[float, float]:
    """Return the epochs and the seconds until an accuracy was first reached, or NaN."""
    reached = (history["validation_accuracy"] >= accuracy).to_numpy()
    if not reached.any():
        return math.nan, math.nan
    first = int(reached.argmax())
    return float(history["epoch"].iloc[first]), float(history["seconds"].iloc[: first + 1].sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's (1979) step-down method.

    Args:
        p_values: of any tests, dependent or not, each in [0, 1].

    Returns:
        In the order given. In at most one of 20 such lists any that tests a difference which is not
        there is under 0.05.
    """
    ranks = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(ranks):
        largest = max(largest, min((len(p_values) - rank) * p_values[place], 1.0))
        corrected[place] = largest
    return corrected


def mcnemar(correct_a: torch.Tensor, correct_b: torch.Tensor) -> dict[str, float]:
    """Test whether two classifiers differ on the same images (McNemar 1947).

    Args:
        correct_a: whether the first was right, bool [N].
        correct_b: whether the second was right on the same images, bool [N].

    Returns:
        `b` (only the first was right), `c` (only the second was), `p_value` (two-sided): the exact
        binomial test where b + c is under 25, else chi-square with one degree of freedom and
        Edwards' (1948) continuity correction.

    Raises:
        UserError: the two are not about the same number of images.
    """
    if correct_a.shape != correct_b.shape:
        raise UserError(
            f"two classifiers are compared on the same images, got {list(correct_a.shape)} and "
            f"{list(correct_b.shape)} results"
        )
    b, c = int((correct_a & ~correct_b).sum()), int((~correct_a & correct_b).sum())
    if b + c == 0:
        p_value = 1.0
    elif b + c < 25:
        p_value = float(binomtest(b, b + c).pvalue)
    else:
        p_value = float(chi2.sf(max(abs(b - c) - 1, 0) ** 2 / (b + c), df=1))
    return {"b": b, "c": c, "p_value": p_value}
