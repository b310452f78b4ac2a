"""What only this machine and the stored artifacts can tell, checked before the first node."""

from collections.abc import Mapping
from typing import Any

from kedro.framework.project import pipelines
from kedro.io import DatasetError
from kedro.io.core import generate_timestamp
from kedro.pipeline import Pipeline

from cifar100_transfer.config import (
    ADAPTING,
    AblationConfig,
    ComputeConfig,
    EnsembleConfig,
    ModelConfig,
    ScreeningConfig,
    SearchConfig,
    TrainingConfig,
)
from cifar100_transfer.configuration import Catalog
from cifar100_transfer.datasets import ArtifactDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipeline_registry import ENSEMBLE

_ENSEMBLE = "params:ensemble"
_CHALLENGE = "challenge_files"
_SUBMISSION = "params:submission"
# Of the nodes that train.
TRAINING_TAGS = {"training", "search", "ablation", "screening"}


def check_run(pipeline: Pipeline, catalog: Catalog, run_params: Mapping[str, Any]) -> None:
    """Check clock, device, architectures, searches, datasets, versions and runner of a run.

    Of its inputs, those are missed that no pipeline makes when a run needs them.

    Raises:
        UserError: one of them can't be used.
    """
    try:
        _check_clock(pipeline, catalog, run_params["run_id"])
        _check_machine(pipeline, catalog)
        _check_datasets(pipeline, catalog)
        _check_members(pipeline, catalog)
        _check_versions(pipeline, catalog, run_params.get("load_versions") or {})
        if not run_params.get("only_missing_outputs"):
            _check_inputs(pipeline, catalog)
        _check_challengers(pipeline, catalog)
        _check_runner(pipeline, str(run_params.get("runner")))
    except DatasetError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the catalog in conf/, or code that it names, can't be used: {reason}"
        ) from error


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
    from cifar100_transfer.models import choose_device

    for name in sorted(pipeline.inputs()):
        if not name.startswith("params:"):
            continue
        value = catalog.load(name)
        if isinstance(value, ComputeConfig):
            choose_device(value.device)
        elif isinstance(value, ModelConfig):
            _check_model(name.removeprefix("params:"), value)
        elif isinstance(value, TrainingConfig) and value.batch_size == "auto":
            _check_one_device(name, catalog)
        elif isinstance(value, SearchConfig | AblationConfig | ScreeningConfig):
            _check_tuning(name, value, catalog)


def _check_model(block: str, model: ModelConfig) -> None:
    from cifar100_transfer.models import check_architecture, check_zero_init

    try:
        check_architecture(model.architecture)
    except UserError as error:
        raise UserError(f"{block}.architecture: {error}") from None
    if model.zero_init_residual:
        try:
            check_zero_init(model.architecture)
        except UserError as error:
            raise UserError(f"{block}.zero_init_residual=true: {error}") from None


def _check_one_device(name: str, catalog: Catalog) -> None:
    from cifar100_transfer.training.batch_size import check_one_device

    try:
        check_one_device(catalog.load("params:compute").devices)
    except UserError as error:
        model = name.removeprefix("params:").removesuffix("training")
        raise UserError(f"{model}{error}") from None


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


def members_of(pipeline: Pipeline, catalog: Catalog) -> tuple[str, ...]:
    """Return the models of which a pipeline averages classifiers; none if it doesn't."""
    if _ENSEMBLE not in pipeline.inputs():
        return ()
    return EnsembleConfig.model_validate(catalog.load(_ENSEMBLE)).members


def maker_of(catalog: Catalog, name: str) -> str | None:
    """Return the pipeline that makes an input where it is absent, if its catalog entry names one.

    An entry for any model names the model's own pipeline, which there may not be.
    """
    metadata = getattr(catalog.get(name), "metadata", None) or {}
    maker: str | None = metadata.get("made_by")
    return maker if maker in registered() else None


def registered() -> Mapping[str, Pipeline]:
    """Return all pipelines: the session may have loaded only what was asked for."""
    pipelines.set_requested(None)
    return pipelines


