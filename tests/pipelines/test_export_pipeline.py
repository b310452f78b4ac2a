"""The export pipeline stores what was checked on test images, and only that."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cifar100_transfer.data import ImageSet
from cifar100_transfer.data.files import save_image_set
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import export
from tests.pipelines.conftest import Run, newest
from tests.pipelines.test_prediction import store_classifier


@pytest.fixture
def test_set(project: Path) -> ImageSet:
    classifier = store_classifier(project)
    images = ImageSet(
        images=torch.randint(0, 256, (300, 3, 12, 16), dtype=torch.uint8),
        labels=torch.arange(300) % 7,
        class_names=classifier.spec.class_names,
    )
    save_image_set(images, project / "data/sample/05_model_input/test_set.safetensors")
    return images


def test_a_program_is_stored_with_its_check(project: Path, run: Run, test_set: ImageSet) -> None:
    run("export", parameters={"model": "simple_cnn"}, node_names=["export_program"])
    root = project / "data/sample"
    content = newest(root / "06_models/simple_cnn", "classifier.pt2").read_bytes()
    assert export.load_program(content)(test_set.images).shape == (300, 7)
    check = json.loads(
        newest(root / "08_reporting/simple_cnn", "export_program_check.json").read_text()
    )
    assert check["images"] == 256
    assert 0 <= check["max_abs_difference"] < 1e-4 * check["largest_logit"]


def test_an_export_that_computes_otherwise_is_not_stored(
    project: Path, run: Run, test_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_content: bytes) -> export.Runner:
        return lambda images: torch.zeros(len(images), 7)

    monkeypatch.setattr(export, "load_program", wrong)
    with pytest.raises(UserError, match="so it was not stored"):
        run("export", parameters={"model": "simple_cnn"}, node_names=["export_program"])
    assert not (project / "data/sample/06_models/simple_cnn/classifier.pt2").exists()


def test_images_of_another_size_are_refused_before_the_export(
    project: Path, run: Run, test_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(test_set, images=test_set.images[:, :, :, :8])
    save_image_set(other, project / "data/sample/05_model_input/test_set.safetensors")
    monkeypatch.setattr(export, "export_program", lambda _: pytest.fail("exported"))
    with pytest.raises(UserError, match=r"are of \(12, 8\) pixels, .* trained on of \(12, 16\)"):
        run("export", parameters={"model": "simple_cnn"}, node_names=["export_program"])


def test_onnx_is_stored_or_its_extra_is_named_before_the_run(
    project: Path, run: Run, test_set: ImageSet
) -> None:
    models = project / "data/sample/06_models/simple_cnn"
    if all(importlib.util.find_spec(name) for name in export.ONNX_PACKAGES):
        run("export", parameters={"model": "simple_cnn"})
        content = newest(models, "classifier.onnx").read_bytes()
        assert export.load_onnx(content)(test_set.images).shape == (300, 7)
    else:
        with pytest.raises(UserError, match="pip install"):
            run("export", parameters={"model": "simple_cnn"})
        assert not (models / "classifier.pt2").exists()
