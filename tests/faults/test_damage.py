"""Whatever is damaged is refused in one line, left unused with a warning, or read right."""

from pathlib import Path

import pytest

from tests.faults.mutations import TARGETS, official_challenge, outcomes

# `make soak` tries a thousand of each.
MUTATIONS = 40


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_never_taken_for_right(tmp_path: Path, name: str) -> None:
    with official_challenge():
        counted = outcomes(name, tmp_path, MUTATIONS, seed=0)
    assert counted.total() == MUTATIONS
    assert counted["refused"] + counted["unused"] > 0
