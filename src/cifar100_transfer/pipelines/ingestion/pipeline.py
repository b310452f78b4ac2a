"""The ingestion pipeline."""

from kedro.pipeline import Node, Pipeline

from .nodes import (
    compute_normalization,
    count_classes,
    draw_class_distribution,
    draw_sample_grid,
    split_images,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline from `cifar100_raw` to image sets, statistics and first figures."""
    return Pipeline(
        [
            Node(
                split_images,
                inputs=["cifar100_raw", "params:split"],
                outputs=["train_set", "validation_set", "test_set"],
                name="split_images",
            ),
            Node(
                compute_normalization,
                inputs="train_set",
                outputs="normalization",
                name="compute_normalization",
            ),
            Node(
                count_classes,
                inputs=["train_set", "validation_set", "test_set"],
                outputs="class_counts",
                name="count_classes",
            ),
            Node(
                draw_class_distribution,
                inputs="class_counts",
                outputs="class_distribution",
                name="draw_class_distribution",
            ),
            Node(
                draw_sample_grid,
                inputs=["train_set", "params:split"],
                outputs="sample_grid",
                name="draw_sample_grid",
            ),
        ],
        tags="ingestion",
    )
