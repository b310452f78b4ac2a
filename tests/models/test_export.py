"""Exported classifiers compute what the classifier computes, for any number of images."""

import io
import json

import pytest
import torch

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, ClassifierSpec, export, predict_logits


def make(architecture: str, size: int = 16, image_size: int | None = None) -> Classifier:
    torch.manual_seed(0)
    return Classifier(
        ClassifierSpec(
            architecture=architecture,
            class_names=("ant", "bee", "Käfer"),
            mean=(0.5, 0.4, 0.3),
            std=(0.2, 0.2, 0.3),
            input_size=(size, size),
            image_size=image_size,
        )
    )


def pictures(count: int, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("architecture", "image_size"), [("resnet18", None), ("simple_cnn", 24)])
def test_a_program_computes_what_the_classifier_computes(
    architecture: str, image_size: int | None
) -> None:
    classifier = make(architecture, image_size=image_size).train()
    content = export.export_program(classifier)
    assert classifier.training
    run = export.load_program(content)
    for count in (1, 2, 33):
        images = pictures(count)
        assert torch.allclose(run(images), predict_logits(classifier, images), atol=1e-5)
    extra = {export.SPEC_FILE: ""}
    program = torch.export.load(io.BytesIO(content), extra_files=extra)
    assert ClassifierSpec.from_json(extra[export.SPEC_FILE]) == classifier.spec
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    convolutions = [m for m in classifier.modules() if isinstance(m, torch.nn.Conv2d)]
    assert called.count("aten.conv2d.default") == len(convolutions)


def test_an_export_that_computes_otherwise_is_refused() -> None:
    classifier, images = make("simple_cnn"), pictures(4)
    report = export.check_export(lambda x: predict_logits(classifier, x), classifier, images, ())
    assert report["max_abs_difference"] < 1e-5
    assert report["same_prediction"] == 1
    for wrong in (
        lambda x: predict_logits(classifier, x) + 0.01,
        lambda x: predict_logits(classifier, x) * torch.nan,
        lambda x: predict_logits(classifier, x.flip(0)),
        lambda x: predict_logits(classifier, x).index_fill(0, torch.arange(1, len(x)), torch.nan),
    ):
        with pytest.raises(UserError, match="so it was not stored"):
            export.check_export(wrong, classifier, images, ("torch",))


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "ONNX_PACKAGES", ("onnx_of_tomorrow",))
    with pytest.raises(UserError, match=r"needs onnx_of_tomorrow: pip install .*\[onnx\]"):
        export.export_onnx(make("simple_cnn"))


@pytest.mark.parametrize(("architecture", "image_size"), [("resnet18", None), ("simple_cnn", 24)])
def test_onnx_computes_what_the_classifier_computes(
    architecture: str, image_size: int | None
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    classifier = make(architecture, image_size=image_size)
    content = export.export_onnx(classifier)
    run = export.load_onnx(content)
    for count in (1, 2, 33):
        images = pictures(count)
        assert torch.allclose(run(images), predict_logits(classifier, images), atol=1e-5)
    metadata = onnxruntime.InferenceSession(content).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["ant", "bee", "Käfer"]
