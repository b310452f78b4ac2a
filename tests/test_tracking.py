"""Runs are logged to MLflow where they should be, and nowhere else."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar100_transfer.config import OptimizerConfig, SplitConfig
from cifar100_transfer.data.files import load_image_set
from cifar100_transfer.errors import UserError
from cifar100_transfer.manifest import describe_parameters
from cifar100_transfer.models import load_classifier
from cifar100_transfer.tracking import epoch_listener
from tests.pipelines.conftest import Run, newest, project, run  # noqa: F401


def test_groups_are_flattened_with_their_defaults() -> None:
    values = {"split": SplitConfig(seed=3), "a": {"b": OptimizerConfig(), "c": [1, 2]}}
    flat = describe_parameters(values)
    assert flat["split.seed"] == 3
    assert flat["split.validation_share"] == 0.2
    assert flat["a.b.learning_rate"] == 0.001
    assert flat["a.c"] == [1, 2]
    assert not any(isinstance(value, dict) for value in flat.values())


def test_without_the_parameter_mlflow_is_not_even_imported(
    project: Path,  # noqa: F811
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it raises
    assert epoch_listener() is None
    run("ingestion", node_names=["split_images"])
    assert {path.name for path in project.iterdir()} == {"conf", "data", "pyproject.toml"}


def test_where_it_is_not_installed_the_extra_is_named_before_the_run(
    project: Path,  # noqa: F811
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[mlflow\]'"):
        run("ingestion", parameters={"mlflow": "sqlite:///mlflow.db"})
    assert not (project / "data").exists()


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed")
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
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert sorted(one.info.status for one in runs) == ["FAILED", "FINISHED"]
