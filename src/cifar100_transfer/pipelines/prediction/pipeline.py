"""The prediction pipeline."""

from kedro.pipeline import Node, Pipeline

from .nodes import predict_pictures


def create_pipeline() -> Pipeline:
    """Return the classification of pictures by the model that `--params=model=NAME` names."""
    return Pipeline(
        [
            Node(
                predict_pictures,
                inputs=["chosen_classifier", "own_pictures", "params:compute"],
                outputs=["picture_predictions", "contact_sheet"],
                name="predict_pictures",
            )
        ],
        tags="prediction",
    )
