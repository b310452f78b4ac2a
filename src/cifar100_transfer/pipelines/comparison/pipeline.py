"""The comparison pipeline."""

import warnings
from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from .nodes import compare_models, draw_comparison, draw_overlaid_curves


def create_pipeline(after: Sequence[str] = ()) -> Pipeline:
    """Return the comparison of all models with results.

    Args:
        after: models of the same run; their metrics are waited for.
    """
    waited_for = {f"{model}_metrics": f"{model}.metrics" for model in after}
    with warnings.catch_warnings():
        # Kedro advises against reading from another namespace; to compare is to do just that.
        warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
        return _pipeline(waited_for)


def _pipeline(waited_for: dict[str, str]) -> Pipeline:
    return Pipeline(
        [
            Node(
                compare_models,
                inputs=["model_results", *waited_for],
                outputs="comparison",
                name="compare_models",
            ),
            Node(
                draw_comparison,
                inputs="comparison",
                outputs="comparison_figure",
                name="draw_comparison",
            ),
            Node(
                draw_overlaid_curves,
                inputs=["model_results", "comparison"],
                outputs="overlaid_curves",
                name="draw_overlaid_curves",
            ),
        ],
        inputs=waited_for,
        tags="comparison",
    )
