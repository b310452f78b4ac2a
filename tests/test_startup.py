"""What may be imported when: every command would pay for what comes too early."""

import subprocess
import sys

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


def loaded(code: str) -> list[str]:
    """Return which of the heavy libraries a fresh interpreter has loaded after some code."""
    code += f"\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return finished.stdout.decode().split()


def test_the_registry_needs_nothing_heavy() -> None:
    assert loaded(REGISTRY) == []


def test_the_catalog_of_an_own_network_needs_torch_alone() -> None:
    assert loaded(CATALOG) == ["torch"]
