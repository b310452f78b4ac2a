"""Nodes of the comparison pipeline."""

from typing import Any

from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.annotations import DataFrame, Figure

_FROM_METRICS = (
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "test_top5_accuracy",
    "test_coarse_accuracy",
    "test_loss",
    "test_ece",
    "validation_accuracy",
    "train_accuracy",
)
_FROM_SUMMARY = (
    "architecture",
    "parameters",
    "epochs",
    "best_epoch",
    "seconds",
    "images_per_second",
)


def compare_models(results: list[dict[str, Any]], *after: dict[str, float]) -> DataFrame:
    """Put every model that has results into one table, best test accuracy first.

    Args:
        results: all stored results.
        after: metrics of the run at hand; they only make this node wait for them.
    """
    import pandas as pd

    if not results:
        raise UserError(
            "no model has results yet: train one first, for example kedro run --pipeline=simple_cnn"
        )
    rows = [
        {
            "model": result["model"],
            **{name: result["summary"][name] for name in _FROM_SUMMARY},
            **{name: result["metrics"].get(name) for name in _FROM_METRICS},
            "train_test_gap": result["metrics"]["train_accuracy"]
            - result["metrics"]["test_accuracy"],
            "run": result["run"],
        }
        for result in results
    ]
    return pd.DataFrame(rows).sort_values("test_accuracy", ascending=False, ignore_index=True)


def draw_comparison(comparison: DataFrame) -> Figure:
    """Draw every model's accuracy with its confidence interval."""
    from cifar100_transfer.evaluation import figures

    return figures.comparison(comparison)


def draw_overlaid_curves(results: list[dict[str, Any]], comparison: DataFrame) -> Figure:
    """Draw every model's validation accuracy over epochs and over seconds."""
    from cifar100_transfer.evaluation import figures

    histories = {result["model"]: result["history"] for result in results}
    return figures.overlaid_curves({name: histories[name] for name in comparison["model"]})
