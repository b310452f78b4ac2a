"""Image sets, predictions, classifiers and weights through Kedro's door."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DatasetError, Version

from cifar100_transfer import datasets
from cifar100_transfer.data import ImageSet, Predictions
from cifar100_transfer.datasets import (
    ClassifierDataset,
    ImageSetDataset,
    PredictionsDataset,
    PublishedWeightsDataset,
    WeightsDataset,
)
from cifar100_transfer.models import Classifier, ClassifierSpec, load_classifier


def test_image_sets_come_back(tmp_path: Path, image_set: ImageSet) -> None:
    dataset = ImageSetDataset(filepath=str(tmp_path / "set.safetensors"))
    dataset.save(image_set)
    loaded = dataset.load()
    assert torch.equal(loaded.images, image_set.images)
    assert torch.equal(loaded.labels, image_set.labels)


def test_predictions_come_back(tmp_path: Path) -> None:
    predictions = Predictions(torch.randn(3, 2), torch.tensor([0, 1, 1]), ("a", "b"))
    dataset = PredictionsDataset(filepath=str(tmp_path / "predictions.safetensors"))
    dataset.save(predictions)
    assert torch.equal(dataset.load().logits, predictions.logits)


def test_classifiers_come_back_and_can_be_loaded_without_kedro(tmp_path: Path) -> None:
    spec = ClassifierSpec("simple_cnn", ("a", "b"), (0.5,) * 3, (0.2,) * 3, input_size=(8, 8))
    classifier = Classifier(spec).eval()
    path = str(tmp_path / "classifier.safetensors")
    dataset = ClassifierDataset(filepath=path, version=Version(None, "1"))
    dataset.save(classifier)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(dataset.load()(images), classifier(images))
    assert torch.equal(load_classifier(path)(images), classifier(images))


def test_weights_are_read_and_never_written(tmp_path: Path) -> None:
    state = {"weight": torch.ones(2)}
    torch.save(state, tmp_path / "weights.pth")
    dataset = WeightsDataset(filepath=str(tmp_path / "weights.pth"))
    assert torch.equal(dataset.load()["weight"], state["weight"])
    with pytest.raises(DatasetError, match=r"weights\.pth: .* never written"):
        dataset.save(state)


@pytest.mark.parametrize(("name", "said"), [("none.pth", "do not exist"), ("", "are a folder")])
@pytest.mark.parametrize("kind", ["own", "published"])
def test_weights_that_are_not_there_say_how_to_name_others(
    tmp_path: Path, kind: str, name: str, said: str
) -> None:
    """No pipeline makes them."""
    path = str(tmp_path / name)
    dataset = (
        WeightsDataset(filepath=path) if kind == "own" else PublishedWeightsDataset(weights=path)
    )
    with pytest.raises(DatasetError, match=rf"{path} {said}: name .*--params=weights=FILE"):
        dataset.load()


def test_weights_with_versions_are_made_by_a_pipeline(tmp_path: Path) -> None:
    file = str(tmp_path / "classifier.safetensors")
    with pytest.raises(DatasetError, match="does not exist yet: run the pipeline"):
        WeightsDataset(filepath=file, version=Version(None, None)).load()


def test_published_weights_are_read_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def published(name: str) -> dict[str, Any]:
        return {name: torch.ones(1)}

    monkeypatch.setattr("cifar100_transfer.data.pretrained.published_weights", published)
    dataset = PublishedWeightsDataset(weights="A_Weights.B", metadata={"layer": "x"})
    assert list(dataset.load()) == ["A_Weights.B"]
    assert "A_Weights.B" in str(dataset)
    assert dataset.checksums() == {}
    with pytest.raises(DatasetError, match="can't be saved"):
        dataset.save({})


def test_a_file_may_stand_for_published_weights(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pth")
    dataset = PublishedWeightsDataset(weights=str(tmp_path / "weights.pth"))
    assert torch.equal(dataset.load()["weight"], torch.ones(2))
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    assert dataset.checksums() == {"weights.pth": digest}


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = datasets.Nonsense
