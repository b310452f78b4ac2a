"""Tables of measured figures say what is stored."""

import importlib

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(("script", "page"), [("results", "README.md"), ("soak", "docs/faults.md")])
def test_the_tables_are_those_of_the_stored_figures(script: str, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    made = importlib.import_module(script).with_tables(text)
    assert made == text, f"run python benchmarks/{script}.py tables"


@pytest.mark.parametrize("page", ["docs/throughput.md", "docs/tuning.md", "docs/champion.md"])
def test_the_tables_of_further_pages_are_those_of_the_stored_figures(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    made = importlib.import_module("results").with_tables(text, page)
    assert made == text, "run python benchmarks/results.py tables"


def test_the_command_of_an_older_recipe_names_what_has_changed() -> None:
    results = importlib.import_module("results")
    model, training = importlib.import_module("champion").read_recipe(
        "base", ["training.epochs=3", "training.seed=7", "training.averaging.name=none"]
    )
    record = {
        "command": "python benchmarks/champion.py run",
        "recipe": {"model": model.model_dump(), "training": training.model_dump(mode="json")},
    }
    assert results._champion_command(record) == (
        "python benchmarks/champion.py run --set training.epochs=3 training.averaging.name=none"
    )


def test_a_changed_figure_is_noticed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    changed = text.replace("| SimpleCNN | 37.26 |", "| SimpleCNN | 37.27 |")
    assert changed != text
    assert importlib.import_module("results").with_tables(changed) == text
