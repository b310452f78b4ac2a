"""The evaluation template."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

from cifar100_transfer.pipelines.binding import told

from .nodes import (
    compute_metrics,
    draw_class_activation,
    draw_coarse_confusion_matrix,
    draw_confident_mistakes,
    draw_confused_pairs,
    draw_confusion_matrix,
    draw_per_class_accuracy,
    draw_reliability_diagram,
    fit_calibration,
    list_confused_pairs,
    predict_set,
    predict_validation_set,
    tabulate_classes,
    write_model_card,
)


def create_pipeline(model: str) -> Pipeline:
    """Return the evaluation of one model, under its namespace."""
    return Pipeline(
        _numbers() + _figures(model) + _card(model),
        namespace=model,
        inputs={"test_set", "validation_set"},
        parameters={"params:compute"},
    )


def _numbers() -> Pipeline:
    return Pipeline(
        [
            Node(
                predict_validation_set,
                inputs=["classifier", "validation_set", "params:compute"],
                outputs="validation_predictions",
                name="predict_validation_set",
            ),
            Node(
                predict_set,
                inputs=["classifier", "test_set", "params:compute"],
                outputs="predictions",
                name="predict_test_set",
            ),
            Node(
                fit_calibration,
                inputs="validation_predictions",
                outputs="calibration",
                name="fit_calibration",
            ),
            Node(
                compute_metrics,
                inputs=[
                    *("predictions", "calibration", "training_summary"),
                    *("classifier", "test_set"),
                ],
                outputs="metrics",
                name="compute_metrics",
            ),
            Node(
                tabulate_classes,
                inputs="predictions",
                outputs="per_class",
                name="tabulate_classes",
            ),
            Node(
                list_confused_pairs,
                inputs="predictions",
                outputs="confused_pairs",
                name="list_confused_pairs",
            ),
        ],
        tags="evaluation",
    )


def _figures(model: str) -> Pipeline:
    drawings: dict[str, tuple[Callable[..., Any], list[str]]] = {
        "confusion_matrix": (draw_confusion_matrix, ["predictions"]),
        "coarse_confusion_matrix": (draw_coarse_confusion_matrix, ["predictions"]),
        "reliability_diagram": (draw_reliability_diagram, ["predictions", "calibration"]),
        "per_class_accuracy": (draw_per_class_accuracy, ["predictions"]),
        "confused_pairs_figure": (
            draw_confused_pairs,
            ["confused_pairs", "predictions", "test_set"],
        ),
        "confident_mistakes": (draw_confident_mistakes, ["predictions", "test_set"]),
        "class_activation": (draw_class_activation, ["classifier", "predictions", "test_set"]),
    }
    return Pipeline(
        [
            Node(
                told(draw, model=model),
                inputs=inputs,
                outputs=figure,
                name=f"draw_{figure.removesuffix('_figure')}",
            )
            for figure, (draw, inputs) in drawings.items()
        ],
        tags="evaluation",
    )


def _card(model: str) -> Pipeline:
    return Pipeline(
        [
            Node(
                told(write_model_card, model=model),
                inputs=["classifier", "metrics", "training_summary", "predictions"],
                outputs="model_card",
                name="write_model_card",
            )
        ],
        tags="evaluation",
    )
