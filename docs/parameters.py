"""Write docs/parameters.md from the typed parameters.

python -m docs.parameters
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cifar100_transfer.parameter_checks import CATALOG_PARAMETERS, parameter_types
from cifar100_transfer.pipeline_registry import register_pipelines

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "parameters.md"

HEAD = """\
# Parameters

<!-- Written by `python -m docs.parameters`; edit src/cifar100_transfer/config.py instead. -->

Every parameter with its range and its default. Values stand in `conf/base/parameters*.yml`; an
environment changes only those it names. For one run: `--params=simple_cnn.training.epochs=5`. A
name or value that is not in these tables stops the run before it starts.
"""
TABLE = "| name | values | default | meaning |\n| --- | --- | --- | --- |\n"
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {}",
    "pattern": "`{}`",
}
PLAIN_NAMES = {"string": "text", "boolean": "true, false", "number": "number", "object": "mapping"}


def page() -> str:
    """Return the page."""
    groups: dict[type[BaseModel], list[str]] = defaultdict(list)
    for name, model in parameter_types(register_pipelines()).items():
        groups[model].append(name)
    sections = [
        _section(model, sorted(names))
        for model, names in sorted(groups.items(), key=lambda group: min(group[1]))
    ]
    return "\n".join([HEAD, *sections, _catalog_section()])


def _section(model: type[BaseModel], names: list[str]) -> str:
    title = ", ".join(f"`{name}`" for name in names)
    schema = model.model_json_schema()
    rows = "".join(_rows(_inlined(schema, schema.get("$defs", {}))))
    return f"## {title}\n\n{model.__doc__}\n\n{TABLE}{rows}"


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a JSON schema with every reference replaced by what it refers to."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        referred = definitions[schema["$ref"].rpartition("/")[2]]
        schema = {**referred, **{k: v for k, v in schema.items() if k != "$ref"}}
    return {k: _inlined(part, definitions) for k, part in schema.items() if k != "$defs"}


def _rows(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, field in schema["properties"].items():
        if "properties" in field:
            yield from _rows(field, f"{prefix}{name}.")
            continue
        default = "required" if name in schema.get("required", ()) else _value(field["default"])
        yield f"| `{prefix}{name}` | {_values(field)} | {default} | {field['description']} |\n"


def _values(field: dict[str, Any]) -> str:
    """Return in words what a field of a JSON schema accepts."""
    if "anyOf" in field:
        return " or ".join(map(_values, field["anyOf"]))
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "properties" in field:
        return "; ".join(f"`{name}`: {_values(part)}" for name, part in field["properties"].items())
    bounds = [text.format(field[key]) for key, text in BOUNDS.items() if key in field]
    if "prefixItems" in field:
        return f"list of ({'; '.join(map(_values, field['prefixItems']))})"
    if field.get("type") == "array":
        return ", ".join([f"list of ({_values(field['items'])})", *bounds])
    kind = PLAIN_NAMES.get(field.get("type"), field.get("type", "any value"))
    return " ".join([kind, " and ".join(bounds)]).replace("|", r"\|").strip()


def _value(default: Any) -> str:
    if default is None:
        return "null"
    if isinstance(default, bool):
        return str(default).lower()
    return (", ".join(map(str, default)) or "none") if isinstance(default, list) else str(default)


def _catalog_section() -> str:
    """Return the parameters that no node sees, with the catalog entries that read them."""
    rows = []
    for name in CATALOG_PARAMETERS:
        readers = sorted(
            f"`{entry}` in `{file.relative_to(ROOT)}`"
            for file in (ROOT / "conf").glob("*/catalog*.y*ml")
            for entry in _entries_reading(name, file.read_text(encoding="utf-8"))
        )
        rows.append(f"| `{name}` | {', '.join(readers) or 'a hook: [Tracking](tracking.md)'} |\n")
    return (
        "## For one run, read by the catalog\n\nFor example `--params=raw_data=DIR`.\n\n"
        "| name | read by |\n| --- | --- |\n" + "".join(rows)
    )


def _entries_reading(parameter: str, text: str) -> Iterator[str]:
    for block in re.split(r"\n(?=\S)", text):
        if f"runtime_params:{parameter}" in block:
            yield block.partition(":")[0].strip('"')


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
