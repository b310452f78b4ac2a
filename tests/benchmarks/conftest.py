"""Benchmarks as modules."""

from collections.abc import Iterator

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session", autouse=True)
def benchmarks_on_the_path() -> Iterator[None]:
    """Scripts import one another from the folder they run in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield
