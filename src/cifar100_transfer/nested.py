"""Nested values by dotted names, as parameters are written on a command line."""

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of all that is no group itself; an empty group is a leaf.

    Args:
        values: groups in groups.
        prefix: what every name begins with.
    """
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