def _check_members(pipeline: Pipeline, catalog: Catalog) -> None:
    """Refuse members that are not there, or are about to be trained by this very run."""
    for member in members_of(pipeline, catalog):
        name = f"{member}.classifier"
        if member == ENSEMBLE:
            raise UserError(f"ensemble.members: '{member}' is an ensemble itself: name its members")
        if name in pipeline.all_outputs():
            raise UserError(
                f"ensemble.members: '{member}' is trained by this very run, and may come too late: "
                f"run it first, and then ensemble by itself"
            )
        if not maker_of(catalog, name):
            catalog.load("stored_classifiers").check(member)


def _check_inputs(pipeline: Pipeline, catalog: Catalog) -> None:
    """Refuse a run that would come, perhaps after hours, to what no pipeline has stored yet."""
    missing = {
        name: dataset
        for name in sorted(pipeline.inputs())
        if "." in name  # a model's
        and (dataset := _versioned(catalog, name))
        and not dataset.exists()
    }
    if not missing:
        return
    spaces: dict[str, set[str]] = {}
    for node in pipeline.nodes:
        spaces.setdefault(node.namespace or "", set()).update(node.inputs)
    complete = sorted(space for space, inputs in spaces.items() if not inputs & set(missing))
    instead = ",".join(filter(None, complete))
    leave_out = f", or leave it out with --namespaces={instead}" if instead else ""
    raise UserError(
        f"{next(iter(missing.values())).path} does not exist yet: run the pipeline that makes it "
        f"first{leave_out}; missing, and what makes it: {', '.join(map(_with_maker, missing))}; "
        f"keep this run's --env and --params"
    )


def check_images(pipeline: Pipeline, catalog: Catalog) -> None:
    """Refuse test images of another ingestion than the validation images that are stored.

    An ingestion that was stopped between the two may have left training images among them.

    Raises:
        UserError: they are, or a file can't be read.
    """
    from cifar100_transfer.data import check_made_together, read_division

    if "test_set" not in pipeline.inputs():
        return
    stored = {name: catalog.get(name) for name in ("validation_set", "test_set")}
    divisions = {
        name: read_division(dataset.load_path())
        for name, dataset in stored.items()
        if isinstance(dataset, ArtifactDataset) and dataset.exists()
    }
    # Sets of one's own making, and test sets of earlier releases, don't say.
    check_made_together(**{name: division for name, division in divisions.items() if division})


def _check_challengers(pipeline: Pipeline, catalog: Catalog) -> None:
    """Refuse what can't predict the challenge before gigabytes of its files are fetched."""
    taken = {name for node in pipeline.nodes if _CHALLENGE in node.inputs for name in node.inputs}
    for name in sorted(name for name in taken & pipeline.inputs() if name.endswith(".classifier")):
        dataset = catalog.get(name)
        if isinstance(dataset, ArtifactDataset) and dataset.exists():
            from cifar100_transfer.evaluation.challenge import check_challenger, check_method
            from cifar100_transfer.models import load_classifier, read_spec

            check_challenger(read_spec(dataset.load_path()))
            config = catalog.load(_SUBMISSION)
            if config.method in ADAPTING:
                check_method(load_classifier(dataset.load_path()), config)


def _with_maker(name: str) -> str:
    """Return the name of an artifact with the options that make it, those of fewest nodes."""
    space, makers = name.partition(".")[0], registered()
    found = [maker for maker in makers if name in makers[maker].all_outputs()]
    if space in found:
        return f"{name} (--pipelines={space})"
    if not found:
        return name
    maker = min(found, key=lambda maker: len(makers[maker].nodes))
    return f"{name} (--pipelines={maker} --namespaces={space})"


def _versioned(catalog: Catalog, name: str) -> ArtifactDataset[Any] | None:
    """Return an input that runs store, and that none is run for; others are an input of the user's.

    Those with a check of their own have had it already.
    """
    dataset = catalog.get(name)
    if not isinstance(dataset, ArtifactDataset) or not dataset.is_versioned:
        return None
    return None if hasattr(dataset, "check") or maker_of(catalog, name) else dataset


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
