"""Recipes changed by data: dotted parameter paths and their candidate values."""

import contextlib
import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from cifar100_transfer.config import (
    AblationConfig,
    Changes,
    ModelConfig,
    Scalar,
    ScreeningConfig,
    SearchConfig,
    SpaceEntry,
    TrainingConfig,
)
from cifar100_transfer.errors import UserError

SEED = "training.seed"
BATCH_SIZE = "training.batch_size"
ARCHITECTURE = "model.architecture"


@dataclass(frozen=True)
class Recipe:
    """A model's block of parameters."""

    model: ModelConfig
    training: TrainingConfig

    def with_changes(self, changes: Mapping[str, Scalar]) -> "Recipe":
        """Return the recipe with other values at some dotted paths, checked as a whole.

        Raises:
            UserError: a path that no recipe has, or a value that its parameter refuses.
        """
        values = self.as_dict()
        for path, value in changes.items():
            _check_path(path)
            _put(values, path, value)
        try:
            return Recipe(
                ModelConfig.model_validate(values["model"]),
                TrainingConfig.model_validate(values["training"]),
            )
        except ValidationError as error:
            raise _refusal(error, changes) from None

    def as_dict(self) -> dict[str, Any]:
        """Return the block as plain nested values."""
        return {
            "model": self.model.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
        }


class _ConflictError(UserError):
    """Values that a recipe may refuse only for what its other values are."""


def parameter_paths() -> list[str]:
    """Return the dotted path of every parameter of a recipe, sorted."""
    return sorted(
        [*_paths(ModelConfig, "model"), *_paths(TrainingConfig, "training")],
    )


def check_search(search: SearchConfig, recipe: Recipe) -> None:
    """Raise a `UserError`, with near names, if a candidate can't be tried.

    A single combination that no recipe takes is none: its trial fails, and the search goes on.
    """
    named = [entry.parameter for entry in search.space]
    if BATCH_SIZE not in named:
        _check_batch_size(recipe.training, "recipe: ")
    for name in named:
        if named.count(name) > 1:
            raise UserError(f"space: '{name}' stands there more than once: keep one entry")
    for entry in search.space:
        _check_path(entry.parameter, "space: ")
        if entry.values is None and search.sampler == "grid":
            raise UserError(
                f"space: '{entry.parameter}' is a range, but sampler=grid takes values only: "
                f"list them, or set sampler to tpe"
            )
        for value in candidates(entry):
            # Whether it conflicts with the recipe is no matter: the others may change that.
            with contextlib.suppress(_ConflictError):
                _check_changes({entry.parameter: value}, recipe, "space")
    if search.sampler == "grid":
        _check_combinations(search.space, recipe)


def check_ablation(ablation: AblationConfig, recipe: Recipe) -> None:
    """Raise a `UserError`, with near names, unless base and changes make valid recipes."""
    _check_changes(ablation.base, recipe, "base")
    base = recipe.with_changes(ablation.base)
    _check_batch_size(base.training, "base: ")
    names = [change.name for change in ablation.changes]
    for change in ablation.changes:
        if names.count(change.name) > 1 or change.name == BASE:
            raise UserError(f"changes: '{change.name}' is taken: give every change its own name")
        _check_changes(change.set, base, f"changes: '{change.name}'")
        if base.with_changes(change.set) == base:
            raise UserError(f"changes: '{change.name}' changes nothing: its values are the base's")
    for name, values in (("base", ablation.base), *((c.name, c.set) for c in ablation.changes)):
        if SEED in values:
            raise UserError(f"'{name}' sets {SEED}: list seeds under seeds instead")
    _check_seeds(ablation.seeds)


def check_screening(screening: ScreeningConfig) -> None:
    """Raise a `UserError`, with near names, unless every architecture exists."""
    _check_batch_size(screening.training)
    for name in screening.architectures:
        _check_architecture(name, "architectures")
        if screening.architectures.count(name) > 1:
            raise UserError(f"architectures: '{name}' stands there more than once: keep one")
    _check_seeds(screening.seeds)


# Name of the unchanged recipe in an ablation.
BASE = "base"


def candidates(entry: SpaceEntry) -> tuple[Scalar, ...]:
    """Return the values of an entry, or the ends of its range."""
    if entry.values is not None:
        return entry.values
    return (_as_number(entry, entry.low), _as_number(entry, entry.high))


