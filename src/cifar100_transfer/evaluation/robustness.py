"""How accurate classifiers stay when images get worse: nineteen corruptions, five severities."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cifar100_transfer.config import ADAPTING, VIEWING, RobustnessMethod
from cifar100_transfer.data import ImageSet
from cifar100_transfer.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier

from .adaptation import (
    Predictor,
    augmented,
    has_batch_norm,
    plain,
    transductive_batch_norm,
)

logger = logging.getLogger(__name__)


def predictors_of(
    classifier: Classifier, methods: Sequence[RobustnessMethod], source_weight: float | None
) -> dict[str, Predictor]:
    """Build a predictor for every method.

    Args:
        classifier: one, or an ensemble, of which members without batch normalisation take no part
            in adaptation.
        methods: `plain`; `batch_norm`: transductive adaptation; `tta`: test-time augmentation;
            `batch_norm_tta`: both.
        source_weight: for the adapting methods; None leaves them out.

    Returns:
        The predictors by method, in the order of `methods`.

    Raises:
        UserError: no method is left.
    """
    usable = [m for m in methods if source_weight is not None or m not in ADAPTING]
    if not usable:
        raise UserError(
            f"robustness.methods={list(methods)}: without batch normalisation none of them can be "
            f"measured: add plain"
        )

    def predictor(method: RobustnessMethod) -> Predictor:
        def use(adapted: Classifier) -> Predictor:
            return augmented(plain(adapted)) if method in VIEWING else plain(adapted)

        if method in ADAPTING and source_weight is not None:
            return transductive_batch_norm(classifier, source_weight, use)
        return use(classifier)

    return {method: predictor(method) for method in usable}


def measure_accuracy(predictors: Mapping[str, Predictor], images: ImageSet) -> dict[str, float]:
    """Measure the top-1 accuracy of every predictor.

    Args:
        predictors: by name.
        images: at least one, with true labels.

    Returns:
        Accuracy in [0, 1] by the same names.

    Raises:
        UserError: a predictor returned NaN or infinity.
    """
    return {
        name: _accuracy(name, predict(images.images), images.labels)
        for name, predict in predictors.items()
    }


def measure_robustness(
    predictors: Mapping[str, Predictor],
    images: ImageSet,
    set_name: str,
    seed: int,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    model: str = "",
) -> pd.DataFrame:
    """Measure every predictor's top-1 accuracy under every corruption at every severity.

    One corrupted set exists at a time, and all predictors judge it; rows depend on neither the
    order nor the choice of the other corruptions.

    Args:
        predictors: by the name of their method.
        images: at least one, clean, with true labels, on the device where they are corrupted.
        set_name: which images these are, `validation` or `test`.
        seed: of the corruptions, at least 0.
        corruptions: names of some of `CORRUPTIONS`.
        severities: some of `SEVERITIES`.
        model: whose predictors they are, for the log.

    Returns:
        One row for each method, corruption and severity: `set`, `method`, `corruption`,
        `severity`, `accuracy` in [0, 1], `images` (their number).

    Raises:
        UserError: an unknown corruption or severity, or a predictor returned NaN or infinity.
    """
    rows: list[dict[str, Any]] = []
    for corruption in corruptions:
        for severity in severities:
            corrupted = images.with_images(corrupt(images.images, corruption, severity, seed))
            rows += [
                {
                    "set": set_name,
                    "method": method,
                    "corruption": corruption,
                    "severity": severity,
                    "accuracy": accuracy,
                    "images": len(images),
                }
                for method, accuracy in measure_accuracy(predictors, corrupted).items()
            ]
        whose = f"{model}, " if model else ""
        logger.info("%s%s", whose, _describe(rows[-len(severities) * len(predictors) :]))
    return pd.DataFrame(rows).sort_values(
        "method",
        key=lambda names: names.map(list(predictors).index),
        kind="stable",
        ignore_index=True,
    )


def rank_source_weights(
    classifier: Classifier,
    validation: ImageSet,
    source_weights: Sequence[float],
    seed: int,
    model: str = "",
) -> dict[float, float]:
    """Measure batch-norm adaptation for several mixing weights, to choose one.

    Args:
        classifier: one, or an ensemble.
        validation: clean validation images; never those that are to be reported on.
        source_weights: the candidates, each in [0, 1].
        seed: of the corruptions.
        model: whose classifier it is, for the log.

    Returns:
        Mean corruption accuracy by weight, best first, of equals the one that was named first;
        empty if the classifier has no batch normalisation.
    """
    if not has_batch_norm(classifier):
        return {}
    candidates = {
        str(weight): predictors_of(classifier, ["batch_norm"], weight)["batch_norm"]
        for weight in source_weights
    }
    table = measure_robustness(candidates, validation, "validation", seed, model=model)
    means = table.groupby("method")["accuracy"].mean()
    return dict(
        sorted(
            ((weight, float(means[str(weight)])) for weight in source_weights),
            key=lambda pair: -pair[1],
        )
    )


def summarize_robustness(table: pd.DataFrame, clean_accuracy: float) -> dict[str, Any]:
    """Sum up one method on one set.

    Args:
        table: rows of `measure_robustness` of one method on one set, at least one.
        clean_accuracy: of the same method on the same images without corruption, in [0, 1].

    Returns:
        `clean_accuracy`; `mean_corruption_accuracy`: mean over all corruptions and severities;
        `drop`: how far it lies under `clean_accuracy`; `per_corruption`: mean over severities by
        corruption. All are fractions.

    Raises:
        UserError: a corruption occurs twice at one severity, or not at every severity.
    """
    grid = pd.crosstab(table["corruption"], table["severity"])
    if not (grid == 1).all(axis=None):
        raise UserError(
            "a summary needs every corruption once at every severity: give rows of one set and "
            "one method"
        )
    per_corruption = table.groupby("corruption", sort=False)["accuracy"].mean()
    mean = float(table["accuracy"].mean())
    return {
        "clean_accuracy": clean_accuracy,
        "mean_corruption_accuracy": mean,
        "drop": clean_accuracy - mean,
        "per_corruption": {str(name): float(value) for name, value in per_corruption.items()},
    }


def corruption_examples(image: Tensor, seed: int) -> Tensor:
    """Corrupt one image in every way.

    Args:
        image: uint8 [3, H, W].
        seed: of the corruptions.

    Returns:
        uint8 [19, 5, 3, H, W], in the order of `CORRUPTIONS` and `SEVERITIES`.
    """
    return torch.stack(
        [
            torch.cat([corrupt(image[None], corruption, severity, seed) for severity in SEVERITIES])
            for corruption in CORRUPTIONS
        ]
    )


def _accuracy(name: str, logits: Tensor, labels: Tensor) -> float:
    if not bool(logits.isfinite().all()):
        raise UserError(
            f"'{name}' predicts NaN or infinity: the classifier diverged in training or its "
            f"weights are damaged"
        )
    return int((logits.argmax(1).cpu() == labels.cpu()).sum()) / len(labels)


def _describe(rows: list[dict[str, Any]]) -> str:
    means = pd.DataFrame(rows).groupby("method", sort=False)["accuracy"].mean()
    figures = ", ".join(f"{method} {accuracy:.1%}" for method, accuracy in means.items())
    return f"{rows[0]['set']} images, {rows[0]['corruption']}: {figures}"
