"""Runs are logged to MLflow and TensorBoard where they should be, and nowhere else."""

import importlib.util
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline.node import Node
from kedro.runner import ThreadRunner
from pandas import read_csv

from cifar100_transfer import tracking
from cifar100_transfer.config import OptimizerConfig, SplitConfig
from cifar100_transfer.data.files import load_image_set
from cifar100_transfer.errors import UserError
from cifar100_transfer.manifest import describe_parameters
from cifar100_transfer.models import load_classifier
from cifar100_transfer.tracking import TensorBoardHooks, epoch_listener
from cifar100_transfer.training import EpochRecord
from tests.pipelines.conftest import Run, newest, project, run  # noqa: F401

NEEDS_TENSORBOARD = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed"
)


def test_groups_are_flattened_with_their_defaults() -> None:
    values = {"split": SplitConfig(seed=3), "a": {"b": OptimizerConfig(), "c": [1, 2]}}
    flat = describe_parameters(values)
    assert flat["split.seed"] == 3
    assert flat["split.validation_share"] == 0.2
    assert flat["a.b.learning_rate"] == 0.001
    assert flat["a.c"] == [1, 2]
    assert not any(isinstance(value, dict) for value in flat.values())


def test_without_a_parameter_no_package_is_even_imported(
    project: Path,  # noqa: F811
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in ("mlflow", "tensorboard"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it raises
    assert epoch_listener() is None
    run("ingestion", node_names=["split_images"])
    assert {path.name for path in project.iterdir()} == {"conf", "data", "pyproject.toml"}


needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed"
)


@pytest.mark.parametrize("package", ["mlflow", "tensorboard"])
def test_where_it_is_not_installed_the_extra_is_named_before_anything_is_made(
    project: Path,  # noqa: F811
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install 'cifar100-transfer\[{package}\]'"):
        run("transfer", parameters={package: "somewhere"})  # it would make `pretraining` first
    assert not (project / "data").exists()


@needs_mlflow
def test_a_run_is_logged_live_and_its_classifier_can_be_served(
    project: Path,  # noqa: F811
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    monkeypatch.chdir(project)
    store = f"sqlite:///{project / 'mlflow.db'}"
    run("simple_cnn", parameters={"mlflow": store})
    (logged,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "simple_cnn"
    assert logged.data.params["simple_cnn.training.epochs"] == "2"
    assert logged.data.params["simple_cnn.training.optimizer.name"] == "adamw"
    client = mlflow.MlflowClient()
    epochs = client.get_metric_history(logged.info.run_id, "simple_cnn.validation_accuracy")
    assert [metric.step for metric in epochs][:2] == [1, 2]
    assert "simple_cnn.test_accuracy" in logged.data.metrics
    files = {file.path for file in client.list_artifacts(logged.info.run_id, "simple_cnn")}
    assert "simple_cnn/learning_curves.png" in files

    (model,) = mlflow.search_logged_models(output_format="list")
    served: Any = mlflow.pyfunc.load_model(model.model_uri)
    root = project / "data/sample"
    images = load_image_set(root / "05_model_input/test_set.safetensors").images[:3]
    classifier = load_classifier(newest(root / "06_models/simple_cnn", "classifier.safetensors"))
    expected = classifier(images).softmax(1).max(1)
    for answer, probability, index in zip(
        served.predict(np.asarray(images)), *(part.tolist() for part in expected), strict=True
    ):
        assert answer["class"] == classifier.spec.class_names[index]
        assert answer["probability"] == pytest.approx(probability, abs=1e-5)

    with pytest.raises(UserError, match="none of the 1 files"):
        run(
            "prediction",
            parameters={"mlflow": store, "model": "simple_cnn", "images": "pyproject.toml"},
        )
    with pytest.raises(UserError, match="does not exist"):
        run("prediction", parameters={"mlflow": store, "model": "simple_cnn"})
    run(
        "simple_cnn",
        runner=ThreadRunner(),
        node_names=["simple_cnn.compute_metrics"],
        parameters={"mlflow": store},
    )
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert sorted(one.info.status for one in runs) == ["FAILED", "FINISHED", "FINISHED"]
    assert all("simple_cnn.test_accuracy" in one.data.metrics for one in runs[:1])


@needs_mlflow
def test_an_interrupted_run_is_closed_as_killed(
    project: Path,  # noqa: F811
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    from cifar100_transfer.training import loop

    monkeypatch.chdir(project)
    options = {"parameters": {"mlflow": f"sqlite:///{project / 'mlflow.db'}"}}
    options["to_outputs"] = ["simple_cnn.classifier"]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run("simple_cnn", **options)
    run("simple_cnn", **options)
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert sorted(one.info.status for one in runs) == ["FINISHED", "KILLED"]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@needs_mlflow
def test_a_store_that_cannot_be_used_is_named_and_one_that_is_lost_is_done_without(
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    project: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    def lost(*_: object, **__: object) -> None:
        raise MlflowException("database is locked")

    monkeypatch.chdir(project)
    with pytest.raises(UserError, match="mlflow=nonsense://x: it can't be used"):
        run("ingestion", parameters={"mlflow": "nonsense://x"})
    monkeypatch.setattr(mlflow, "log_metrics", lost)
    options = {"parameters": {"mlflow": f"sqlite:///{project / 'mlflow.db'}"}}
    run("simple_cnn", to_outputs=["simple_cnn.classifier"], **options)
    assert "MLflow could not log this: database is locked" in caplog.text


def test_a_store_that_refuses_in_whatever_way_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with tracking._spared():
        raise ModuleNotFoundError("No module named 'boto3'\nand more")
    assert caplog.messages == ["MLflow could not log this: No module named 'boto3'"]
    with pytest.raises(KeyboardInterrupt), tracking._spared():
        raise KeyboardInterrupt


@needs_mlflow
def test_a_server_that_does_not_answer_is_asked_three_times(
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    class Overloaded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Overloaded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(UserError, match=f"mlflow={address}: it can't be used"):
            run("ingestion", parameters={"mlflow": address})
        server.shutdown()
    assert len(asked) == 3


@pytest.fixture
def board() -> Iterator[TensorBoardHooks]:
    hooks = TensorBoardHooks()
    yield hooks
    hooks.on_pipeline_error()


@NEEDS_TENSORBOARD
def test_event_files_grow_with_every_epoch_and_models_lie_apart(
    tmp_path: Path, board: TensorBoardHooks
) -> None:
    catalog = DataCatalog({"parameters": MemoryDataset({"tensorboard": "curves"})})
    board.before_pipeline_run({"project_path": str(tmp_path), "run_id": "now"}, catalog)
    for model in ("simple_cnn", "transfer"):
        board.before_node_run(Node(len, f"{model}.in", f"{model}.out", namespace=model))
        track = epoch_listener()
        assert track is not None
        for epoch in (1, 2):
            track(EpochRecord(epoch, 4.5, 0.1, 4.0, 0.25 * epoch, 0.01, 2.0, 500.0))
            # The run is still at work, its file open.
            assert curve(tmp_path / "curves/now" / model)[-1] == (epoch, 0.25 * epoch)
    board.after_pipeline_run()
    assert epoch_listener() is None


@NEEDS_TENSORBOARD
def test_a_folder_that_cannot_be_used_is_refused_before_the_run_or_costs_the_epochs_alone(
    tmp_path: Path, board: TensorBoardHooks, caplog: pytest.LogCaptureFixture
) -> None:
    run_params = {"project_path": str(tmp_path), "run_id": "now"}
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="tensorboard=file: no folder can be made"):
        board.before_pipeline_run(
            run_params, DataCatalog({"parameters": MemoryDataset({"tensorboard": "file"})})
        )
    catalog = DataCatalog({"parameters": MemoryDataset({"tensorboard": "curves"})})
    board.before_pipeline_run(run_params, catalog)
    board.before_node_run(Node(len, "a.in", "a.out", namespace="a"))
    (tmp_path / "curves" / "now").touch()
    track = epoch_listener()
    assert track is not None
    track(EpochRecord(1, 4.5, 0.1, 4.0, 0.25, 0.01, 2.0, 500.0))
    assert "TensorBoard gets no more epochs" in caplog.text
    assert epoch_listener() is None


@NEEDS_TENSORBOARD
def test_a_disk_that_fills_up_costs_the_epochs_alone(
    tmp_path: Path, board: TensorBoardHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("No space left on device")

    catalog = DataCatalog({"parameters": MemoryDataset({"tensorboard": "curves"})})
    board.before_pipeline_run({"project_path": str(tmp_path), "run_id": "now"}, catalog)
    board.before_node_run(Node(len, "a.in", "a.out", namespace="a"))
    track = epoch_listener()
    assert track is not None
    for method in ("flush", "close"):
        monkeypatch.setattr(f"torch.utils.tensorboard.SummaryWriter.{method}", refuse)
    track(EpochRecord(1, 4.5, 0.1, 4.0, 0.25, 0.01, 2.0, 500.0))
    assert epoch_listener() is None
    board.after_pipeline_run()


@NEEDS_TENSORBOARD
def test_a_run_writes_its_epochs_for_tensorboard(project: Path, run: Run) -> None:  # noqa: F811
    nodes = ["split_images", "compute_normalization", "simple_cnn.train_classifier"]
    run("simple_cnn", node_names=nodes, parameters={"tensorboard": "curves"})
    (version,) = (project / "curves").iterdir()
    assert [path.name for path in version.iterdir()] == ["simple_cnn"]
    history = read_csv(newest(project / "data/sample/08_reporting/simple_cnn", "history.csv"))
    assert curve(version / "simple_cnn") == [
        (epoch, pytest.approx(accuracy))
        for epoch, accuracy in zip(history.epoch, history.validation_accuracy, strict=True)
    ]


def curve(folder: Path) -> list[tuple[int, float]]:
    """Return the validation accuracy of every epoch in the event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return [(scalar.step, scalar.value) for scalar in events.Scalars("validation_accuracy")]
