"""Submission and score on the embedded data, from a stored classifier to the CSV."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cifar100_transfer.data import ImageSet
from cifar100_transfer.data import challenge as challenge_data
from cifar100_transfer.data.challenge import check_submission
from cifar100_transfer.data.files import save_image_set
from cifar100_transfer.data.sample import generate, write_cifar_archive_folder
from cifar100_transfer.datasets import challenge as challenge_datasets
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation import adaptation
from cifar100_transfer.models import Classifier, ClassifierSpec, save_classifier
from cifar100_transfer.pipeline_registry import ENSEMBLE, MODELS, register_pipelines
from cifar100_transfer.pipelines.challenge_score.nodes import compute_score
from tests.pipelines.conftest import Run, newest

REGISTERED = register_pipelines()


def test_submission_and_score_are_registered_for_every_model() -> None:
    for name in ("submission", "challenge_score"):
        namespaces = {node.namespace for node in REGISTERED[name].nodes}
        assert namespaces == {*MODELS, ENSEMBLE}


def reachable(start: str) -> set[str]:
    """Names of all nodes and artifacts that come, however indirectly, of an artifact."""
    found, before = {start}, set[str]()
    while found != before:
        before = set(found)
        for pipeline in REGISTERED.values():
            for node in pipeline.nodes:
                if found & set(node.inputs):
                    found |= {node.name, *node.outputs}
    return found


def test_no_test_label_and_no_score_reaches_training_choice_or_submission() -> None:
    of_labels = reachable("test_set")
    for model in (*MODELS, ENSEMBLE):
        assert f"{model}.submission" not in of_labels
        assert f"{model}.classifier" not in of_labels
        score = REGISTERED["challenge_score"].only_nodes_with_namespaces([model])
        for output in score.all_outputs():
            assert reachable(output) <= score.all_outputs() | {node.name for node in score.nodes}
    for node in REGISTERED["submission"].nodes:
        assert node.name not in of_labels
        assert not {"test_set", "cifar100_raw"} & set(node.inputs)


@pytest.fixture
def quick_challenge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the images as they are: how they are corrupted is tested elsewhere."""
    monkeypatch.setattr(challenge_data, "corrupt", lambda chunk, *_args, **_options: chunk)


def store_classifier(data_root: Path, model: str = "simple_cnn", classes: int = 100) -> Classifier:
    """Put an untrained classifier where training would put it."""
    spec = ClassifierSpec(
        architecture="simple_cnn",
        class_names=tuple(f"class_{index:02}" for index in range(classes)),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
    )
    models, version = data_root / "06_models", "2026-01-01T00.00.00.000Z"
    folder = models / model / "classifier.safetensors" / version
    classifier = Classifier(spec)
    save_classifier(classifier, folder / "classifier.safetensors")
    return classifier


def store_sample(data_root: Path) -> ImageSet:
    """Put a sample and its test set where ingestion would put them; return the test set."""
    train, test = generate("target", "train", 1, seed=0), generate("target", "test", 1, seed=0)
    write_cifar_archive_folder(data_root / "01_raw", train, test)
    save_image_set(test, data_root / "05_model_input/test_set.safetensors")
    return test


def submissions(project: Path) -> list[Path]:
    folder = project / "data/sample/07_model_output/simple_cnn/submission.csv"
    return sorted(folder.glob("*/*")) if folder.is_dir() else []


