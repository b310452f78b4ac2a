"""What only this machine and the stored artifacts can tell, checked before the first node."""

from collections.abc import Mapping
from typing import Any

from kedro.io import DatasetError
from kedro.io.core import generate_timestamp
from kedro.pipeline import Pipeline

from cifar100_transfer.config import (
    AblationConfig,
    ComputeConfig,
    EnsembleConfig,
    ModelConfig,
    ScreeningConfig,
    SearchConfig,
)
from cifar100_transfer.configuration import Catalog
from cifar100_transfer.datasets import ArtifactDataset
from cifar100_transfer.errors import UserError

# Of the nodes that train.
TRAINING_TAGS = {"training", "search", "ablation", "screening"}


def check_run(pipeline: Pipeline, catalog: Catalog, run_params: Mapping[str, Any]) -> None:
    """Check clock, device, architectures, searches, datasets, versions and runner of a run.

    Raises:
        UserError: one of them can't be used.
    """
    try:
        _check_clock(pipeline, catalog, run_params["run_id"])
        _check_machine(pipeline, catalog)
        _check_datasets(pipeline, catalog)
        _check_versions(pipeline, catalog, run_params.get("load_versions") or {})
        _check_runner(pipeline, str(run_params.get("runner")))
    except DatasetError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the catalog in conf/ can't be used: {reason}") from error


def _check_clock(pipeline: Pipeline, catalog: Catalog, version: str) -> None:
    """Refuse to store results under a version that would be older than what is stored.

    Versions are times, and the newest is loaded: after a clock went back, later runs would go on
    with old results as if they were new. What another run has stored since this one began is newer
    than this one's version, but not than the clock.
    """
    now = max(version, generate_timestamp())
    for name in sorted(pipeline.all_outputs()):
        dataset = catalog.get(name)
        if isinstance(dataset, ArtifactDataset) and (newest := dataset.newest_version()) > now:
            raise UserError(
                f"'{name}' has a version of {newest}, and by this machine's clock it is {now}: "
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
        elif isinstance(value, EnsembleConfig):
            catalog.load("stored_classifiers").check(value.members)
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
