"""Runs logged to MLflow, and epochs to TensorBoard, where a parameter asks for it; else nothing.

kedro-mlflow (2.0.3) is not used: once installed it takes part in every command, it logs a group of
typed parameters as one string, and it imports kedro-datasets without asking for it.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from cifar100_transfer.configuration import Catalog
from cifar100_transfer.errors import UserError
from cifar100_transfer.hooks import fail
from cifar100_transfer.manifest import describe_parameters
from cifar100_transfer.passwords import hide_passwords

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from torch.utils.tensorboard import SummaryWriter

    from cifar100_transfer.models import ClassifierSpec
    from cifar100_transfer.training import EpochRecord

logger = logging.getLogger(__name__)

EXPERIMENT = "cifar100_transfer"
SERVED = Path(__file__).with_name("serving.py")

# What takes every epoch of the run at work: model, figures by name, number of the epoch.
_trackers: dict[str, Callable[[str, Mapping[str, Any], int], None]] = {}
# Namespace of the node at work.
_model: ContextVar[str] = ContextVar("model", default="")


def epoch_listener() -> Callable[[EpochRecord], None] | None:
    """Return what logs an epoch of the node at work, or None where its run is not tracked."""
    model = _model.get()
    return (lambda record: _track(model, record)) if _trackers else None


def _track(model: str, record: EpochRecord) -> None:
    figures = asdict(record)
    epoch = figures.pop("epoch")
    for tracker in tuple(_trackers.values()):  # one that fails leaves them
        tracker(model, figures, epoch)


class _TrackingHooks:
    """Asks for a package where its parameter is set, and knows whose epochs are logged."""

    package: str

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse a run that asks for what is not installed, before it makes anything."""
        value = context.params.get(self.package)
        if value and importlib.util.find_spec(self.package) is None:
            advice = f"pip install 'cifar100-transfer[{self.package}]' adds it"
            fail(UserError(f"{self.package}={value}: it is not installed: {advice}"))

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Remember the model of the epochs that come next."""
        _model.set(node.namespace or "")


class TensorBoardHooks(_TrackingHooks):
    """Writes every epoch, as it ends, to event files: a folder a run, and in it one a model."""

    package = "tensorboard"

    def __init__(self) -> None:
        self._folder = Path()
        self._writers: dict[str, SummaryWriter] = {}

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: Catalog) -> None:
        """Take the epochs of this run, if a folder is named for them."""
        self._close()  # what an interrupted run of this process left
        folder = catalog.load("parameters").get("tensorboard")
        if folder:
            root = Path(run_params["project_path"], folder)
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                fail(UserError(f"tensorboard={folder}: no folder can be made ({error.strerror})"))
            self._folder = root / run_params["run_id"]
            _trackers["tensorboard"] = self._write

    def _write(self, model: str, figures: Mapping[str, Any], epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        try:
            if model not in self._writers:
                self._writers[model] = SummaryWriter(self._folder / model)
            for name, value in figures.items():
                self._writers[model].add_scalar(name, value, epoch)
            self._writers[model].flush()
        except OSError as error:
            _trackers.pop("tensorboard", None)
            self._writers = {}  # closing them would write again
            logger.warning("TensorBoard gets no more epochs of this run: %s", error)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close the files."""
        self._close()

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Close the files with the epochs there were."""
        self._close()

    def _close(self) -> None:
        _trackers.pop("tensorboard", None)
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


class MLflowHooks(_TrackingHooks):
    """Logs a run: parameters, every epoch as it ends, figures, tables, metrics and classifiers."""

    package = "mlflow"

    def __init__(self) -> None:
        self._catalog: Catalog | None = None
        self._run = ""

    @hook_impl
    def before_pipeline_run(
        self,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        catalog: Catalog,
    ) -> None:
        """Open a run in the store, with the parameters of the pipeline's nodes."""
        self._close("KILLED")  # what an interrupted run of this process left
        store = catalog.load("parameters").get("mlflow")
        if not store:
            return
        names = run_params.get("pipeline_names") or [run_params.get("pipeline_name")]
        title = "+".join(name or "__default__" for name in names)
        parameters = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        groups = {name.removeprefix("params:"): catalog.load(name) for name in parameters}
        tags = {"kedro_env": run_params["env"], "kedro_run": run_params["run_id"]}
        try:
            self._run = _open_run(store, title, tags, describe_parameters(groups))
        except Exception as error:
            # Of a wrong address: by MLflow, its database's library, or the network's.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            fail(UserError(f"mlflow={hide_passwords(store)}: it can't be used ({reason})"))
        self._catalog = catalog
        _trackers["mlflow"] = _log_epoch
        # Before MLflow's own, which would call an interrupted run finished.
        atexit.register(self._close, "KILLED")

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Remember the model, and let a thread or process of its own log to the same run."""
        super().before_node_run(node)
        if self._catalog is not None:
            import mlflow

            if mlflow.active_run() is None:
                with _spared():
                    mlflow.start_run(run_id=self._run)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what was stored, if it is for people or a classifier."""
        if self._catalog is None:
            return
        import mlflow

        from cifar100_transfer.datasets import (
            ClassifierDataset,
            FigureDataset,
            JSONDataset,
            TableDataset,
        )

        dataset = self._catalog.get(dataset_name)
        model = dataset_name.rpartition(".")[0]
        with _spared():
            if isinstance(dataset, FigureDataset | JSONDataset | TableDataset):
                mlflow.log_artifact(str(dataset.load_path()), model or None)
            if isinstance(dataset, JSONDataset) and dataset_name.endswith(".metrics"):
                mlflow.log_metrics(_numbers(data, model))
            if isinstance(dataset, ClassifierDataset):
                _log_classifier(model, dataset.load_path(), data.spec)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close the run."""
        self._close("FINISHED")

    # Before the hook that turns the error into one line and ends the command.
    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Close the run as a failed one."""
        self._close("FAILED")

    def _close(self, status: str) -> None:
        if self._catalog is not None:
            import mlflow

            atexit.unregister(self._close)
            _trackers.pop("mlflow", None)
            self._catalog = None
            with _spared():
                mlflow.end_run(status)


