"""Pictures of one's own, classified by a stored model: from parameters to the contact sheet."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from kedro.io import Version
from PIL import Image

from cifar100_transfer.data.pictures import read_picture
from cifar100_transfer.datasets import ChosenClassifierDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, ClassifierSpec, save_classifier
from tests.pictures import write_pictures
from tests.pipelines.conftest import Run, newest


def store_classifier(project: Path, classes: int = 7) -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier(
        ClassifierSpec(
            architecture="simple_cnn",
            class_names=tuple(f"class_{index}" for index in range(classes)),
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            input_size=(12, 16),
        )
    )
    folder = project / "data/sample/06_models/simple_cnn/classifier.safetensors/2026-01-01"
    save_classifier(classifier, folder / "classifier.safetensors")
    return classifier.eval()


def predict(run: Run, images: Path, model: str = "simple_cnn") -> None:
    run("prediction", parameters={"model": model, "images": str(images)})


def test_every_picture_gets_its_classes_and_what_is_none_is_listed(
    project: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = store_classifier(project)
    names = write_pictures(project / "pictures")
    (project / "pictures" / "notes.txt").write_text("no picture")
    with caplog.at_level("INFO"):
        predict(run, project / "pictures")
    assert f"{sorted(names)[0]}: class_" in caplog.text
    assert f"{sorted(names)[5]}: class_" not in caplog.text
    assert "1 of 8 files can't be read as pictures" in caplog.text
    assert "notes.txt" in caplog.text

    table = pd.read_csv(
        newest(project / "data/sample/07_model_output/simple_cnn", "picture_predictions.csv")
    )
    assert table["file"].tolist() == sorted([*names, "notes.txt"])
    unread = table[table["file"] == "notes.txt"].iloc[0]
    assert "notes.txt can't be read as a picture" in unread["problem"]
    assert unread.isna().sum() == 10
    read = table[table["file"] != "notes.txt"]
    assert read["problem"].isna().all()
    for row in read.itertuples():
        picture = read_picture(project / "pictures" / str(row.file), (12, 16))
        expected = classifier(picture[None]).softmax(1)[0].topk(5)
        assert [getattr(row, f"class_{rank}") for rank in range(1, 6)] == [
            f"class_{index}" for index in expected.indices.tolist()
        ]
        assert [getattr(row, f"probability_{rank}") for rank in range(1, 6)] == pytest.approx(
            expected.values.tolist(), abs=1e-5
        )
    with Image.open(
        newest(project / "data/sample/08_reporting/simple_cnn", "contact_sheet.png")
    ) as sheet:
        assert sheet.format == "PNG"


def test_one_file_and_fewer_classes_than_five_are_enough(project: Path, run: Run) -> None:
    store_classifier(project, classes=2)
    write_pictures(project / "pictures")
    predict(run, project / "pictures" / "photo.jpg")
    (row,) = pd.read_csv(
        newest(project / "data/sample/07_model_output/simple_cnn", "picture_predictions.csv")
    ).to_dict("records")
    assert {row["class_1"], row["class_2"]} == {"class_0", "class_1"}
    assert row["probability_1"] + row["probability_2"] == pytest.approx(1)
    assert "class_3" not in row


def test_only_unreadable_files_end_the_run_and_leave_nothing(project: Path, run: Run) -> None:
    store_classifier(project)
    (project / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"none of the 1 files .* can be read as a picture"):
        predict(run, project / "notes.txt")
    assert not (project / "data/sample/07_model_output").exists()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "06_models: name one with --params=model=NAME; there are: simple_cnn"),
        ({"model": "simple_cnn"}, "--params=images=FILE_OR_FOLDER"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_read(
    project: Path, run: Run, parameters: dict[str, str], said: str
) -> None:
    store_classifier(project)
    with pytest.raises(UserError) as raised:
        run("prediction", parameters=parameters)
    assert said in str(raised.value)
    assert ("no model is named" in str(raised.value)) == (not parameters)
    assert "\n" not in str(raised.value)


def test_a_model_that_is_not_stored_is_named(tmp_path: Path) -> None:
    file = tmp_path / "06_models" / "transfr" / "classifier.safetensors"
    dataset = ChosenClassifierDataset(filepath=str(file), version=Version(None, None))
    with pytest.raises(UserError, match=r"'transfr'.*there is none yet \(kedro run --pipelines="):
        dataset.check()


def test_a_version_that_is_not_stored_is_named_with_those_there_are(project: Path) -> None:
    store_classifier(project)
    file = project / "data/sample/06_models/simple_cnn/classifier.safetensors"
    ChosenClassifierDataset(filepath=str(file), version=Version("2026-01-01", None)).check()
    dataset = ChosenClassifierDataset(filepath=str(file), version=Version("2020-01-01", None))
    with pytest.raises(UserError, match=r"'simple_cnn' has no version 2020-01-01.*: 2026-01-01$"):
        dataset.check()
