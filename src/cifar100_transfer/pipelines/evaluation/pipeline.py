"""The evaluation template."""

from kedro.pipeline import Node, Pipeline

from .nodes import compute_metrics, draw_confusion_matrix, predict_test_set


def create_pipeline(model: str) -> Pipeline:
    """Return the evaluation of one model, under its namespace."""
    template = Pipeline(
        [
            Node(
                predict_test_set,
                inputs=["classifier", "test_set", "params:compute"],
                outputs="predictions",
                name="predict_test_set",
            ),
            Node(
                compute_metrics,
                inputs=["predictions", "training_summary"],
                outputs="metrics",
                name="compute_metrics",
            ),
            Node(
                draw_confusion_matrix,
                inputs=["predictions", "training_summary"],
                outputs="confusion_matrix",
                name="draw_confusion_matrix",
            ),
        ],
        tags="evaluation",
    )
    return Pipeline(
        template,
        namespace=model,
        inputs={"test_set"},
        parameters={"params:compute"},
    )
