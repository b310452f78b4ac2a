"""The tuning pipelines on the embedded data, and what they are not shown."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pandas as pd
import pytest
import torch

from cifar100_transfer.config import (
    AblationConfig,
    ComputeConfig,
    ModelConfig,
    ScreeningConfig,
    SearchConfig,
    TrainingConfig,
)
from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipeline_registry import MODELS, register_pipelines
from cifar100_transfer.pipelines.tuning.nodes import (
    _data,
    ablate_recipe,
    screen_architectures,
    search_recipe,
)
from cifar100_transfer.training import Compute
from tests.pipelines.conftest import Run, newest

KINDS = ("tuning", "ablation", "screening")
SEARCH = {
    "space": [
        {"parameter": "training.batch_size", "values": [64, 128]},
        {"parameter": "training.epochs", "values": [1, 2]},
    ]
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_node_of_a_tuning_pipeline_is_given_test_images(kind: str) -> None:
    pipeline = register_pipelines()[kind]
    after_test_images = {node.name for node in pipeline.from_inputs("test_set").nodes}
    tuning = {node.name for node in pipeline.only_nodes_with_tags("search", *KINDS).nodes}
    assert tuning
    assert not tuning & after_test_images
    # The check would see it: drawing the counts of all sets does read them.
    assert "count_classes" in after_test_images


def test_every_kind_stores_its_evidence_and_the_best_recipe_trains_in_an_environment(
    project: Path, run: Run
) -> None:
    run("tuning", namespaces=["simple_cnn"], parameters={"simple_cnn": {"search": SEARCH}})
    reporting = project / "data/sample/08_reporting/simple_cnn"
    trials = pd.read_csv(newest(reporting, "search_trials.csv"))
    assert trials["state"].tolist() == ["complete"] * 4
    for name in ("history", "importances", "slices", "parallel_coordinates"):
        assert newest(reporting, f"search_{name}.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads(newest(reporting, "search_summary.json").read_text())
    assert (project / "data/sample/07_model_output/tuning/studies.db").is_file()

    change = {"name": "smooth", "set": {"training.label_smoothing": 0.1}}
    ablation = {"base": {"training.epochs": 1}, "changes": [change], "seeds": [0]}
    run("ablation", namespaces=["simple_cnn"], parameters={"simple_cnn": {"ablation": ablation}})
    table = pd.read_csv(newest(reporting, "ablation.csv"))
    assert table["change"].tolist() == ["base", "smooth"]
    assert newest(reporting, "ablation.png").is_file()

    # It is all that is missing: images and statistics are there by now.
    parameters = {"screening": {"architectures": ["simple_cnn"], "seconds": 1.5}}
    run("screening", tags=["screening"], parameters=parameters)
    table = pd.read_csv(newest(reporting.parent, "screening.csv"))
    assert table["architecture"].tolist() == ["simple_cnn"]
    assert newest(reporting.parent, "screening.png").is_file()

    tuned = project / "conf" / "tuned"
    tuned.mkdir()
    for file in ("catalog_01_raw.yml", "globals.yml", "parameters_ingestion.yml"):
        shutil.copy(project / "conf" / "sample" / file, tuned)
    shutil.copy(newest(reporting, "parameters_simple_cnn.yml"), tuned)
    wanted = ["simple_cnn.metrics"]
    run("simple_cnn", env="tuned", parameters={"simple_cnn": {}}, to_outputs=wanted)
    metrics = json.loads(newest(reporting, "metrics.json").read_text())
    assert metrics["validation_accuracy"] == summary["best_validation_accuracy"]


@pytest.mark.parametrize(
    ("pipeline", "parameters", "said"),
    [
        (
            "tuning",
            {"simple_cnn": {"search": {"space": [{"parameter": "epochs", "values": [1]}]}}},
            "simple_cnn.search.space: a recipe has no parameter 'epochs': "
            "did you mean training.epochs",
        ),
        (
            "ablation",
            {"simple_cnn": {"ablation": {"base": {"training.epochs": 0}}}},
            "simple_cnn.ablation.base: training.epochs=0",
        ),
        (
            "screening",
            {"screening": {"architectures": ["alexnett"]}},
            "screening.architectures: 'alexnett' is no known architecture: did you mean alexnet",
        ),
        ("tuning", {"compute": {"devices": 2}}, "compute.devices=2: a trial takes one device"),
    ],
)
def test_what_cannot_be_tried_stops_a_run_before_anything_is_written(
    project: Path, run: Run, pipeline: str, parameters: dict[str, object], said: str
) -> None:
    # A model of one's own may have no block for them (docs/add_a_model.md).
    models = None if pipeline == "screening" else ["simple_cnn"]
    with pytest.raises(UserError) as raised:
        run(pipeline, parameters=parameters, namespaces=models)
    assert said in str(raised.value)
    assert not (project / "data").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_trials_are_computed_as_the_parameters_say(
    make_image_set: Callable[..., ImageSet],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    asked: list[object] = []

    def train(*positional: object, **_: object) -> None:
        asked.append(positional[4])
        raise UserError("that is enough")

    monkeypatch.setattr("cifar100_transfer.tuning.trial_data.train", train)
    images = make_image_set(classes=4, per_class=8, size=8)
    statistics = asdict(channel_statistics(images.images))
    compute = ComputeConfig(device="cpu", precision="bfloat16", compile=True, cuda_graphs=False)
    model, training = ModelConfig(architecture="simple_cnn"), TrainingConfig()
    change = {"name": "smooth", "set": {"training.label_smoothing": 0.1}}
    node, configs = {
        "tuning": (
            partial(search_recipe, model_name="m"),
            (model, training, SearchConfig.model_validate(SEARCH)),
        ),
        "ablation": (
            partial(ablate_recipe, model_name="m"),
            (model, training, AblationConfig.model_validate({"changes": [change]})),
        ),
        "screening": (
            screen_architectures,
            (ScreeningConfig(architectures=("simple_cnn",), training=training),),
        ),
    }[kind]
    with caplog.at_level("INFO"), pytest.raises(UserError, match="that is enough"):
        node(images, images, statistics, *configs, compute, f"sqlite:///{tmp_path}/studies.db")
    assert set(asked) == {Compute(torch.device("cpu"), torch.bfloat16, True, False)}
    assert "Trials learn from 32 images and are judged by 32" in caplog.messages


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_can_be_sent_to_the_processes_of_a_parallel_runner(kind: str) -> None:
    for node in register_pipelines()[kind].nodes:
        ForkingPickler.dumps(node)


def test_every_model_can_be_tuned_under_its_name() -> None:
    registered = register_pipelines()
    for model in MODELS:
        for kind, node in (("tuning", "search_recipe"), ("ablation", "ablate_recipe")):
            one = registered[kind].filter(node_namespaces=[model])
            assert f"{model}.{node}" in {n.name for n in one.nodes}


def test_a_study_refuses_sets_that_were_not_made_together(image_set: ImageSet) -> None:
    other = replace(image_set, division="another")
    with pytest.raises(UserError, match="train_set and validation_set are of different ingestions"):
        _data(image_set, other, {}, ComputeConfig(device="cpu"))
