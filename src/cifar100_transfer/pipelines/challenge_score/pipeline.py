"""The score template."""

from kedro.pipeline import Node, Pipeline

from cifar100_transfer.pipelines.binding import told

from .nodes import compute_score, measure_accuracy


def create_pipeline(model: str) -> Pipeline:
    """Return the scoring of one model's newest submission, under its namespace."""
    template = Pipeline(
        [
            Node(
                measure_accuracy,
                inputs=["submission", "test_set"],
                outputs="challenge_accuracy",
                name="measure_accuracy",
            ),
            Node(
                told(compute_score, model=model),
                inputs="challenge_accuracy",
                outputs="challenge_score",
                name="compute_score",
            ),
        ],
        tags="challenge_score",
    )
    return Pipeline(template, namespace=model, inputs={"test_set"})
