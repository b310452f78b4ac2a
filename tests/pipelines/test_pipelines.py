"""The registered pipelines on the embedded data, from raw files to evidence."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import load_classifier
from cifar100_transfer.pipeline_registry import MODELS, REPORT_MODELS, register_pipelines
from tests.pipelines.conftest import Run, newest

EXPECTED = {"__default__", "ingestion", "pretraining", "comparison", *MODELS}


def test_the_promised_pipelines_are_registered() -> None:
    assert set(register_pipelines()) >= EXPECTED


def test_the_default_pipeline_trains_compares_and_makes_the_weights_it_needs(
    project: Path, run: Run
) -> None:
    run()
    reporting = project / "data" / "sample" / "08_reporting"
    table = pd.read_csv(newest(reporting, "comparison.csv"))
    assert set(table["model"]) == set(REPORT_MODELS)
    for model in REPORT_MODELS:
        metrics = json.loads(newest(reporting / model, "metrics.json").read_text())
        assert {
            "test_accuracy",
            "test_top5_accuracy",
            "test_loss",
            "test_coarse_accuracy",
            "test_ece",
            "validation_accuracy",
            "train_accuracy",
        } <= set(metrics)
        assert 0 <= metrics["test_accuracy"] <= 1
        for figure in ("learning_curves.png", "confusion_matrix.png"):
            assert newest(reporting / model, figure).read_bytes().startswith(b"\x89PNG")
        classifier = load_classifier(
            project / "data" / "sample" / "06_models" / model / "classifier.safetensors"
        )
        assert len(classifier.spec.class_names) == 100
    # Pretraining ran once, and a second run finds its weights.
    weights = project / "data" / "sample" / "06_models" / "pretraining" / "classifier.safetensors"
    assert len(list(weights.iterdir())) == 1
    run("transfer")
    assert len(list(weights.iterdir())) == 1


def test_two_runs_with_one_seed_give_equal_metrics_and_weights(project: Path, run: Run) -> None:
    run("simple_cnn")
    run("simple_cnn")
    sample = project / "data" / "sample"
    for artifact in (
        sample / "08_reporting" / "simple_cnn" / "metrics.json",
        sample / "06_models" / "simple_cnn" / "classifier.safetensors",
    ):
        digests = {
            hashlib.sha256(path.read_bytes()).hexdigest()
            for path in artifact.glob(f"*/{artifact.name}")
        }
        assert len(list(artifact.iterdir())) == 2
        assert len(digests) == 1, artifact


def test_ingestion_splits_by_class_and_normalises_by_training_images_only(
    project: Path, run: Run
) -> None:
    run("ingestion")
    counts = pd.read_csv(newest(project / "data/sample/08_reporting", "class_counts.csv"))
    per_set = counts.groupby("set")["images"].agg(["min", "max", "sum"])
    assert per_set.loc["train"].tolist() == [4, 4, 400]
    assert per_set.loc["validation"].tolist() == [1, 1, 100]
    assert per_set.loc["test"].tolist() == [1, 1, 100]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"resnet50": {"model": {"architecture": "resnet5O"}}}, "resnet50.model.architecture"),
        ({"compute": {"device": "cuda:99"}}, "compute.device=cuda:99"),
        ({"resnet50": {"training": {"epochs": 0}}}, "resnet50.training.epochs=0"),
        ({"resnet50": {"training": {"epoch": 1}}}, "resnet50.training.epochs"),
    ],
)
def test_bad_parameters_stop_a_run_before_anything_is_written(
    project: Path, run: Run, parameters: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError) as raised:
        run("resnet50", parameters=parameters)
    assert said in str(raised.value)
    assert not (project / "data").exists()


def test_comparing_without_results_says_what_to_do(run: Run) -> None:
    with pytest.raises(UserError, match="train one first"):
        run("comparison")


def test_absent_real_data_without_a_network_says_where_to_put_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_args: object, **_options: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with pytest.raises(UserError) as raised:
        run("simple_cnn", env="local")
    for hint in ("data/01_raw", "cifar-100-python.tar.gz", "--env=sample", "raw_data=DIR"):
        assert hint in str(raised.value)


def test_weights_of_another_architecture_are_refused_with_their_keys(run: Run) -> None:
    # The run makes the weights it lacks, though only `transfer` is asked for.
    with pytest.raises(UserError, match=r"missing \(.*features"):
        run("transfer", parameters={"transfer": {"model": {"architecture": "squeezenet1_1"}}})


def test_a_failed_run_goes_on_and_a_finished_one_leaves_no_resume_point(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar100_transfer.evaluation import prediction
    from cifar100_transfer.training import loop

    epochs = 0
    train_epoch = loop.train_epoch

    def counting(*args: object) -> tuple[float, float]:
        nonlocal epochs
        epochs += 1
        return train_epoch(*args)  # type: ignore[arg-type]

    def broken(*_args: object) -> None:
        raise RuntimeError("the power failed")

    monkeypatch.setattr(loop, "train_epoch", counting)
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "predict", broken)
        with pytest.raises(RuntimeError, match="the power failed"):
            run("simple_cnn")
    assert epochs == 2
    resume = project / "data" / "sample" / "06_models" / "simple_cnn" / "resume"
    assert list(resume.iterdir())
    run("simple_cnn")
    assert epochs == 2, "finished epochs were trained again"
    assert not resume.exists()
