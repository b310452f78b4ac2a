"""Whether the parts of the project that a command asks for are there."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from cifar100_transfer.errors import UserError

Registry = Mapping[str, Pipeline]


def select(options: Mapping[str, Any], registered: Registry) -> list[Node]:
    """Return the nodes of the pipelines that a command asks for, as far as its namespaces go.

    Args:
        options: of the command `kedro run`, by Kedro's own names for them.
        registered: all pipelines.

    Raises:
        UserError: there is no pipeline, namespace, node, tag or dataset of a name that is given, or
            no node that all options together leave.
    """
    names = _given(options, "pipeline", "pipelines") or ["__default__"]
    for name in names:
        check_name("--pipelines", name, registered, "pipeline")
    chosen = [node for name in names for node in registered[name].nodes]
    nodes = {node.name for node in chosen}
    tags = {tag for node in chosen for tag in node.tags}
    datasets = {dataset for node in chosen for dataset in (*node.inputs, *node.outputs)}
    of_the_pipeline = f"of {' and '.join(names)}" if names != ["__default__"] else "of the default"
    filters = {
        "node_namespaces": ("namespaces", "--namespaces", _namespaces(chosen), "namespace"),
        "node_names": ("node_names", "--nodes", nodes, "node"),
        "from_nodes": ("from_nodes", "--from-nodes", nodes, "node"),
        "to_nodes": ("to_nodes", "--to-nodes", nodes, "node"),
        "tags": ("tags", "--tags", tags, "tag"),
        "from_inputs": ("from_inputs", "--from-inputs", datasets, "dataset"),
        "to_outputs": ("to_outputs", "--to-outputs", datasets, "dataset"),
    }
    for option, flag, known, kind in filters.values():
        for name in _given(options, option):
            check_name(flag, name, known, f"{kind} {of_the_pipeline}")
    everything = {name for pipeline in registered.values() for name in pipeline.datasets()}
    for name in _given(options, "load_versions"):
        check_name("--load-versions", name, everything, "dataset")
    wanted = {
        argument: values
        for argument, (option, *_) in filters.items()
        if (values := _given(options, option))
    }
    if wanted:
        try:
            sum((registered[name] for name in names), Pipeline([])).filter(**wanted)
        except ValueError:
            flags = " and ".join(filters[argument][1] for argument in wanted)
            raise UserError(f"{flags} together leave no node {of_the_pipeline} to run") from None
    spaces = set(_given(options, "namespaces"))
    return [node for node in chosen if not spaces or spaces & _namespaces([node])]


def _namespaces(nodes: Iterable[Node]) -> set[str]:
    """Return the namespaces of nodes, and those around them."""
    return {prefix for node in nodes if node.namespace for prefix in node.namespace_prefixes}


def _given(options: Mapping[str, Any], *names: str) -> list[str]:
    """Return the values of some options; Kedro's commands disagree on which can have several."""
    values = [options.get(name) or [] for name in names]
    return [one for some in values for one in ([some] if isinstance(some, str) else some)]


def check_name(flag: str, name: str, known: Collection[str], kind: str) -> None:
    """Raise a `UserError` with near names, or else some, if a name is none of those there are."""
    if name in known:
        return
    near = difflib.get_close_matches(name, sorted(known), n=3)
    choices = " or ".join(near) if near else _few(sorted(known))
    hint = f"; choose {choices}" if choices else ""
    raise UserError(f"{flag}: no {kind} is called '{name}'{hint}")


def _few(names: list[str]) -> str:
    return ", ".join([*names[:20], "…"] if len(names) > 20 else names)
