"""The export pipeline."""

from kedro.pipeline import Node, Pipeline

from .nodes import export_onnx, export_program


def create_pipeline() -> Pipeline:
    """Return the export of the model that `--params=model=NAME` names."""
    return Pipeline(
        [
            Node(
                export_program,
                inputs=["chosen_classifier", "test_set"],
                outputs=["exported_program", "export_program_check"],
                name="export_program",
            ),
            Node(
                export_onnx,
                inputs=["chosen_classifier", "test_set"],
                outputs=["exported_onnx", "export_onnx_check"],
                name="export_onnx",
            ),
        ],
        tags="export",
    )
