"""The project's configuration, read whole before a run: its values, their origin, its faults."""

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml
from kedro.io import AbstractDataset, CatalogProtocol

from cifar100_transfer import selection_checks
from cifar100_transfer.errors import UserError
from cifar100_transfer.parameter_checks import GLOBAL_PATHS, Origin

if TYPE_CHECKING:  # a tenth of the time of `kedro registry list`, which needs none
    from kedro.framework.context import KedroContext

Catalog: TypeAlias = CatalogProtocol[str, AbstractDataset[Any, Any]]


def read_configuration(
    context: "KedroContext",
) -> tuple[Mapping[str, Any], Origin, dict[str, Any]]:
    """Return all parameters, where each is from, and the catalog's entries as they are written.

    A leading `~` of a path in `globals.yml` becomes the home folder, for all that refers to it.

    Raises:
        UserError: a file, be it of the catalog, is no YAML or refers to what there isn't, or the
            environment is unknown.
    """
    _check_environment(context)
    try:
        # Before anything is resolved: what refers to them would keep the old values.
        shared = context.config_loader["globals"]
        expand_home(shared, GLOBAL_PATHS)
        context.config_loader["globals"] = shared
        origin, entries = _locate(context), _unresolved_catalog(context)
        context.config_loader["catalog"]  # or its faults would come to light as tracebacks
        return context.config_loader["parameters"], origin, entries
    except UserError:
        raise
    except Exception as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> UserError:
    """Say in one line why the configuration can't be read."""
    # Kedro, OmegaConf and PyYAML each have exceptions of their own, over several lines.
    reason = " ".join(str(error).split())
    return UserError(f"the configuration in conf/ can't be read: {reason}")


def expand_home(values: dict[str, Any], names: Iterable[str]) -> None:
    """Let `~` be the home folder in paths; neither YAML nor a shell within `--params=` does."""
    for name in names:
        if isinstance(values.get(name), str) and values[name].startswith("~"):
            values[name] = os.path.expanduser(values[name])  # noqa: PTH111, leaves `~nobody` alone


def _check_environment(context: "KedroContext") -> None:
    source = Path(context.config_loader.conf_source)
    if context.env and source.is_dir():
        found = [path.name for path in source.iterdir() if path.is_dir()]
        selection_checks.check_name("--env", context.env, found, "folder of conf/")


def _locate(context: "KedroContext") -> Origin:
    files = _files(context, "parameters*.y*ml")
    return Origin(files, context.config_loader.runtime_params or {})


def _unresolved_catalog(context: "KedroContext") -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for content in reversed(_files(context, "catalog*.y*ml").values()):
        entries |= content
    return entries


def _files(context: "KedroContext", pattern: str) -> dict[str, Mapping[str, Any]]:
    """Return the content of the configuration's files, those of the environment first."""
    source = Path(context.config_loader.conf_source)
    files: dict[str, Mapping[str, Any]] = {}
    for environment in (context.env or "local", "base"):
        for name, text in _texts(source, environment, pattern):
            try:
                content = yaml.safe_load(text) or {}
            except yaml.YAMLError as error:
                raise UserError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
            if not isinstance(content, dict):
                raise UserError(f"{name} holds a {type(content).__name__} instead of names")
            files[name] = content
    return files


def _texts(source: Path, environment: str, pattern: str) -> Iterator[tuple[str, str]]:
    """Read files of an environment from a folder of configuration, or from one that is packed."""
    if source.is_dir():
        for file in sorted((source / environment).rglob(pattern)):
            yield str(file.relative_to(source.parent)), file.read_text(encoding="utf-8")
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                path = PurePosixPath(member.name)
                opened = archive.extractfile(member)
                if opened and environment in path.parts[:-1] and path.match(pattern):
                    yield f"{source.name}: {path}", opened.read().decode("utf-8")
