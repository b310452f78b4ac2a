"""What may be imported when: every command would pay for what comes too early; and what at all."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

REGISTRY = """
import cifar100_transfer.settings, cifar100_transfer.pipeline_registry as registry
registry.register_pipelines()
"""
# What a run of `simple_cnn` needs before its first node.
CATALOG = """
import cifar100_transfer.datasets.tensors, cifar100_transfer.datasets.raw
from cifar100_transfer.models import check_architecture
check_architecture("simple_cnn")
"""
# torchvision takes as long to import as torch, scikit-learn nearly so.
HEAVY = (
    *("torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib", "cv2"),
    "kedro.framework.context",
)

ROOT = Path(__file__).resolve().parent.parent


def loaded(code: str) -> list[str]:
    """Return which of the heavy libraries a fresh interpreter has loaded after some code."""
    code += f"\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return finished.stdout.decode().split()


def test_the_registry_needs_nothing_heavy() -> None:
    assert loaded(REGISTRY) == []


def test_the_catalog_of_an_own_network_needs_torch_alone() -> None:
    assert loaded(CATALOG) == ["torch"]


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (names for extra, names in project["optional-dependencies"].items() if extra != "dev")
    required = [*project["dependencies"], *(name for names in extras for name in names)]
    declared = {re.split(r"[\[<>=!~; ]", line)[0].lower() for line in required}
    declared.add("pydantic_core")  # pydantic requires one version of it
    providers = packages_distributions()
    missing = {
        name
        for name in imported()
        if declared.isdisjoint(found.lower() for found in providers.get(name, [name]))
    }
    assert missing == set()


def imported() -> Iterator[str]:
    """Yield the packages of others that some module of the project imports."""
    own = {"cifar100_transfer", *sys.stdlib_module_names}
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            yield from {name.partition(".")[0] for name in names} - own
