"""A data set of one's own, from a folder of pictures to a trained, judged and used model."""

import json
from pathlib import Path

import pandas as pd

from cifar100_transfer.models import load_classifier
from tests.pictures import write_class_folders
from tests.pipelines.conftest import Run, newest


def test_a_folder_of_pictures_becomes_a_model_that_classifies_pictures(
    project: Path, run: Run
) -> None:
    pictures = project / "pictures"
    # The first and the last are of one colour: they are taken for each other.
    write_class_folders(pictures, {"00": 30, "007": 30, "1": 30, "2": 30})
    run(
        "simple_cnn",
        env="folder",
        parameters={
            "raw_data": str(pictures),
            "image_size": 24,
            "simple_cnn": {"training": {"epochs": 3}},
        },
    )
    root = project / "data/folder"
    classifier = load_classifier(root / "06_models/simple_cnn/classifier.safetensors")
    assert classifier.spec.class_names == ("00", "007", "1", "2")
    assert classifier.spec.input_size == (24, 24)
    metrics = json.loads(newest(root / "08_reporting/simple_cnn", "metrics.json").read_text())
    assert metrics["test_accuracy"] > 0.4  # chance is a quarter
    assert "test_coarse_accuracy" not in metrics
    assert newest(root / "08_reporting/simple_cnn", "confused_pairs.png").is_file()
    assert "taken for nan" not in newest(root / "06_models/simple_cnn", "model_card.md").read_text()

    run(
        "prediction",
        env="folder",
        parameters={"model": "simple_cnn", "images": str(pictures / "007")},
    )
    table = pd.read_csv(
        newest(root / "07_model_output/simple_cnn", "picture_predictions.csv"), dtype=str
    )
    assert len(table) == 30
    assert (table["class_1"] == "007").mean() > 0.6
