"""The submission template."""

from kedro.pipeline import Node, Pipeline

from .nodes import discard_parts, predict_challenge


def create_pipeline(model: str) -> Pipeline:
    """Return the submission of one model, under its namespace."""
    template = Pipeline(
        [
            Node(
                predict_challenge,
                inputs=["classifier", "challenge_files", "submission_parts", "params:compute"],
                outputs=["submission", "submission_summary"],
                name="predict_challenge",
            ),
            Node(
                discard_parts,
                inputs=["submission", "submission_summary", "submission_parts"],
                outputs=None,
                name="discard_parts",
            ),
        ],
        tags="submission",
    )
    return Pipeline(
        template,
        namespace=model,
        inputs={"challenge_files"},
        parameters={"params:compute"},
    )
