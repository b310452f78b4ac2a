"""What parameters there are, and whether given ones are right: names, types, ranges, and takers."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_origin

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.validation import TypeExtractor
from pydantic import BaseModel, ValidationError

from cifar100_transfer.errors import UserError
from cifar100_transfer.nested import leaves

Registry = Mapping[str, Pipeline]

# Parameters that the catalog or a hook reads; no node sees them.
CATALOG_PARAMETERS = (
    *("raw_data", "weights", "challenge_data", "challenge_source"),
    *("model", "images", "image_size", "test_share", "studies", "mlflow", "tensorboard"),
)
# Of these, what are numbers; and by what raw data becomes the images that are stored.
_NUMBERS = ("image_size", "test_share")
RAW_DATA_PARAMETERS = ("raw_data", *_NUMBERS)
# Of these, what hooks take and not the catalog; and what are paths, there and in globals.yml.
HOOK_PARAMETERS = ("mlflow", "tensorboard")
PATH_PARAMETERS = ("raw_data", "weights", "challenge_data", "images")
GLOBAL_PATHS = ("data_root", "raw_data", "weights")
# Pipelines whose parameters a model may do without, and these parameters.
OPTIONAL = ("tuning", "ablation")
_OF_STUDIES = ("search", "ablation")


def check_names(values: Mapping[str, Any], registered: Registry, origin: "Origin") -> None:
    """Raise a `UserError` if a parameter belongs to no node of any registered pipeline."""
    known = parameter_names(registered)
    open_to_keys = _dictionaries(registered)
    for path, value in leaves(values):
        if path in known:
            continue
        if any(name.startswith(f"{path}.") for name in known):
            if value is None or isinstance(value, Mapping):
                continue
            raise UserError(f"{origin(path)}: {path}={value!r}: this is a group of parameters")
        if path.startswith(open_to_keys):
            continue
        near = difflib.get_close_matches(path, sorted(known), n=3, cutoff=0.7)
        hint = f"did you mean {' or '.join(near)}?" if near else "see conf/base/parameters*.yml"
        raise UserError(f"{origin(path)}: no parameter is called '{path}'; {hint}")


def check_values(
    values: Mapping[str, Any], registered: Registry, origin: "Origin", selected: Iterable[Node]
) -> None:
    """Raise a `UserError` that names every group that is missing and every value that is refused.

    Args:
        values: all parameters.
        registered: all pipelines.
        origin: says where a value is from.
        selected: nodes that are to be run. A model may do without a block for tuning or ablation,
            as long as it is not tuned.
    """
    always = [node for name in set(registered) - set(OPTIONAL) for node in registered[name].nodes]
    needed = {name.removeprefix("params:") for node in (*always, *selected) for name in node.inputs}
    problems = []
    for name, model in parameter_types(registered).items():
        value = _lookup(values, name)
        if value is None:
            if name in needed:
                of_study = name.rpartition(".")[2] in _OF_STUDIES
                instead = ": give it one, or name others with --namespaces" if of_study else ""
                problems.append(f"{origin(name)}: parameter '{name}' is missing{instead}")
            continue
        try:
            model.model_validate(value)
        except ValidationError as error:
            problems += [_explain(problem, name, origin) for problem in error.errors()]
    if problems:
        raise UserError("; ".join(problems))


def check_takers(given: Mapping[str, Any], entries: Mapping[str, Any], environment: str) -> None:
    """Raise a `UserError` if the command line gives the catalog what no entry of it takes.

    Without this, `--env=sample --params=raw_data=DIR` would train on the embedded images.

    Args:
        given: parameters of the command line.
        entries: the catalog's, unresolved; empty where its files can't be read one by one.
        environment: its name.
    """
    text = str(entries)
    for name in CATALOG_PARAMETERS:
        taken = name in HOOK_PARAMETERS or re.search(rf"runtime_params:{name}\b", text)
        if name in given and entries and not taken:
            raise UserError(
                f"--params: {name}={given[name]}: no catalog entry takes it with "
                f"--env={environment}: leave it out, or choose another environment"
            )


def check_texts(given: Mapping[str, Any]) -> None:
    """Raise a `UserError` if the command line gives the catalog or a hook a number, or nothing.

    `--params=raw_data=$DIR` gives nothing where DIR is not set, and a name of digits is a number.
    """
    for name in CATALOG_PARAMETERS:
        value = given.get(name, "")
        if name not in _NUMBERS and (value is None or isinstance(value, int | float)):
            advice = "nothing is given" if value is None else f"for a file or folder give ./{value}"
            raise UserError(f"--params: {name}={'' if value is None else value}: {advice}")


def check_hook_parameters(values: Mapping[str, Any], origin: "Origin") -> None:
    """Raise a `UserError` if what a hook takes is neither a text nor nothing, be it of a file."""
    for name in HOOK_PARAMETERS:
        value = values.get(name)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{origin(name)}: {name}={value!r}: give a text, or leave it out")


def check_chosen_model(given: Mapping[str, Any], inputs: Iterable[str]) -> None:
    """Raise a `UserError` if a model is chosen in the manner of other pipelines than these.

    Without this, `--pipelines=submission --params=model=NAME` would run, and train, all models.

    Args:
        given: parameters of the command line.
        inputs: names of what the nodes of the run take.
    """
    if "model" in given and "chosen_classifier" not in inputs:
        raise UserError(
            f"--params: model={given['model']}: this pipeline chooses models by namespace: give "
            f"--namespaces={given['model']} instead"
        )


def without_takers(given: Mapping[str, Any], inputs: Iterable[str]) -> list[str]:
    """Return the parameters of the command line that no node of a run takes, as `path=value`.

    What the catalog and hooks take is left out, but for `raw_data` and its like where the run reads
    none, but images that are stored already, which may be others.

    Args:
        given: parameters of the command line.
        inputs: names of what the nodes of the run take.
    """
    taken = set(inputs)
    groups = {name.removeprefix("params:") for name in taken if name.startswith("params:")}
    idle = [
        f"{path}={value}"
        for path, value in leaves(given)
        if path.partition(".")[0] not in CATALOG_PARAMETERS
        and not any(f"{path}.".startswith(f"{group}.") for group in groups)
    ]
    if any(name.endswith("_set") for name in taken) and "cifar100_raw" not in taken:
        idle += [f"{name}={given[name]}" for name in RAW_DATA_PARAMETERS if name in given]
    return idle


def parameter_types(registered: Registry) -> dict[str, type[BaseModel]]:
    """Return the typed model of every parameter group that some node takes."""
    types: dict[str, type[BaseModel]]
    types = TypeExtractor(dict(registered)).extract_types_from_pipelines()
    return types


def parameter_names(registered: Registry) -> set[str]:
    """Return the dotted name of every parameter there is."""
    groups = parameter_types(registered)
    taken = {name for pipeline in registered.values() for name in pipeline.inputs()}
    single = {name.removeprefix("params:") for name in taken if name.startswith("params:")}
    in_groups = {path for name, model in groups.items() for path in _fields(model, name)}
    return in_groups | (single - set(groups)) | set(CATALOG_PARAMETERS)


def _dictionaries(registered: Registry) -> tuple[str, ...]:
    """Return the beginnings of the names under parameters whose own keys are data."""
    return tuple(
        f"{path}."
        for group, model in parameter_types(registered).items()
        for path in _fields(model, group)
        if get_origin(_annotation(model, path.removeprefix(f"{group}."))) is dict
    )


def _annotation(model: type[BaseModel], path: str) -> Any:
    kind: Any = model
    for name in path.split("."):
        kind = kind.model_fields[name].annotation
    return kind


def _fields(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}"


def _explain(problem: Any, name: str, origin: "Origin") -> str:
    path = ".".join([name, *map(str, problem["loc"])])
    if problem["type"] == "missing":
        return f"{origin(path)}: parameter '{path}' is missing"
    if problem["type"] == "tuple_type":
        return f"{origin(path)}: {path}={problem['input']!r}: give a list, such as '{path}=[…]'"
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{origin(path)}: {path}={problem['input']!r}: {message}"


class Origin:
    """Says where a parameter's value is from: `--params`, or a file of the configuration.

    Args:
        files: content of every parameters file, the one that wins first.
        runtime: parameters given on the command line.
    """

    def __init__(self, files: Mapping[str, Mapping[str, Any]], runtime: Mapping[str, Any]) -> None:
        self._files = files
        self._runtime = runtime

    def __call__(self, path: str) -> str:
        """Return the place that sets `path`, or else the nearest group around it."""
        while path:
            if _lookup(self._runtime, path, _ABSENT) is not _ABSENT:
                return "--params"
            for file, content in self._files.items():
                if _lookup(content, path, _ABSENT) is not _ABSENT:
                    return file
            path = path.rpartition(".")[0]
        return "conf/base/parameters*.yml"


# What is looked up and not there, where null is a value.
_ABSENT = object()


def _lookup(values: Any, path: str, default: Any = None) -> Any:
    for part in path.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return default
        values = values[part]
    return values
