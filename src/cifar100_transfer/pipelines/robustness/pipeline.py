"""The robustness template."""

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


def create_pipeline(model: str) -> Pipeline:
    """Return the judgement of one model on corrupted images, under its namespace."""
    return Pipeline(
        _template(model),
        namespace=model,
        inputs={"validation_set", "test_set"},
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


def _template(model: str) -> Pipeline:
    settings = ["params:robustness", "params:compute", "classifier"]
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
                    *("classifier", "test_set", "params:robustness"),
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
