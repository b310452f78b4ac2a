"""No parameter is wrong without a line that says so, before anything is written.

The wrong values are made from the typed models, so a new parameter is covered without a new test.
"""

import math
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar100_transfer import parameter_checks
from cifar100_transfer.config import Settings
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import choose_device
from tests.faults.conftest import Kedro
from tests.test_hooks import REGISTERED, VALUES, changed, check

TYPES = parameter_checks.parameter_types(REGISTERED)


@pytest.fixture(autouse=True)
def known_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the types of all parameters once, not at every check."""
    monkeypatch.setattr(parameter_checks, "parameter_types", lambda registered: TYPES)


def fields() -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield the name of every parameter, its JSON schema, and whether it must be given.

    Of groups with the same model, such as the recipes of two models, the first stands for all.
    """
    groups = {model: name for name, model in reversed(TYPES.items())}
    for model, name in groups.items():
        schema = model.model_json_schema()
        yield from _fields(name, schema, schema.get("$defs", {}))


def _fields(
    prefix: str, schema: dict[str, Any], definitions: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, field in schema["properties"].items():
        target = field.get("$ref", "").rpartition("/")[2]
        if "properties" in definitions.get(target, {}):
            yield from _fields(f"{prefix}.{name}", definitions[target], definitions)
        else:
            yield f"{prefix}.{name}", field, name in schema.get("required", [])


def wrong_values(schema: dict[str, Any]) -> list[Any]:
    """Return values beyond every limit of a schema, and of types it doesn't take."""
    if "anyOf" in schema:
        return [
            value
            for part in schema["anyOf"]
            if part.get("type") != "null" and "const" not in part
            for value in wrong_values(part)
            if value is not None
        ]
    kind = schema.get("type")
    wrong: list[Any] = [None]
    if kind not in ("boolean", "string", "integer", "number", "array"):
        return wrong
    wrong.append("perhaps" if kind == "boolean" else True)
    if kind == "string":
        wrong += [7, ["adam"]]
    if "enum" in schema or "pattern" in schema:
        wrong += ["", "nonsense", "*"]
    if kind in ("integer", "number"):
        wrong += ["many", [1], math.nan, math.inf, -math.inf]
        wrong += [schema[key] - 1 for key in ("minimum", "exclusiveMinimum") if key in schema]
        wrong += [schema[key] + 1 for key in ("maximum", "exclusiveMaximum") if key in schema]
        wrong += [schema[key] for key in ("exclusiveMinimum", "exclusiveMaximum") if key in schema]
    if kind == "integer":
        wrong.append(1.5)
    if kind == "array":
        wrong += ["plain", *([[]] if schema.get("minItems") else [])]
        if schema["items"].get("type") != "array":
            wrong += [[value] for value in wrong_values(schema["items"])]
    return wrong


ALL = {name: (schema, required) for name, schema, required in fields()}


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_parameter_refuses_everything_beyond_its_limits(name: str) -> None:
    for value in wrong_values(ALL[name][0]):
        with pytest.raises(UserError) as raised:
            check(changed(name, value))
        said = str(raised.value)
        assert name in said, value
        assert "conf/x.yml" in said
        assert "\n" not in said
        if value is not None:
            innermost = value[0] if isinstance(value, list) and value else value
            assert repr(innermost) in said


def test_every_number_has_a_lower_limit() -> None:
    for name, (schema, _) in ALL.items():
        for part in [schema, *schema.get("anyOf", []), schema.get("items", {})]:
            if part.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(part), name


@pytest.mark.parametrize("name", [name for name, (_, required) in ALL.items() if required])
def test_every_parameter_without_a_default_is_missed(name: str) -> None:
    group, _, last = name.rpartition(".")
    values = parameter_checks._lookup(VALUES, group)
    with pytest.raises(UserError, match=f"parameter '{name}' is missing"):
        check(changed(group, {key: value for key, value in values.items() if key != last}))


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_group_is_missed_and_is_no_scalar(name: str) -> None:
    with pytest.raises(UserError, match=f"parameter '{name}' is missing"):
        check(changed(name, None))
    with pytest.raises(UserError, match=f"{name}=5: this is a group of parameters"):
        check(changed(name, 5))


def test_every_model_of_parameters_is_closed_and_finite() -> None:
    for model in TYPES.values():
        assert issubclass(model, Settings)


@pytest.mark.parametrize("name", ["cuda:99999999999999999999", "cuda:01"])
def test_an_index_that_torch_cannot_read_is_no_device(name: str) -> None:
    with pytest.raises(UserError, match=f"compute.device={name} is no"):
        choose_device(name)


BASE = Path("conf/base/parameters_training.yml")


def misspell(content: bytes) -> bytes:
    return content.replace(b"    epochs: 20", b"    epocs: 20", 1)


def forget(content: bytes) -> bytes:
    return content.replace(b"    architecture: simple_cnn\n", b"    dropout: 0.1\n", 1)


@pytest.mark.parametrize(
    ("arguments", "change", "said"),
    [
        (["--params=split.seed=-1"], None, "--params: split.seed=-1: input should be greater"),
        (["--params=split.sed=1"], None, "--params: no parameter is called 'split.sed'; did you"),
        ([], misspell, f"{BASE}: no parameter is called 'simple_cnn.training.epocs'; did you"),
        ([], forget, f"{BASE}: parameter 'simple_cnn.model.architecture' is missing"),
        ([], lambda content: content + b"a: [1\n", f"{BASE} is no YAML: "),
        ([], lambda content: content + b"a: \xff\n", "can't be read"),
        (["--pipelines=ingestoin"], None, "no pipeline is called 'ingestoin'; choose ingestion"),
        (["--env=sampel"], None, "--env: no folder of conf/ is called 'sampel'; choose sample"),
        (["--namespaces=transfr"], None, "no namespace of ingestion is called 'transfr'"),
    ],
)
def test_the_command_line_says_it_in_one_line_before_anything_is_written(
    project: Path, kedro: Kedro, arguments: list[str], change: Any, said: str
) -> None:
    if change:
        (project / BASE).write_bytes(change((project / BASE).read_bytes()))
    # Processor time: on a busy machine the wall's says nothing about the command.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = kedro("run", "--env=sample", "--pipelines=ingestion", *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    errors = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert seconds < 5
    assert not (project / "data").exists()
