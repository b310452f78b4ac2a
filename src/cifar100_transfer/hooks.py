"""What happens around a run: parameters are checked, missing inputs made, errors made readable."""

import errno
import logging
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import click
import yaml
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from cifar100_transfer import selection_checks, weights_checks
from cifar100_transfer.config import (
    AblationConfig,
    ComputeConfig,
    ModelConfig,
    ScreeningConfig,
    SearchConfig,
)
from cifar100_transfer.datasets import ArtifactDataset, FolderDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import return_freed_memory
from cifar100_transfer.parameter_checks import (
    CATALOG_PARAMETERS,
    PATH_PARAMETERS,
    Origin,
    check_names,
    check_takers,
    check_texts,
    check_values,
    parameter_types,
    without_takers,
)

if TYPE_CHECKING:  # a tenth of the time of `kedro registry list`, which needs none
    from kedro.framework.context import KedroContext

logger = logging.getLogger(__name__)

# Of the nodes that train.
TRAINING_TAGS = {"training", "search", "ablation", "screening"}

Catalog: TypeAlias = CatalogProtocol[str, AbstractDataset[Any, Any]]


def fail(error: Exception) -> NoReturn:
    """End the run: with one line on the command line, with the exception itself elsewhere."""
    if click.get_current_context(silent=True) is None:
        raise error
    raise click.ClickException(str(error)) from error


# What a file system refuses for reasons that lie with the machine and its user.
_REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


class ErrorHooks:
    """Prints errors that the user can mend as one line, without a traceback."""

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Look for a `UserError`, or a refusal of the file system, among the causes."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, UserError):
                fail(cause)
            if isinstance(cause, OSError) and cause.errno in _REFUSALS:
                fail(
                    UserError(
                        f"{cause.filename or 'a file'}: {cause.strerror}: mend that and run again; "
                        f"what was finished is kept"
                    )
                )
            if _is_out_of_memory(cause):
                reason = (str(cause) or type(cause).__name__).splitlines()[0]
                fail(
                    UserError(
                        f"too little memory ({reason}): end what else uses it, or compute on "
                        f"another device (compute.device) or on smaller images "
                        f"(model.image_size); what was finished is kept"
                    )
                )
            cause = cause.__cause__


def _is_out_of_memory(error: BaseException) -> bool:
    from cifar100_transfer.models import is_out_of_memory  # torch takes seconds to import

    return is_out_of_memory(error)


