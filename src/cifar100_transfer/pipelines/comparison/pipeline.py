"""The comparison pipeline."""

import warnings
from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from .nodes import (
    compare_models,
    compare_pairs,
    draw_accuracy_against_cost,
    draw_comparison,
    draw_overlaid_curves,
    measure_time_to_accuracy,
    write_report,
)

# What the comparison and its report read of a model by way of `model_results`.
_READ = (
    *("metrics", "learning_curves", "confusion_matrix", "coarse_confusion_matrix"),
    *("reliability_diagram", "per_class_accuracy", "confused_pairs_figure"),
    *("confident_mistakes", "class_activation"),
)


def create_pipeline(after: Sequence[str] = ()) -> Pipeline:
    """Return the comparison of all models with results.

    Args:
        after: models of the same run; their results are waited for.
    """
    waited_for = {f"{model}_{name}": f"{model}.{name}" for model in after for name in _READ}
    with warnings.catch_warnings():
        # Kedro advises against reading from another namespace; to compare is to do just that.
        warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
        return _pipeline(waited_for)


def _pipeline(waited_for: dict[str, str]) -> Pipeline:
    return Pipeline(
        [
            Node(
                compare_models,
                inputs=["model_results", "params:comparison", "test_set", *waited_for],
                outputs="comparison",
                name="compare_models",
            ),
            Node(
                measure_time_to_accuracy,
                inputs=["model_results", "comparison"],
                outputs="time_to_accuracy",
                name="measure_time_to_accuracy",
            ),
            Node(
                compare_pairs,
                inputs=["model_results", "comparison"],
                outputs="significance",
                name="compare_pairs",
            ),
            Node(
                draw_comparison,
                inputs="comparison",
                outputs="comparison_figure",
                name="draw_comparison",
            ),
            Node(
                draw_accuracy_against_cost,
                inputs="comparison",
                outputs="accuracy_against_cost",
                name="draw_accuracy_against_cost",
            ),
            Node(
                draw_overlaid_curves,
                inputs=["model_results", "comparison"],
                outputs="overlaid_curves",
                name="draw_overlaid_curves",
            ),
            Node(
                write_report,
                inputs=[
                    *("model_results", "comparison", "time_to_accuracy", "significance"),
                    *("class_counts", "sample_grid"),
                    *("comparison_figure", "overlaid_curves", "accuracy_against_cost"),
                ],
                outputs="report",
                name="write_report",
            ),
        ],
        inputs=waited_for,
        tags="comparison",
    )
