"""The tuning templates."""

from kedro.pipeline import Node, Pipeline

from cifar100_transfer.pipelines.binding import told

from .nodes import (
    ablate_recipe,
    draw_ablation,
    draw_importances,
    draw_parallel_coordinates,
    draw_screening,
    draw_search_history,
    draw_slices,
    screen_architectures,
    search_recipe,
)

SHARED_INPUTS = {"train_set", "validation_set", "normalization", "studies"}


def create_search(model: str, pretrained: bool = False) -> Pipeline:
    """Return the search for a better recipe of one model, under its namespace.

    Args:
        model: namespace; its parameters are `<model>.model`, `<model>.training` and
            `<model>.search`.
        pretrained: whether the catalog entry `pretrained_weights` is an input.
    """
    evidence = ["search_trials", "search_summary"]
    nodes = [
        Node(
            told(search_recipe, model_name=model),
            inputs=_inputs("search", pretrained),
            outputs=["search_trials", "best_recipe", "search_summary"],
            name="search_recipe",
        ),
        Node(draw_search_history, inputs=evidence, outputs="search_history", name="draw_history"),
        Node(
            draw_importances,
            inputs="search_summary",
            outputs="search_importances",
            name="draw_importances",
        ),
        Node(draw_slices, inputs=evidence, outputs="search_slices", name="draw_slices"),
        Node(
            draw_parallel_coordinates,
            inputs=evidence,
            outputs="search_parallel_coordinates",
            name="draw_parallel_coordinates",
        ),
    ]
    return _under(model, nodes, "search", pretrained)


def create_ablation(model: str, pretrained: bool = False) -> Pipeline:
    """Return the ablation of one model's recipe, under its namespace.

    Args:
        model: namespace; its parameters are `<model>.model`, `<model>.training` and
            `<model>.ablation`.
        pretrained: whether the catalog entry `pretrained_weights` is an input.
    """
    nodes = [
        Node(
            told(ablate_recipe, model_name=model),
            inputs=_inputs("ablation", pretrained),
            outputs=["ablation_trials", "ablation_table", "ablation_summary"],
            name="ablate_recipe",
        ),
        Node(
            draw_ablation,
            inputs=["ablation_table", "ablation_summary"],
            outputs="ablation_figure",
            name="draw_ablation",
        ),
    ]
    return _under(model, nodes, "ablation", pretrained)


def create_screening() -> Pipeline:
    """Return the screening of architectures, which no model has a part in."""
    return Pipeline(
        [
            Node(
                screen_architectures,
                inputs=[
                    *("train_set", "validation_set", "normalization"),
                    *("params:screening", "params:compute", "studies"),
                ],
                outputs=["screening", "screening_summary"],
                name="screen_architectures",
            ),
            Node(
                draw_screening,
                inputs=["screening", "screening_summary"],
                outputs="screening_figure",
                name="draw_screening",
            ),
        ],
        tags="screening",
    )


def _inputs(kind: str, pretrained: bool) -> list[str]:
    return [
        *("train_set", "validation_set", "normalization"),
        *("params:model", "params:training", f"params:{kind}", "params:compute", "studies"),
        *(["pretrained_weights"] if pretrained else []),
    ]


def _under(model: str, nodes: list[Node], kind: str, pretrained: bool) -> Pipeline:
    return Pipeline(
        Pipeline(nodes, tags=kind),
        namespace=model,
        inputs=SHARED_INPUTS | ({"pretrained_weights"} if pretrained else set()),
        parameters={"params:compute"},
    )
