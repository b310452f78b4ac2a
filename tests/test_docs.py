"""What the documentation says is so."""

import re
from pathlib import Path

import pytest

from cifar100_transfer.parameter_checks import CATALOG_PARAMETERS, parameter_names
from cifar100_transfer.pipeline_registry import register_pipelines
from docs import parameters

PAGES = sorted([*parameters.ROOT.glob("*.md"), *(parameters.ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_page_of_parameters_is_current() -> None:
    assert parameters.PAGE.read_text(encoding="utf-8") == parameters.page(), (
        "run python -m docs.parameters"
    )


def test_the_page_names_every_parameter() -> None:
    sections = parameters.page().split("\n## ")[1:]
    named = set(CATALOG_PARAMETERS)
    for section in sections:
        title, _, table = section.partition("\n")
        fields = re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE)
        named |= {f"{group}.{field}" for group in re.findall(r"`(.+?)`", title) for field in fields}
    assert named == parameter_names(register_pipelines())