class ParameterHooks:
    """Checks all parameters before anything is read or written."""

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Refuse unknown names, missing values, wrong types and values out of range."""
        given = context.config_loader.runtime_params or {}
        _expand_home(given)
        try:
            check_texts(given)
            values, origin = _read_parameters(context)
            registered = dict(pipelines)
            selected = selection_checks.select(_options(), registered)
            check_names(values, registered, origin)
            check_values(values, registered, origin, selected)
            if set(given) & set(CATALOG_PARAMETERS):
                check_takers(given, _unresolved_catalog(context), context.env or "local")
        except UserError as error:
            fail(error)


def _expand_home(given: dict[str, Any]) -> None:
    """Let `~` be the home folder in paths, which a shell leaves alone within `--params=`."""
    for name in PATH_PARAMETERS:
        if isinstance(given.get(name), str) and given[name].startswith("~"):
            given[name] = os.path.expanduser(given[name])  # noqa: PTH111, leaves `~nobody` alone


def _read_parameters(context: "KedroContext") -> tuple[Mapping[str, Any], Origin]:
    """Return all parameters, and where each is from.

    Raises:
        UserError: a file, be it of the catalog, is no YAML or refers to what there isn't, or the
            environment is unknown.
    """
    _check_environment(context)
    try:
        origin = _locate(context)
        # Of the catalog, too, or its faults would come to light as tracebacks.
        _unresolved_catalog(context)
        context.config_loader["catalog"]
        return context.config_loader["parameters"], origin
    except UserError:
        raise
    except Exception as error:
        # Kedro, OmegaConf and PyYAML each have exceptions of their own, over several lines.
        reason = " ".join(str(error).split())
        raise UserError(f"the configuration in conf/ can't be read: {reason}") from error


def _check_environment(context: "KedroContext") -> None:
    source = Path(context.config_loader.conf_source)
    if context.env and source.is_dir():
        found = [path.name for path in source.iterdir() if path.is_dir()]
        selection_checks.check_name("--env", context.env, found, "folder of conf/")


def _options() -> Mapping[str, Any]:
    command = click.get_current_context(silent=True)
    return command.params if command else {}


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


class PreflightHooks:
    """Checks, before the first node, what only this machine and the stored artifacts can tell.

    Attributes:
        prepared: the pipelines that the present run had to run first, in that order, each with its
            part that was run.
    """

    def __init__(self) -> None:
        self.prepared: list[tuple[str, Pipeline]] = []

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Catalog
    ) -> None:
        """Check clock, device, architectures and weights, and make inputs that are absent."""
        try:
            _check_clock(pipeline, catalog, run_params["run_id"])
            _check_machine(pipeline, catalog)
            _check_datasets(pipeline, catalog)
            _check_versions(pipeline, catalog, run_params.get("load_versions") or {})
            _check_runner(pipeline, str(run_params.get("runner")))
            weights_checks.leave_out_unused(pipeline, catalog)
        except UserError as error:
            fail(error)
        except DatasetError as error:
            reason = " ".join(str(error).split())
            fail(UserError(f"the catalog in conf/ can't be used: {reason}"))
        self.prepared = []
        self._make_inputs(pipeline, catalog, run_params)
        parts = (pipeline, *(part for _, part in self.prepared))
        given = run_params.get("runtime_params") or {}
        if idle := without_takers(given, inputs_of(parts)):
            logger.warning("--params: %s: no node of this run takes it", ", ".join(idle))
        try:
            weights_checks.check_fit(pipeline, catalog)
        except Exception as error:
            ErrorHooks().on_pipeline_error(error)
            raise

    def _make_inputs(
        self, pipeline: Pipeline, catalog: Catalog, run_params: dict[str, Any]
    ) -> None:
        for name in sorted(pipeline.inputs()):
            maker = _maker(catalog, name)
            if maker and not catalog.exists(name):
                logger.info("'%s' does not exist yet: running pipeline '%s' first", name, maker)
                # The session may have loaded only what was asked for.
                pipelines.set_requested(None)
                making = _part_for(name, pipelines[maker])
                self._make_inputs(making, catalog, run_params)
                self._run(making, catalog, run_params)
                self.prepared.append((maker, making))

    def _run(self, pipeline: Pipeline, catalog: Catalog, run_params: dict[str, Any]) -> None:
        from kedro.runner import SequentialRunner

        try:
            _type_parameters(pipeline, catalog)
            SequentialRunner().run(pipeline, catalog, run_id=run_params["run_id"])
            ResumeHooks().after_pipeline_run(pipeline, catalog)
        except Exception as error:
            ErrorHooks().on_pipeline_error(error)
            raise


def inputs_of(parts: Iterable[Pipeline]) -> set[str]:
    """Return the names of all that several pipelines, run one after the other, take."""
    return {name for part in parts for name in part.inputs()}


def _part_for(name: str, pipeline: Pipeline) -> Pipeline:
    """Return the nodes a dataset needs, or all where the pipeline stores it under another name."""
    return pipeline.to_outputs(name) if name in pipeline.all_outputs() else pipeline


def _type_parameters(pipeline: Pipeline, catalog: Catalog) -> None:
    """Put typed models in the place of a pipeline's plain parameters, as Kedro does for a run."""
    for name, model in parameter_types({"": pipeline}).items():
        catalog.save(f"params:{name}", model.model_validate(catalog.load(f"params:{name}")))


def _check_clock(pipeline: Pipeline, catalog: Catalog, version: str) -> None:
    """Refuse to store results under a version that would be older than what is stored.

    Versions are times, and the newest is loaded: after a clock went back, later runs would go on
    with old results as if they were new.
    """
    for name in sorted(pipeline.all_outputs()):
        dataset = catalog.get(name)
        if isinstance(dataset, ArtifactDataset) and (newest := dataset.newest_version()) > version:
            raise UserError(
                f"'{name}' has a version of {newest}, and by this machine's clock it is {version}: "
                f"set the clock right, or remove that version from {dataset.folder}"
            )


