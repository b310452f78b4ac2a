"""A pickle as an attacker would make it."""

import os
from pathlib import Path
from typing import Any


class Hostile:
    """Its pickle makes a file wherever it is loaded without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)
