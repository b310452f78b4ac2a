"""Passwords in the addresses of servers, which neither a log nor a file should repeat."""

import re
from collections.abc import Mapping
from typing import Any

# As SQLAlchemy reads an address: a password may hold anything but an @. To ask SQLAlchemy itself,
# every run would have to import it.
_USER_AND_PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")
_AS_PARAMETER = re.compile(r"([?&]password=)[^&]*")


def hide_passwords(value: Any) -> Any:
    """Return a text, or plain values in groups and lists, with *** for each address's password."""
    if isinstance(value, str):
        return _AS_PARAMETER.sub(r"\1***", _USER_AND_PASSWORD.sub(r"\1***@", value))
    if isinstance(value, Mapping):
        return {name: hide_passwords(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide_passwords(inner) for inner in value]
    return value
