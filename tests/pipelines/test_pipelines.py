"""The registered pipelines on the embedded data, from raw files to evidence."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.runner import ParallelRunner, ThreadRunner

from cifar100_transfer import hooks, log_hooks
from cifar100_transfer.datasets import ImageSetDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import load_classifier
from cifar100_transfer.parameter_checks import without_takers
from cifar100_transfer.pipeline_registry import MODELS, REPORT_MODELS, register_pipelines
from tests.conftest import random_image_set
from tests.pipelines.conftest import Run, newest

FIGURES = (
    "learning_curves.png",
    "confusion_matrix.png",
    "coarse_confusion_matrix.png",
    "reliability_diagram.png",
    "per_class_accuracy.png",
    "confused_pairs.png",
    "confident_mistakes.png",
    "class_activation.png",
)
FIRST_NODE = "simple_cnn.choose_adaptation"
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
        for figure in FIGURES:
            assert newest(reporting / model, figure).read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_csv(newest(reporting / model, "per_class.csv"))) == 100
        models = project / "data" / "sample" / "06_models"
        card = newest(models / model, "model_card.md").read_text()
        assert f"{100 * metrics['test_accuracy']:.1f}" in card
        classifier = load_classifier(
            project / "data" / "sample" / "06_models" / model / "classifier.safetensors"
        )
        assert len(classifier.spec.class_names) == 100
    _check_report(reporting, table)
    # Pretraining ran once, and a second run finds its weights.
    weights = project / "data" / "sample" / "06_models" / "pretraining" / "classifier.safetensors"
    assert len(list(weights.iterdir())) == 1
    run("transfer", to_outputs=["transfer.classifier"])
    assert len(list(weights.iterdir())) == 1


def _check_report(reporting: Path, table: pd.DataFrame) -> None:
    """The page shows every figure of the run that made it, and the table leads to its manifest."""
    assert len(pd.read_csv(newest(reporting, "time_to_accuracy.csv"))) == 6
    assert len(pd.read_csv(newest(reporting, "significance.csv"))) == 3
    assert (table["flops"] > 0).all()
    page = newest(reporting, "report.html").read_text()
    # Reliability diagrams and learning curves are among the models' own; four are common to all.
    assert page.count("data:image/png;base64,") == 4 + len(REPORT_MODELS) * len(FIGURES)
    for accuracy in table["test_accuracy"]:
        assert f"{100 * accuracy:.1f}" in page
    (run_id,) = set(table["run"])
    (manifest_file,) = set(table["manifest"])
    manifest = json.loads((reporting / manifest_file).read_text())
    assert manifest["run"] == run_id
    assert manifest["status"] == "finished"
    assert manifest["parameters"]["simple_cnn.training.epochs"] == 2
    assert set(manifest["data"]["cifar100_raw"]) == {"train", "test", "meta"}
    assert "report" in manifest["made"]
    assert manifest["nodes"]["simple_cnn.train_classifier"] > 0


def test_every_stored_run_can_be_compared(project: Path, run: Run) -> None:
    for seed in (0, 1):
        training = {"simple_cnn": {"training": {"epochs": 1, "seed": seed}}}
        run("simple_cnn", to_outputs=["simple_cnn.metrics"], parameters=training)
    run("comparison", to_outputs=["comparison"])
    reporting = project / "data" / "sample" / "08_reporting"
    newest_alone = pd.read_csv(newest(reporting, "comparison.csv"))
    run(
        "comparison",
        to_outputs=["comparison_figure", "significance"],
        parameters={"comparison": {"all_runs": True}},
    )
    both = pd.read_csv(newest(reporting, "comparison.csv"))
    assert newest_alone["run"].tolist() == [both["run"].max()]
    assert both["run"].nunique() == len(both) == 2
    (pair,) = pd.read_csv(newest(reporting, "significance.csv")).to_dict("records")
    assert {pair["first"], pair["second"]} == {f"simple_cnn {run[:19]}" for run in both["run"]}


def test_two_runs_with_one_seed_give_equal_metrics_and_weights(project: Path, run: Run) -> None:
    run("simple_cnn", to_outputs=["simple_cnn.metrics"])
    run("simple_cnn", to_outputs=["simple_cnn.metrics"])
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


def test_a_measured_batch_size_is_stored_as_a_number(project: Path, run: Run) -> None:
    training = {"simple_cnn": {"training": {"epochs": 1, "batch_size": "auto"}}}
    run("simple_cnn", to_outputs=["simple_cnn.classifier"], parameters=training)
    sample = project / "data" / "sample"
    classifier = load_classifier(sample / "06_models" / "simple_cnn" / "classifier.safetensors")
    size = classifier.spec.recipe["training"]["batch_size"]
    assert size in (32, 64, 128, 256)
    summary = json.loads(
        newest(sample / "08_reporting" / "simple_cnn", "training_summary.json").read_text()
    )
    assert summary["recipe"]["training"]["batch_size"] == size
    assert (summary["devices"], summary["precision"]) == (1, "float32")
    (manifest,) = (sample / "08_reporting" / "runs").iterdir()
    assert summary["hardware"] == json.loads(manifest.read_text())["machine"]["processor"]


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


@pytest.mark.usefixtures("no_network")
def test_absent_real_data_without_a_network_says_where_to_put_it(run: Run) -> None:
    with pytest.raises(UserError) as raised:
        run("simple_cnn", env="local")
    for hint in ("data/01_raw", "cifar-100-python.tar.gz", "--env=sample", "raw_data=DIR"):
        assert hint in str(raised.value)


def test_weights_of_another_architecture_are_refused_with_their_keys(run: Run) -> None:
    # The run makes the weights it lacks, though only `transfer` is asked for.
    with pytest.raises(UserError, match=r"missing \(.*features"):
        run("transfer", parameters={"transfer": {"model": {"architecture": "squeezenet1_1"}}})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"simple_cnn": {"model": {"zero_init_residual": True}}},
            "simple_cnn.model.zero_init_residual=true: simple_cnn is no ResNet",
        ),
        (
            {"simple_cnn": {"training": {"batch_size": "auto"}}, "compute": {"devices": 2}},
            "simple_cnn.training.batch_size=auto measures one device, and compute.devices=2",
        ),
    ],
)
def test_what_a_later_model_can_not_do_ends_the_run_before_the_first_one(
    project: Path, run: Run, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        run(parameters=parameters)
    assert not list(project.glob("data/**/classifier.safetensors"))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("weights", ["none.pth", "ResNet18_Weights.IMAGENET1K_V1"])
def test_weights_that_are_not_there_end_a_run_of_several_models_before_the_first(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(project / "cache"))
    started: list[object] = []
    monkeypatch.setattr(
        "cifar100_transfer.manifest_hooks.ManifestHooks.before_node_run",
        lambda _, node: started.append(node.name),
    )
    with pytest.raises(UserError, match=rf"{weights}.*--params=weights=FILE"):
        run(env="local", parameters={"weights": weights})
    assert not started


def test_a_transfer_from_random_weights_neither_makes_nor_loads_any(
    project: Path, run: Run
) -> None:
    model = {"architecture": "resnet18", "pretrained": False}
    run(
        "transfer",
        to_outputs=["transfer.classifier"],
        parameters={"transfer": {"model": model, "training": {"epochs": 1}}},
    )
    made = project / "data" / "sample" / "06_models"
    assert [folder.name for folder in made.iterdir()] == ["transfer"]


def test_a_manifest_tells_of_what_had_to_run_first(
    project: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    few = {"robustness": {"images": 4, "methods": ["plain"]}}
    run("robustness", namespaces=["simple_cnn"], parameters=few, to_nodes=[FIRST_NODE])
    sample = project / "data" / "sample"
    (file,) = (sample / "08_reporting" / "runs").iterdir()
    written = json.loads(file.read_text())
    assert written["prepared"] == ["simple_cnn"]
    assert written["parameters"]["simple_cnn.training.epochs"] == 2
    assert {"simple_cnn.classifier", "train_set", "simple_cnn.adaptation"} <= set(written["made"])
    digest = hashlib.sha256((sample / "05_model_input" / "train_set.safetensors").read_bytes())
    assert written["data"]["train_set"] == {"train_set.safetensors": digest.hexdigest()}
    assert set(written["data"]["cifar100_raw"]) == {"train", "test", "meta"}
    longer = {"simple_cnn": {"training": {"epochs": 3}}}
    outputs = ["simple_cnn.classifier"]
    run("simple_cnn", only_missing_outputs=True, parameters=longer, to_outputs=outputs)
    assert "simple_cnn.training.epochs=3 (was 2)" in caplog.text
    assert json.loads(max(file.parent.iterdir()).read_text())["prepared"] == []


def test_a_run_that_fails_at_what_had_to_run_first_leaves_a_manifest(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def train(*_: object) -> None:
        (file,) = (project / "data" / "sample" / "08_reporting" / "runs").iterdir()
        seen.append(json.loads(file.read_text())["status"])
        raise UserError("no luck")

    monkeypatch.setattr("cifar100_transfer.training.train_on_devices", train)
    with pytest.raises(UserError, match="no luck"):
        run("robustness", namespaces=["simple_cnn"], to_nodes=[FIRST_NODE])
    (file,) = (project / "data" / "sample" / "08_reporting" / "runs").iterdir()
    written = json.loads(file.read_text())
    assert seen == ["running"]
    assert written["status"] == "failed"
    assert "no luck" in written["error"]


def test_a_parameter_that_nothing_takes_is_warned_of(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run("ingestion", parameters={"split": {"validation_share": 0.2}, "robustness": {"images": 5}})
    (warned,) = (text for text in caplog.messages if text.startswith("--params"))
    idle = warned.removeprefix("--params: ").removesuffix(": no node of this run takes it")
    assert "robustness.images=5" in idle.split(", ")
    assert "split.validation_share=0.2" not in idle.split(", ")


def test_what_is_made_already_needs_no_inputs(project: Path, run: Run) -> None:
    outputs = ["simple_cnn.calibration", "simple_cnn.validation_predictions"]
    run("simple_cnn", to_outputs=outputs)
    made = project / "data/sample/07_model_output/simple_cnn/validation_predictions.safetensors"
    shutil.rmtree(made)
    again = {"pipeline": "simple_cnn", "node_names": ["simple_cnn.fit_calibration"]}
    run(**again, only_missing_outputs=True)
    with pytest.raises(UserError, match=r"validation_predictions.* does not exist yet"):
        run(**again)


def test_parameters_of_the_ingestion_of_stored_images_are_said_to_be_without_effect(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run("ingestion")
    caplog.clear()
    parameters = {"split": {"train_images": 200}, "robustness": {"images": 5}}
    outputs = ["simple_cnn.classifier"]
    run("simple_cnn", namespaces=["simple_cnn"], to_outputs=outputs, parameters=parameters)
    of_none, of_ingestion = (text for text in caplog.messages if text.startswith("--params"))
    assert "robustness.images=5" in of_none
    assert "split.train_images" not in of_none
    assert "split.train_images=200" in of_ingestion
    assert of_ingestion.endswith(": without effect, as the images are those that are stored")
    assert "Training simple_cnn (simple_cnn) on 400 images" in caplog.messages


@pytest.mark.parametrize(
    ("pipeline", "level"), [("robustness", "INFO"), ("tuning", "WARNING"), ("simple_cnn", None)]
)
def test_raw_data_of_stored_images_is_said_to_be_without_effect(
    caplog: pytest.LogCaptureFixture, pipeline: str, level: str | None
) -> None:
    chosen = register_pipelines()[pipeline]
    if level:
        chosen = chosen.filter(node_namespaces=["simple_cnn"])
    idle = without_takers({"raw_data": "/nowhere"}, chosen.inputs())
    with caplog.at_level("INFO"):
        hooks._warn_of_idle(idle, chosen)
    said = [(record.levelname, record.message) for record in caplog.records]
    effect = "--params: raw_data=/nowhere: without effect, as the images are those that are stored"
    assert said == ([(level, effect)] if level else [])


def test_test_images_of_an_ingestion_that_was_stopped_are_refused(project: Path, run: Run) -> None:
    run("simple_cnn", to_outputs=["simple_cnn.classifier"])
    test_set = project / "data" / "sample" / "05_model_input" / "test_set.safetensors"
    former = test_set.read_bytes()
    run("ingestion", parameters={"split": {"validation_share": 0.5}})
    test_set.write_bytes(former)
    with pytest.raises(UserError, match="validation_set and test_set are of different ingestions"):
        run("simple_cnn", node_names=["simple_cnn.predict_test_set"])


@pytest.mark.parametrize("methods", [["plain"], ["tta"], ["plain", "batch_norm"]])
def test_images_of_another_split_are_refused_before_anything_is_measured(
    run: Run,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    methods: list[str],
) -> None:
    monkeypatch.setattr(log_hooks, "SECONDS_WORTH_A_LINE", 0.0)
    run("simple_cnn", to_outputs=["simple_cnn.classifier"])
    run("ingestion", parameters={"split": {"validation_share": 0.5}})
    caplog.set_level("INFO")
    few = {"robustness": {"images": 4, "methods": methods}}
    caplog.clear()
    with pytest.raises(UserError, match="validation images are of another split"):
        run("robustness", namespaces=["simple_cnn"], parameters=few)
    assert not [line for line in caplog.messages if line.startswith("simple_cnn.measure_on")]


def test_a_version_that_is_not_there_is_refused_and_nothing_made(project: Path, run: Run) -> None:
    run("simple_cnn", to_outputs=["simple_cnn.classifier"])
    classifiers = project / "data" / "sample" / "06_models" / "simple_cnn"
    (there,) = (path.name for path in (classifiers / "classifier.safetensors").iterdir())
    message = rf"--load-versions=simple_cnn.classifier:2020-01-01.*; there are: {there}"
    with pytest.raises(UserError, match=message):
        run(
            "robustness",
            namespaces=["simple_cnn"],
            load_versions={"simple_cnn.classifier": "2020-01-01T00.00.00.000Z"},
        )
    assert len(list((classifiers / "classifier.safetensors").iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "train_set",
            "this run does not load 'train_set' from where it is stored, but cifar100_raw",
        ),
        ("cifar100_raw", "of 'cifar100_raw' no versions are kept"),
    ],
)
def test_a_version_that_kedro_would_pass_over_is_refused(name: str, said: str, run: Run) -> None:
    with pytest.raises(UserError, match=rf"--load-versions={name}:2020.*: {said}"):
        run("ingestion", load_versions={name: "2020-01-01T00.00.00.000Z"})


@pytest.mark.parametrize(
    "pipeline", ["simple_cnn", "pretraining", "tuning", "ablation", "screening"]
)
def test_trainings_in_threads_are_refused(pipeline: str, run: Run) -> None:
    with pytest.raises(UserError, match="--runner=ThreadRunner: trainings in threads"):
        run(pipeline, runner=ThreadRunner())


def test_a_catalog_entry_of_no_kind_is_one_line(project: Path, run: Run) -> None:
    entry = "train_set: {type: cifar100_transfer.datasets.Imageset, filepath: x}\n"
    (project / "conf/sample/catalog_own.yml").write_text(entry)
    with pytest.raises(
        UserError, match=r"catalog in conf/, .* can't be used: .*Imageset"
    ) as raised:
        run("ingestion")
    assert "\n" not in str(raised.value)


def test_what_other_processes_have_saved_stands_in_the_manifest(project: Path, run: Run) -> None:
    nodes = ["split_images", "compute_normalization"]
    run("ingestion", runner=ParallelRunner(), node_names=nodes)
    (file,) = (project / "data/sample/08_reporting/runs").iterdir()
    assert {"train_set", "test_set", "normalization"} <= set(json.loads(file.read_text())["made"])
    run("ingestion", only_missing_outputs=True, node_names=nodes)
    newest_file = max((project / "data/sample/08_reporting/runs").iterdir())
    assert json.loads(newest_file.read_text())["made"] == [], "nothing was made anew"


def test_a_run_whose_images_others_replaced_meanwhile_is_finished_all_the_same(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from cifar100_transfer.evaluation import prediction

    predict = prediction.predict
    train_set = project / "data/sample/05_model_input/train_set.safetensors"

    def replacing(*args: Any) -> Any:
        ImageSetDataset(filepath=str(train_set)).save(random_image_set(2, 3, size=8))
        return predict(*args)

    monkeypatch.setattr(prediction, "predict", replacing)
    run("simple_cnn", to_outputs=["simple_cnn.metrics"])
    (file,) = (project / "data/sample/08_reporting/runs").iterdir()
    manifest = json.loads(file.read_text())
    assert manifest["status"] == "finished"
    assert {"train_set", "simple_cnn.metrics"} <= set(manifest["made"])
    assert "test_set" in manifest["data"]
    assert "train_set" not in manifest["data"]
    assert "no checksum of 'train_set'" in caplog.text


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
            run("simple_cnn", to_outputs=["simple_cnn.metrics"])
    assert epochs == 2
    resume = project / "data" / "sample" / "06_models" / "simple_cnn" / "resume"
    assert list(resume.iterdir())
    run("simple_cnn", to_outputs=["simple_cnn.metrics"])
    assert epochs == 2, "finished epochs were trained again"
    assert not resume.exists()


def test_a_run_that_trains_nothing_leaves_the_resume_point_of_another(
    project: Path, run: Run
) -> None:
    run("simple_cnn", to_outputs=["simple_cnn.metrics"])
    kept = project / "data" / "sample" / "06_models" / "simple_cnn" / "resume" / "resume.pt"
    kept.parent.mkdir()
    kept.write_text("of a training that was killed")
    run("simple_cnn", to_outputs=["simple_cnn.metrics"], only_missing_outputs=True)
    assert kept.exists()


def test_what_a_run_would_pass_over_is_refused_before_its_first_node(
    project: Path, run: Run
) -> None:
    with pytest.raises(UserError, match="give --namespaces=simple_cnn"):
        run("submission", parameters={"model": "simple_cnn"})
    (project / "conf" / "sample" / "parameters_tracking.yml").write_text("tensorboard: true")
    with pytest.raises(UserError, match=r"parameters_tracking\.yml: tensorboard=True: give a text"):
        run("ingestion")
    assert not list((project / "data").rglob("*.safetensors"))
