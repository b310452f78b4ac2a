"""What happens around a run: parameters are checked, missing inputs made, errors made readable."""

import errno
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from cifar100_transfer import selection_checks, weights_checks
from cifar100_transfer.configuration import Catalog, expand_home, read_configuration
from cifar100_transfer.datasets import ArtifactDataset, FolderDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import return_freed_memory
from cifar100_transfer.parameter_checks import (
    CATALOG_PARAMETERS,
    PATH_PARAMETERS,
    RAW_DATA_PARAMETERS,
    check_chosen_model,
    check_hook_parameters,
    check_names,
    check_takers,
    check_texts,
    check_values,
    parameter_types,
    without_takers,
)
from cifar100_transfer.preflight_checks import (
    check_images,
    check_run,
    maker_of,
    members_of,
    registered,
)

if TYPE_CHECKING:  # a tenth of the time of `kedro registry list`, which needs none
    from kedro.framework.context import KedroContext

logger = logging.getLogger(__name__)


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


# Loggers of Kedro's that print an error in their own way, and advise to repeat the run.
_ADVISORS = (
    "kedro.pipeline.node",
    *(f"kedro.runner.{kind}_runner" for kind in ("sequential", "thread", "parallel")),
)


# Of torch's `InvalidCxxCompiler`, whose module takes a second to import.
_NO_COMPILER = "No working C++ compiler found"


class ErrorHooks:
    """Prints errors that the user can mend as one line, without a traceback."""

    def __init__(self) -> None:
        for name in _ADVISORS:
            logging.getLogger(name).addFilter(_is_said_by_nobody_else)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Look for a `UserError`, or a refusal of the file system, among the causes."""
        if mendable := _mendable(error):
            fail(mendable)


def _is_said_by_nobody_else(_record: logging.LogRecord) -> bool:
    error = sys.exc_info()[1]
    return error is None or _mendable(error) is None


def _mendable(error: BaseException) -> UserError | None:
    """Return what the user can mend, of an error and its causes, in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, OSError) and cause.errno in _REFUSALS:
            return UserError(
                f"{cause.filename or 'a file'}: {cause.strerror}: mend that and run again; "
                f"what was finished is kept"
            )
        from cifar100_transfer.models import is_out_of_memory  # not sooner: it imports torch

        if is_out_of_memory(cause):
            reason = (str(cause) or type(cause).__name__).splitlines()[0]
            return UserError(
                f"too little memory ({reason}): end what else uses it, or compute on another "
                f"device (compute.device) or on smaller images (model.image_size); what was "
                f"finished is kept"
            )
        if _NO_COMPILER in str(cause):
            return UserError(
                "compute.compile=true needs a C++ compiler, and none works here: install one, such "
                "as g++, or set it to false"
            )
        cause = cause.__cause__
    return None


def _options() -> Mapping[str, Any]:
    command = click.get_current_context(silent=True)
    return command.params if command else {}