def _open_run(
    store: str, title: str, tags: Mapping[str, Any], parameters: Mapping[str, Any]
) -> str:
    import mlflow

    # Of a server that does not answer MLflow asks eight times, for four minutes: here before a run,
    # and after every epoch once it is gone.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment(EXPERIMENT)
    run: str = mlflow.start_run(run_name=title).info.run_id
    mlflow.set_tags(tags)
    mlflow.log_params(parameters)
    return run


@contextmanager
def _spared() -> Iterator[None]:
    """Go on where the store refuses: hours of training are worth more than their record."""
    try:
        yield
    except Exception as error:  # stores of artifacts have errors of their own packages
        logger.warning("MLflow could not log this: %s", str(error).partition("\n")[0])


def _numbers(values: Mapping[str, Any], model: str) -> dict[str, float]:
    return {
        f"{model}.{name}" if model else name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float)
    }


def _log_epoch(model: str, figures: Mapping[str, Any], epoch: int) -> None:
    import mlflow

    with _spared():
        mlflow.log_metrics(_numbers(figures, model), step=epoch)


def _log_classifier(model: str, file: Path, spec: ClassifierSpec) -> None:
    """Log a stored classifier as a model that `mlflow models predict` and `serve` take."""
    import mlflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    images = TensorSpec(np.dtype("uint8"), (-1, 3, *spec.input_size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises an example, in whose place the signature is
        mlflow.pyfunc.log_model(
            name=f"{model}_classifier",
            python_model=str(SERVED),
            artifacts={"classifier": str(file)},
            code_paths=[str(Path(__file__).parent)],
            pip_requirements=["torch", "torchvision", "safetensors", "mlflow"],
            signature=ModelSignature(inputs=Schema([images])),
        )
