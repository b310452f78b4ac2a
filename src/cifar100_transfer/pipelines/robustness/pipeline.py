"""The robustness template."""

import warnings
from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from cifar100_transfer.pipelines.binding import told

from .nodes import (
    choose_adaptation,
    draw_corruption_grid,
    draw_heat_map,
    measure_on_test,
    measure_on_validation,
    summarize,
)


def create_pipeline(model: str, members: Sequence[str] = ()) -> Pipeline:
    """Return the judgement of one model, or of an ensemble, on corrupted images.

    Args:
        model: namespace.
        members: models that are judged together; none: the model of that name alone.
    """
    classifiers = {f"{member}_classifier": f"{member}.classifier" for member in members}
    with warnings.catch_warnings():
        # Kedro advises against reading from another namespace; an ensemble does just that.
        warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
        return Pipeline(
            _template(model, list(classifiers) or ["classifier"]),
            namespace=model,
            inputs={"validation_set": "validation_set", "test_set": "test_set", **classifiers},
            parameters={"params:robustness", "params:compute"},
        )


def create_corruption_grid() -> Pipeline:
    """Return the drawing of all corruptions, which no model has a part in."""
    return Pipeline(
        [
            Node(
                draw_corruption_grid,
                inputs=["test_set", "params:robustness"],
                outputs="corruption_grid",
                name="draw_corruption_grid",
            )
        ],
        tags="robustness",
    )


def _template(model: str, classifiers: list[str]) -> Pipeline:
    settings = ["params:robustness", "params:compute", *classifiers]
    return Pipeline(
        [
            Node(
                told(choose_adaptation, model=model),
                inputs=["validation_set", *settings],
                outputs="adaptation",
                name="choose_adaptation",
            ),
            Node(
                told(measure_on_validation, model=model),
                inputs=["validation_set", "adaptation", *settings],
                outputs=["validation_robustness", "validation_clean_accuracy"],
                name="measure_on_validation",
            ),
            Node(
                told(measure_on_test, model=model),
                inputs=["test_set", "adaptation", *settings],
                outputs=["test_robustness", "test_clean_accuracy"],
                name="measure_on_test",
            ),
            Node(
                told(summarize, model=model),
                inputs=[
                    *("validation_robustness", "validation_clean_accuracy"),
                    *("test_robustness", "test_clean_accuracy", "adaptation"),
                    *classifiers,
                ],
                outputs=["robustness", "robustness_summary"],
                name="summarize_robustness",
            ),
            Node(
                told(draw_heat_map, model=model),
                inputs="robustness",
                outputs="robustness_heat_map",
                name="draw_robustness_heat_map",
            ),
        ],
        tags="robustness",
    )
