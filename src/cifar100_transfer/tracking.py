"""Runs logged to MLflow, and epochs to TensorBoard, where a parameter asks for it; else nothing.

kedro-mlflow (2.0.3) is not used: once installed it takes part in every command, it logs a group of
typed parameters as one string, and it imports kedro-datasets without asking for it.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from cifar100_transfer.errors import UserError
from cifar100_transfer.hooks import Catalog, fail
from cifar100_transfer.manifest import describe_parameters

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from torch.utils.tensorboard import SummaryWriter

    from cifar100_transfer.models import ClassifierSpec
    from cifar100_transfer.training import EpochRecord

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
    for tracker in _trackers.values():
        tracker(model, figures, epoch)


class _TrackingHooks:
    """Asks for a package where its parameter is set, and knows whose epochs are logged."""

    package: str

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse a run that asks for what is not installed, before it makes anything."""
        value = context.params.get(self.package)
        if value and importlib.util.find_spec(self.package) is None:
            advice = f"pip install -e '.[{self.package}]' adds it"
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
            self._folder = Path(run_params["project_path"], folder, run_params["run_id"])
            _trackers["tensorboard"] = self._write

    def _write(self, model: str, figures: Mapping[str, Any], epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if model not in self._writers:
            self._writers[model] = SummaryWriter(self._folder / model)
        for name, value in figures.items():
            self._writers[model].add_scalar(name, value, epoch)
        self._writers[model].flush()

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

    @hook_impl
    def before_pipeline_run(
        self,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        catalog: Catalog,
    ) -> None:
        """Open a run in the store, with the parameters of the pipeline's nodes."""
        store = catalog.load("parameters").get("mlflow")
        if not store:
            return
        import mlflow

        mlflow.set_tracking_uri(store)
        mlflow.set_experiment(EXPERIMENT)
        names = run_params.get("pipeline_names") or [run_params.get("pipeline_name")]
        mlflow.start_run(run_name="+".join(name or "__default__" for name in names))
        mlflow.set_tags({"kedro_env": run_params["env"], "kedro_run": run_params["run_id"]})
        parameters = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        groups = {name.removeprefix("params:"): catalog.load(name) for name in parameters}
        mlflow.log_params(describe_parameters(groups))
        self._catalog = catalog
        _trackers["mlflow"] = _log_epoch

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

            mlflow.end_run(status)
            _trackers.pop("mlflow", None)
            self._catalog = None


def _numbers(values: Mapping[str, Any], model: str) -> dict[str, float]:
    return {
        f"{model}.{name}" if model else name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float)
    }


def _log_epoch(model: str, figures: Mapping[str, Any], epoch: int) -> None:
    import mlflow

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