def _check_machine(pipeline: Pipeline, catalog: Catalog) -> None:
    from cifar100_transfer.models import check_architecture, choose_device

    for name in sorted(pipeline.inputs()):
        if not name.startswith("params:"):
            continue
        value = catalog.load(name)
        if isinstance(value, ComputeConfig):
            choose_device(value.device)
        elif isinstance(value, ModelConfig):
            try:
                check_architecture(value.architecture)
            except UserError as error:
                raise UserError(f"{name.removeprefix('params:')}.architecture: {error}") from None
        elif isinstance(value, SearchConfig | AblationConfig | ScreeningConfig):
            _check_tuning(name, value, catalog)


def _check_tuning(
    name: str, value: SearchConfig | AblationConfig | ScreeningConfig, catalog: Catalog
) -> None:
    from cifar100_transfer.tuning import space

    devices = catalog.load("params:compute").devices
    if devices > 1:
        raise UserError(
            f"compute.devices={devices}: a trial takes one device: leave it at 1, and give the "
            f"command once for every device, with compute.device=cuda:0, cuda:1, …"
        )
    try:
        if isinstance(value, ScreeningConfig):
            space.check_screening(value)
            return
        block = name.rpartition(".")[0]
        recipe = space.Recipe(catalog.load(f"{block}.model"), catalog.load(f"{block}.training"))
        if isinstance(value, SearchConfig):
            space.check_search(value, recipe)
        else:
            space.check_ablation(value, recipe)
    except UserError as error:
        raise UserError(f"{name.removeprefix('params:')}.{error}") from None


def _check_datasets(pipeline: Pipeline, catalog: Catalog) -> None:
    """Ask those datasets that can tell before the first node whether the run can use them."""
    for name in sorted(pipeline.inputs() | pipeline.all_outputs()):
        check = getattr(catalog.get(name), "check", None)
        if check:
            check()


def _check_versions(pipeline: Pipeline, catalog: Catalog, versions: Mapping[str, str]) -> None:
    """Refuse a version that is not there, and one that Kedro would pass over without a word."""
    for name, version in sorted(versions.items()):
        dataset = catalog.get(name)
        if name not in pipeline.inputs():
            loaded = ", ".join(sorted(filter(_is_no_parameter, pipeline.inputs())))
            raise UserError(
                f"--load-versions={name}:{version}: this run does not load '{name}' from where it "
                f"is stored, but {loaded or 'nothing'}"
            )
        if not isinstance(dataset, ArtifactDataset) or not dataset.is_versioned:
            raise UserError(
                f"--load-versions={name}:{version}: of '{name}' no versions are kept: leave it out"
            )
        if not dataset.exists():
            found = ", ".join(dataset.versions()) or "none at all"
            raise UserError(
                f"--load-versions={name}:{version}: there is no such version in {dataset.folder}; "
                f"there are: {found}"
            )


def _is_no_parameter(name: str) -> bool:
    return not name.startswith(("params:", "parameters"))


def _check_runner(pipeline: Pipeline, runner: str) -> None:
    """Refuse threads where something is trained: they would draw from one generator of torch's."""
    if runner.rpartition(".")[2].startswith("ThreadRunner") and any(
        node.tags & TRAINING_TAGS for node in pipeline.nodes
    ):
        raise UserError(
            "--runner=ThreadRunner: trainings in threads would share torch's random numbers, and "
            "no run could be repeated: take SequentialRunner or ParallelRunner"
        )


def _maker(catalog: Catalog, name: str) -> str | None:
    """Return the pipeline that makes an input, where its catalog entry names one."""
    metadata = getattr(catalog.get(name), "metadata", None) or {}
    return metadata.get("made_by")


class ResumeHooks:
    """Clears what long nodes kept for the case that the run is killed."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: Catalog) -> None:
        """Clear the resume folders of a run whose results are all stored by now."""
        for name in sorted(pipeline.inputs()):
            dataset = catalog.get(name)
            if isinstance(dataset, FolderDataset):
                dataset.clear()


class MemoryHooks:
    """Gives memory back to the system after every node: the next one needs other blocks."""

    @hook_impl
    def after_node_run(self) -> None:
        """Return what the node has freed and the C library has kept."""
        return_freed_memory()
