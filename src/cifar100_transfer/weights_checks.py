"""Pretrained weights before the first node: none is loaded for nothing, and those needed fit."""

from collections.abc import Iterator
from typing import Any

from kedro.pipeline import Pipeline

from .config import AblationConfig, ModelConfig, SearchConfig
from .configuration import Catalog
from .errors import UserError

WEIGHTS = "pretrained_weights"
_SETTING = "model.pretrained"
# Ends of the names of the parameters that may ask for them.
_ASKING = (".model", ".search", ".ablation")


def leave_out_unused(pipeline: Pipeline, catalog: Catalog) -> None:
    """Let the weights be left out where every recipe starts from random ones.

    They may have to be fetched, or made by another pipeline.
    """
    if WEIGHTS not in pipeline.inputs() or any(
        _starts_from_them(value) for _, value in _parameters(pipeline, catalog)
    ):
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
        for name in (name for name in node.inputs if name.endswith(_ASKING)):
            if _starts_from_them(catalog.load(name)):
                block = name.removeprefix("params:")
                asked = (
                    f"{block}.pretrained" if name.endswith(_ASKING[0]) else f"{block}: {_SETTING}"
                )
                raise UserError(
                    f"{asked}=true, but {node.namespace} takes no weights: set it to false, run "
                    f"transfer by this recipe, or register a model of your own with True in "
                    f"pipeline_registry.py"
                )


def _starts_from_them(value: Any) -> bool:
    """Whether a parameter is a model, or a study of one, that starts from the weights."""
    if isinstance(value, ModelConfig):
        return value.pretrained
    if isinstance(value, SearchConfig):
        return any(one.parameter == _SETTING and True in (one.values or ()) for one in value.space)
    if isinstance(value, AblationConfig):
        return any(one.get(_SETTING) for one in (value.base, *(c.set for c in value.changes)))
    return False


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