class ParameterHooks:
    """Checks all parameters before anything is read or written."""

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Refuse unknown names, missing values, wrong types and values out of range."""
        given = context.config_loader.runtime_params or {}
        expand_home(given, PATH_PARAMETERS)
        try:
            check_texts(given)
            values, origin, entries = read_configuration(context)
            registered = dict(pipelines)
            selected = selection_checks.select(_options(), registered)
            check_names(values, registered, origin)
            check_values(values, registered, origin, selected)
            check_hook_parameters(values, origin)
            if set(given) & set(CATALOG_PARAMETERS):
                check_takers(given, entries, context.env or "local")
        except UserError as error:
            fail(error)


class PreflightHooks:
    """Checks, before the first node, what only this machine and the stored artifacts can tell.

    Attributes:
        prepared: the pipelines that the present run had to run first, in that order, each with its
            part that was run.
        before_preparing: is called before each of them.
    """

    def __init__(self) -> None:
        self.prepared: list[tuple[str, Pipeline]] = []
        self.before_preparing: Callable[[], None] = lambda: None

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Catalog
    ) -> None:
        """Check clock, device, architectures and weights, and make inputs that are absent."""
        given = run_params.get("runtime_params") or {}
        try:
            check_chosen_model(given, pipeline.inputs())
            check_run(pipeline, catalog, run_params)
            weights_checks.leave_out_unused(pipeline, catalog)
        except UserError as error:
            fail(error)
        self.prepared = []
        self._make_inputs(pipeline, catalog, run_params)
        parts = (pipeline, *(part for _, part in self.prepared))
        _warn_of_idle(without_takers(given, inputs_of(parts)), pipeline)
        try:
            check_images(pipeline, catalog)
            weights_checks.check_fit(pipeline, catalog)
        except Exception as error:
            ErrorHooks().on_pipeline_error(error)
            raise

    def _make_inputs(
        self, pipeline: Pipeline, catalog: Catalog, run_params: dict[str, Any]
    ) -> None:
        members = {f"{member}.classifier" for member in members_of(pipeline, catalog)}
        for name in sorted(pipeline.inputs() | members):
            maker = maker_of(catalog, name)
            if maker and not catalog.exists(name):
                logger.info("'%s' does not exist yet: running pipeline '%s' first", name, maker)
                making = _part_for(name, registered()[maker])
                self._make_inputs(making, catalog, run_params)
                self._run(making, catalog, run_params)
                self.prepared.append((maker, making))

    def _run(self, pipeline: Pipeline, catalog: Catalog, run_params: dict[str, Any]) -> None:
        from kedro.runner import SequentialRunner

        try:
            self.before_preparing()
            _type_parameters(pipeline, catalog)
            SequentialRunner().run(pipeline, catalog, run_id=run_params["run_id"])
            ResumeHooks().after_pipeline_run(run_params, pipeline, catalog)
        except Exception as error:
            ErrorHooks().on_pipeline_error(error)
            raise


def _warn_of_idle(idle: list[str], pipeline: Pipeline) -> None:
    """Warn of parameters of the command line, `path=value` each, that change nothing."""
    ingested = {
        name.removeprefix("params:")
        for name in registered()["ingestion"].inputs()
        if name.startswith("params:")
    } | {*RAW_DATA_PARAMETERS}
    # A run on stored images is often given what they were made with.
    on_stored = any(name.endswith("_set") for name in pipeline.inputs())
    of_ingestion = [
        one for one in idle if on_stored and one.partition("=")[0].partition(".")[0] in ingested
    ]
    if others := [one for one in idle if one not in of_ingestion]:
        logger.warning("--params: %s: no node of this run takes it", ", ".join(others))
    if of_ingestion:
        # Whoever judges what was trained gives the same parameters again.
        is_usual = "train_set" not in pipeline.inputs()
        logger.log(
            logging.INFO if is_usual else logging.WARNING,
            "--params: %s: without effect, as the images are those that are stored",
            ", ".join(of_ingestion),
        )


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


class ResumeHooks:
    """Clears what long nodes kept for the case that the run is killed."""

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Catalog
    ) -> None:
        """Clear the folders of those nodes whose results this run has stored.

        Of a node that Kedro left out because its results are there (`--only-missing-outputs`) the
        folder may be what another run, that was killed, will go on from.
        """
        for node in pipeline.nodes:
            if any(_has_version(catalog.get(name), run_params["run_id"]) for name in node.outputs):
                for name in node.inputs:
                    dataset = catalog.get(name)
                    if isinstance(dataset, FolderDataset):
                        dataset.clear()


def _has_version(dataset: Any, version: str) -> bool:
    return isinstance(dataset, ArtifactDataset) and dataset.has_version(version)


class MemoryHooks:
    """Gives memory back to the system after every node: the next one needs other blocks."""

    @hook_impl
    def after_node_run(self) -> None:
        """Return what the node has freed and the C library has kept."""
        return_freed_memory()