def combinations(space: Sequence[SpaceEntry]) -> Iterator[Changes]:
    """Yield every combination of the candidates of some entries; the last entry varies first."""
    names = [entry.parameter for entry in space]
    for values in itertools.product(*map(candidates, space)):
        yield dict(zip(names, values, strict=True))


def is_integer(entry: SpaceEntry) -> bool:
    """Whether the parameter of an entry takes whole numbers only.

    Raises:
        UserError: the parameter takes no numbers at all, so it can have no range.
    """
    kinds = _kinds(entry.parameter)
    if float in kinds:
        return False
    if int in kinds:
        return True
    raise UserError(f"space: '{entry.parameter}' is no number: list values instead of low and high")


def _as_number(entry: SpaceEntry, end: float | None) -> Scalar:
    if end is None:
        return None
    return int(end) if is_integer(entry) and end == int(end) else end


def _check_batch_size(training: TrainingConfig, where: str = "") -> None:
    """Refuse `auto`: trials would differ in a size that depends on the machine's load."""
    if training.batch_size == "auto":
        raise UserError(
            f"{where}{BATCH_SIZE}=auto makes trials that can't be compared: give a number"
        )


def _check_changes(changes: Changes, recipe: Recipe, where: str) -> None:
    """Check values that are set together: some are valid only with the others."""
    try:
        changed = recipe.with_changes(changes)
        if BATCH_SIZE in changes:
            _check_batch_size(changed.training)
        if ARCHITECTURE in changes:
            _check_architecture(changed.model.architecture, ARCHITECTURE)
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None


def _check_combinations(space: Sequence[SpaceEntry], recipe: Recipe) -> None:
    """Refuse a candidate that no combination with the others' candidates makes valid."""
    for entry in space:
        for value in candidates(entry):
            only = entry.model_copy(update={"values": (value,)})
            with_it = combinations([only if other is entry else other for other in space])
            if refusal := _refusal_of_all(with_it, recipe):
                raise UserError(f"space: {refusal}")


def _refusal_of_all(tried: Iterable[Changes], recipe: Recipe) -> str | None:
    """Return why the first is refused if all are, else None."""
    refusals = []
    for changes in tried:
        try:
            recipe.with_changes(changes)
        except UserError as error:
            refusals.append(str(error))
        else:
            return None
    return refusals[0]


def _check_architecture(name: str, where: str) -> None:
    from cifar100_transfer.models import check_architecture

    try:
        check_architecture(name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_seeds(seeds: tuple[int, ...]) -> None:
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds: {list(seeds)} names one seed more than once: keep one of each")


def _check_path(path: str, where: str = "") -> None:
    known = parameter_paths()
    if path not in known:
        near = difflib.get_close_matches(path, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose among {', '.join(known)}"
        raise UserError(f"{where}a recipe has no parameter '{path}': {hint}")


def _paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        groups = [kind for kind in _members(field.annotation) if issubclass(kind, BaseModel)]
        if not groups:
            yield f"{prefix}.{name}"
        for group in groups:
            yield from _paths(group, f"{prefix}.{name}")


def _kinds(path: str) -> set[type]:
    """Return the plain types that a parameter may have."""
    group, *names = path.split(".")
    models: list[type] = [ModelConfig if group == "model" else TrainingConfig]
    for name in names:
        models = [
            kind
            for model in models
            if issubclass(model, BaseModel) and name in model.model_fields
            for kind in _members(model.model_fields[name].annotation)
        ]
    return set(models)


def _members(annotation: Any) -> list[type]:
    """Return the types in an annotation, those of a union one by one."""
    if isinstance(annotation, type):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _members(part)]


def _refusal(error: ValidationError, changes: Mapping[str, Scalar]) -> UserError:
    """Return one line that names, of all changes, those at fault."""
    problem = error.errors()[0]
    group = "model" if error.title == ModelConfig.__name__ else "training"
    place = ".".join([group, *map(str, problem["loc"])])
    # The place is one of the values, or a group whose values don't go together.
    at_fault = [path for path in changes if f"{path}.".startswith(f"{place}.")] or changes
    named = ", ".join(f"{path}={changes[path]!r}" for path in at_fault)
    message = f"{named}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
    # `value_error` is from a validator of `config`, which may have looked at other values, too.
    return _ConflictError(message) if problem["type"] == "value_error" else UserError(message)


def _put(values: dict[str, Any], path: str, value: Scalar) -> None:
    *groups, name = path.split(".")
    for group in groups:
        values = values[group]
    values[name] = value
