"""Pretrained weights before the first node: none is loaded for nothing, and those needed fit."""

from collections.abc import Iterator
from typing import Any

from kedro.pipeline import Pipeline

from .config import AblationConfig, ModelConfig, SearchConfig
from .configuration import Catalog
from .errors import UserError

WEIGHTS = "pretrained_weights"
_SETTING = "model.pretrained"


def leave_out_unused(pipeline: Pipeline, catalog: Catalog) -> None:
    """Let the weights be left out where every recipe starts from random ones.

    They may have to be fetched, or made by another pipeline.
    """
    if WEIGHTS not in pipeline.inputs() or any(_starts_from_them(pipeline, catalog)):
        return
    leave_out = getattr(catalog.get(WEIGHTS), "leave_out", None)
    if leave_out:
        leave_out()


def check_fit(pipeline: Pipeline, catalog: Catalog) -> None:
    """Load the weights and compare them with the networks that start from them.

    A run of several models would come to them after hours.

    Raises:
        UserError: they can't be fetched or read, are of another architecture, or a model is to
            start from them whose pipeline takes none.
    """
    from .models import check_backbone

    _check_taken(pipeline, catalog)
    models = {
        name: value
        for name, value in _parameters(pipeline, catalog)
        if isinstance(value, ModelConfig) and value.pretrained
    }
    state = catalog.load(WEIGHTS) if models else {}
    for name, model in models.items():
        try:
            check_backbone(model.architecture, state, WEIGHTS)
        except UserError as error:
            block = name.removeprefix("params:")
            raise UserError(f"{block}.architecture={model.architecture}: {error}") from None


def _check_taken(pipeline: Pipeline, catalog: Catalog) -> None:
    for node in pipeline.nodes:
        if WEIGHTS in node.inputs:
            continue
        for name in (name for name in node.inputs if name.endswith(".model")):
            if catalog.load(name).pretrained:
                raise UserError(
                    f"{name.removeprefix('params:')}.pretrained=true, but {node.namespace} takes "
                    f"no weights: set it to false, run transfer by this recipe, or register a "
                    f"model of your own with True in pipeline_registry.py"
                )


def _starts_from_them(pipeline: Pipeline, catalog: Catalog) -> Iterator[bool]:
    for _, value in _parameters(pipeline, catalog):
        if isinstance(value, ModelConfig):
            yield value.pretrained
        elif isinstance(value, SearchConfig):
            yield any(one.parameter == _SETTING for one in value.space)
        elif isinstance(value, AblationConfig):
            yield _SETTING in value.base or any(_SETTING in one.set for one in value.changes)


def _parameters(pipeline: Pipeline, catalog: Catalog) -> Iterator[tuple[str, Any]]:
    """Return the parameters of the nodes that take the weights."""
    names = {
        name
        for node in pipeline.nodes
        if WEIGHTS in node.inputs
        for name in node.inputs
        if name.startswith("params:")
    }
    for name in sorted(names):
        yield name, catalog.load(name)
