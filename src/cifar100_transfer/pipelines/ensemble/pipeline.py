"""The ensemble pipeline: its classifier is then evaluated and used as any other model's."""

from kedro.pipeline import Node, Pipeline

from .nodes import average_members, summarize_members


def create_pipeline(model: str) -> Pipeline:
    """Return the making of an ensemble, under its namespace; evaluation classifies for it."""
    template = Pipeline(
        [
            Node(
                average_members,
                inputs=["stored_classifiers", "validation_set", "params:ensemble"],
                outputs="classifier",
                name="average_members",
            ),
            Node(
                summarize_members,
                inputs=["classifier", "validation_predictions", "params:compute"],
                outputs="training_summary",
                name="summarize_members",
            ),
        ],
        tags="ensemble",
    )
    return Pipeline(
        template,
        namespace=model,
        inputs={"stored_classifiers", "validation_set"},
        parameters={"params:ensemble", "params:compute"},
    )
