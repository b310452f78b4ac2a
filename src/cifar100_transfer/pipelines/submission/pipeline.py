"""The submission template."""

from kedro.pipeline import Node, Pipeline

from .nodes import predict_challenge


def create_pipeline(model: str) -> Pipeline:
    """Return the submission of one model, under its namespace."""
    template = Pipeline(
        [
            Node(
                predict_challenge,
                inputs=[
                    *("classifier", "challenge_files", "submission_parts"),
                    *("params:compute", "params:submission"),
                ],
                outputs=["submission", "submission_summary"],
                name="predict_challenge",
            ),
        ],
        tags="submission",
    )
    return Pipeline(
        template,
        namespace=model,
        inputs={"challenge_files"},
        parameters={"params:compute", "params:submission"},
    )