@pytest.mark.usefixtures("quick_challenge")
def test_from_a_kill_to_a_scored_submission(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = store_classifier(project / "data/sample")
    test_set = store_sample(project / "data/sample")
    real, classified = adaptation.predict_logits, []

    def killed_in_the_fifth_file(*args: Any) -> Any:
        classified.append(1)
        if len(classified) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(adaptation, "predict_logits", killed_in_the_fifth_file)
    with pytest.raises(KeyboardInterrupt):
        run("submission", namespaces=["simple_cnn"])
    assert not submissions(project)

    # One by another method has no part in it.
    views = {"submission": {"method": "tta"}}
    run("submission", namespaces=["simple_cnn"], parameters=views)
    assert len(submissions(project)) == 1
    before = len(classified)
    run("submission", namespaces=["simple_cnn"])
    assert len(classified) == before + 15  # one chunk a file: four files were kept
    (_, stored) = submissions(project)
    check_submission(pd.read_csv(stored), images_per_severity=100)
    assert not list((project / "data/sample/07_model_output/simple_cnn").glob("submission_parts/*"))
    reporting = project / "data/sample/08_reporting/simple_cnn"
    summary = json.loads(newest(reporting, "submission_summary.json").read_text())
    assert summary["images"] == 9500
    assert sum(summary["predicted_images"].values()) == 9500

    run("challenge_score", namespaces=["simple_cnn"])
    score = json.loads(newest(reporting, "challenge_score.json").read_text())
    predicted = real(classifier, test_set.images).argmax(dim=1)
    accuracy = float((predicted == test_set.labels).double().mean())
    table = pd.read_csv(newest(reporting, "challenge_accuracy.csv"))
    # The images were left as they are, so every file scores what the test set does.
    assert score["challenge_accuracy"] == pytest.approx(accuracy)
    assert score["severity_3"] == pytest.approx(accuracy)
    assert len(table) == 95


@pytest.mark.usefixtures("quick_challenge")
def test_a_submission_over_views_scores_what_views_of_the_test_set_do(
    project: Path, run: Run
) -> None:
    classifier = store_classifier(project / "data/sample")
    test_set = store_sample(project / "data/sample")
    run("submission", namespaces=["simple_cnn"], parameters={"submission": {"method": "tta"}})
    reporting = project / "data/sample/08_reporting/simple_cnn"
    summary = json.loads(newest(reporting, "submission_summary.json").read_text())
    assert summary["method"] == "tta"
    (stored,) = submissions(project)
    labels = pd.read_csv(stored)["label"][: len(test_set)].tolist()
    logits = adaptation.augmented(adaptation.plain(classifier))(test_set.images)
    assert labels == logits.argmax(dim=1).tolist()
    assert labels != adaptation.plain(classifier)(test_set.images).argmax(dim=1).tolist()


@pytest.mark.usefixtures("quick_challenge")
def test_a_full_disk_keeps_what_was_classified_and_publishes_nothing(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_classifier(project / "data/sample")
    store_sample(project / "data/sample")

    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(challenge_data, "_write_rows", full)
    monkeypatch.setattr(
        adaptation, "predict_logits", lambda _, images: torch.zeros(len(images), 100)
    )
    with pytest.raises(UserError, match=r"submission\.csv can't be written \(No space left"):
        run("submission", namespaces=["simple_cnn"])
    assert not submissions(project)
    parts = project / "data/sample/07_model_output/simple_cnn/submission_parts"
    assert len(list(parts.glob("*.safetensors"))) == 19


def test_a_submission_without_a_classifier_says_what_to_do(run: Run) -> None:
    with pytest.raises(UserError, match=r"classifier\.safetensors does not exist yet"):
        run("submission", env="local", namespaces=["simple_cnn"])
    with pytest.raises(UserError, match=r"\(--pipelines=submission --namespaces=simple_cnn\)"):
        run("challenge_score", env="local", namespaces=["simple_cnn"])


@pytest.mark.parametrize(
    ("classes", "submission", "said"),
    [
        (3, {}, "has 100 classes, but the classifier knows 3"),
        (
            100,
            {"method": "batch_norm", "source_weight": 0.0},
            "method=batch_norm: simple_cnn has no batch norm",
        ),
    ],
)
def test_what_can_not_predict_the_challenge_is_refused_before_anything_is_fetched(
    project: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    classes: int,
    submission: dict[str, Any],
    said: str,
) -> None:
    def fetch(*_args: Any) -> None:
        raise AssertionError("no file is asked for")

    monkeypatch.setitem(challenge_datasets._SOURCES, "official", fetch)
    store_classifier(project / "data", classes=classes)
    with pytest.raises(UserError, match=said):
        run(
            "submission",
            env="local",
            namespaces=["simple_cnn"],
            parameters={"submission": submission},
        )


def test_missing_classifiers_stop_a_run_of_several_models_before_any_is_worked_on(
    project: Path, run: Run
) -> None:
    for model in ("simple_cnn", "express"):
        store_classifier(project / "data", model)
    with pytest.raises(UserError) as refused:
        run("submission", env="local")
    said = str(refused.value)
    assert "06_models/champion/classifier.safetensors does not exist yet: run the pipeline" in said
    assert "--namespaces=express,simple_cnn" in said
    assert "makes it: champion.classifier (--pipelines=champion), ensemble.classifier (" in said
    assert not list((project / "data").glob("08_reporting/runs/*")), "nothing was begun"


@pytest.mark.usefixtures("quick_challenge")
def test_a_score_of_nothing_yet_makes_all_it_needs_on_the_embedded_data(
    project: Path, run: Run
) -> None:
    run("challenge_score", namespaces=["simple_cnn"])
    score = newest(project / "data/sample/08_reporting/simple_cnn", "challenge_score.json")
    assert 0 <= json.loads(score.read_text())["challenge_accuracy"] <= 1
    models = project / "data/sample/06_models"
    assert [folder.name for folder in models.iterdir()] == ["simple_cnn"]


@pytest.mark.usefixtures("no_network")
def test_absent_challenge_files_without_a_network_say_where_to_put_them(
    project: Path, run: Run
) -> None:
    store_classifier(project / "data")
    with pytest.raises(UserError) as raised:
        run("submission", env="local", namespaces=["simple_cnn"])
    for hint in ("data/01_raw/challenge", "distortion00.npy", "--env=sample", "challenge_data=DIR"):
        assert hint in str(raised.value)


def test_the_score_is_the_accuracy_over_all_images() -> None:
    accuracy = pd.DataFrame(
        {"severity": [1, 2, 1, 2], "accuracy": [0.1, 0.3, 0.5, 0.7], "images": 10}
    )
    assert compute_score(accuracy, model="m") == {
        "challenge_accuracy": pytest.approx(0.4),
        "severity_1": pytest.approx(0.3),
        "severity_2": pytest.approx(0.5),
        "images": 40,
    }
