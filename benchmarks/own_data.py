"""Kedro's runs of a benchmark leave the user's data alone."""

import shutil
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parent.parent


def copy_configuration(folder: Path, environment: str, data: Path) -> Path:
    """Copy the project's configuration into a folder; what the environment makes goes to `data`."""
    copy = shutil.copytree(PROJECT / "conf", folder / "conf")
    file = copy / environment / "globals.yml"
    values = yaml.safe_load(file.read_text()) if file.exists() else {}
    file.write_text(yaml.safe_dump(values | {"data_root": str(data)}))
    return copy
