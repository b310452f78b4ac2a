"""Runs logged to MLflow where the parameter `mlflow` names a tracking store; nothing elsewhere.

kedro-mlflow (2.0.3) is not used: once installed it takes part in every command, it logs a group of
typed parameters as one string, and it imports kedro-datasets without asking for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset, CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from cifar100_transfer.errors import UserError
from cifar100_transfer.hooks import fail
from cifar100_transfer.manifest import describe_parameters

if TYPE_CHECKING:
    from cifar100_transfer.models import ClassifierSpec
    from cifar100_transfer.training import EpochRecord

EXPERIMENT = "cifar100_transfer"
SERVED = Path(__file__).with_name("serving.py")

# Namespace of the node at work where its run is tracked.
_tracked_model: ContextVar[str | None] = ContextVar("tracked_model", default=None)


def epoch_listener() -> Callable[[EpochRecord], None] | None:
    """Return what logs an epoch of the node at work, or None where its run is not tracked."""
    model = _tracked_model.get()
    return None if model is None else lambda record: _log_epoch(model, record)


def _log_epoch(model: str, record: EpochRecord) -> None:
    import mlflow

    values = asdict(record)
    epoch = values.pop("epoch")
    mlflow.log_metrics(_numbers(values, model), step=epoch)


class MLflowHooks:
    """Logs a run: parameters, every epoch as it ends, figures, tables, metrics and classifiers."""

    def __init__(self) -> None:
        self._catalog: CatalogProtocol[str, AbstractDataset[Any, Any]] | None = None

    @hook_impl
    def before_pipeline_run(
        self,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        catalog: CatalogProtocol[str, AbstractDataset[Any, Any]],
    ) -> None:
        """Open a run in the store, with the parameters of the pipeline's nodes."""
        store = catalog.load("parameters").get("mlflow")
        if not store:
            return
        try:
            import mlflow
        except ImportError:
            fail(
                UserError(
                    f"mlflow={store}: it is not installed: pip install -e '.[mlflow]' adds it"
                )
            )
        mlflow.set_tracking_uri(store)
        mlflow.set_experiment(EXPERIMENT)
        names = run_params.get("pipeline_names") or [run_params.get("pipeline_name")]
        mlflow.start_run(run_name="+".join(name or "__default__" for name in names))
        mlflow.set_tags({"kedro_env": run_params["env"], "kedro_run": run_params["run_id"]})
        parameters = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        groups = {name.removeprefix("params:"): catalog.load(name) for name in parameters}
        mlflow.log_params(describe_parameters(groups))
        self._catalog = catalog

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Remember whose epochs are logged next."""
        if self._catalog is not None:
            _tracked_model.set(node.namespace or "")

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
            _tracked_model.set(None)
            self._catalog = None


def _numbers(values: Mapping[str, Any], model: str) -> dict[str, float]:
    return {
        f"{model}.{name}" if model else name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float)
    }


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
