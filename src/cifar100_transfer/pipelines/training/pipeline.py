"""The training template."""

from kedro.pipeline import Node, Pipeline

from cifar100_transfer.pipelines.binding import told

from .nodes import draw_learning_curves, train_classifier

SHARED_INPUTS = {"train_set", "validation_set", "normalization"}
SHARED_PARAMETERS = {"params:compute"}


def create_pipeline(model: str, pretrained: bool = False) -> Pipeline:
    """Return the training of one model, under its namespace.

    Args:
        model: namespace; its parameters are `<model>.model` and `<model>.training`.
        pretrained: whether the catalog entry `pretrained_weights` is an input.
    """
    inputs = [
        *("train_set", "validation_set", "normalization"),
        *("params:model", "params:training", "params:compute"),
        "resume_folder",
    ]
    template = Pipeline(
        [
            Node(
                told(train_classifier, name=model),
                inputs=[*inputs, "pretrained_weights"] if pretrained else inputs,
                outputs=["classifier", "history", "training_summary"],
                name="train_classifier",
            ),
            Node(
                told(draw_learning_curves, model=model),
                inputs="history",
                outputs="learning_curves",
                name="draw_learning_curves",
            ),
        ],
        tags="training",
    )
    return Pipeline(
        template,
        namespace=model,
        inputs=SHARED_INPUTS | ({"pretrained_weights"} if pretrained else set()),
        parameters=SHARED_PARAMETERS,
    )
