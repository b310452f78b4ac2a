"""A project of its own for every test: the shipped configuration with a tiny sample."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., Any]

# ResNet-50 itself runs in `make demo`; its smallest sibling takes the same path in a second.
SMALL = {
    "resnet50": {"model": {"architecture": "resnet18"}, "training": {"epochs": 1}},
    "transfer": {
        "model": {"architecture": "resnet18"},
        "training": {"epochs": 1, "batch_size": 64},
    },
    "pretraining": {
        "model": {"architecture": "resnet18"},
        "training": {"epochs": 1},
        "split": {"validation_share": 0.2},
    },
    "split": {"validation_share": 0.2},
    "simple_cnn": {"training": {"epochs": 2}},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Folder with the project's configuration, a sample of 500 images, and no data yet."""
    return copy_project(tmp_path)


def copy_project(folder: Path) -> Path:
    """Put the project's configuration into a folder, with a sample of 500 images."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "pyproject.toml", folder)
    catalog_file = folder / "conf" / "sample" / "catalog_01_raw.yml"
    catalog = yaml.safe_load(catalog_file.read_text())
    for name in ("cifar100_raw", "pretraining_raw"):
        catalog[name] |= {"train_per_class": 5, "test_per_class": 1}
    catalog_file.write_text(yaml.safe_dump(catalog))
    return folder


@pytest.fixture
def run(project: Path) -> Run:
    """Run a pipeline of the project in its own session."""

    def run(pipeline: str = "__default__", env: str = "sample", **options: Any) -> Any:
        bootstrap_project(ROOT)
        parameters = {**SMALL, **options.pop("parameters", {})}
        with KedroSession.create(
            project_path=project,
            env=env,
            conf_source=str(project / "conf"),
            runtime_params=parameters,
        ) as session:
            return session.run(pipeline_names=[pipeline], **options)

    return run


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every download fail at once."""

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def newest(folder: Path, name: str) -> Path:
    """Return the newest of Kedro's versions of an artifact."""
    return max((folder / name).glob(f"*/{name}"))
