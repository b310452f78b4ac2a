"""A classifier carries its preprocessing, and survives a stay on the disk."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, ClassifierSpec, load_classifier, save_classifier
from cifar100_transfer.sealed import pack

SPEC = ClassifierSpec(
    architecture="simple_cnn",
    class_names=("Äpfel", "bear", "cup"),
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.25),
    input_size=(10, 8),
    coarse_names=("food", "rest"),
    coarse_of_class=(0, 1, 1),
    recipe={"training": {"epochs": 3, "augmentation": {"flip": True}}, "list": [1, [2]]},
)


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(SPEC).eval()


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, 10, 8), dtype=torch.uint8, generator=generator)


def test_bytes_and_fractions_agree(classifier: Classifier, images: torch.Tensor) -> None:
    assert torch.allclose(classifier(images), classifier(images / 255), atol=1e-5)
    assert torch.allclose(classifier(images), classifier(images.double() / 255), atol=1e-5)


def test_preprocessing_is_torchvisions(classifier: Classifier, images: torch.Tensor) -> None:
    expected = v2.Normalize(list(SPEC.mean), list(SPEC.std))(images / 255)
    assert torch.allclose(classifier.preprocess(images), expected, atol=1e-5)


def test_images_are_resized_for_the_network(images: torch.Tensor) -> None:
    classifier = Classifier(dataclasses.replace(SPEC, image_size=24))
    resized = v2.functional.resize(images / 255, [24, 24], antialias=True)
    expected = v2.Normalize(list(SPEC.mean), list(SPEC.std))(resized)
    assert torch.allclose(classifier.preprocess(images), expected, atol=1e-4)
    assert torch.allclose(classifier.preprocess(images / 255), expected, atol=1e-4)
    assert classifier(images).shape == (5, 3)


def test_images_of_another_size_are_brought_to_that_of_training(classifier: Classifier) -> None:
    assert classifier.preprocess(torch.rand(2, 3, 30, 30)).shape == (2, 3, 10, 8)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(2, 3, 10, 8).numpy(), "torch.Tensor, got ndarray: torch.from_numpy"),
        (
            torch.zeros(2, 10, 8, 3),
            r"uint8 or floating point \[N, 3, H, W\], got float32 \[2, 10, 8, 3",
        ),
        (torch.zeros(3, 10, 8), r"got float32 \[3, 10, 8\]"),
        (torch.zeros(3, 3, 8), r"got float32 \[3, 3, 8\]"),
        (torch.zeros(2, 1, 10, 8), r"got float32 \[2, 1, 10, 8\]"),
        (torch.zeros(2, 3, 10, 8, dtype=torch.int64), r"got int64 \[2, 3, 10, 8\]"),
    ],
)
def test_what_are_no_images_is_refused(
    classifier: Classifier, images: torch.Tensor, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        classifier(images)


def test_a_stored_classifier_gives_the_same_logits(
    tmp_path: Path, classifier: Classifier, images: torch.Tensor
) -> None:
    save_classifier(classifier, tmp_path / "classifier.safetensors")
    loaded = load_classifier(str(tmp_path / "classifier.safetensors"))
    assert not loaded.training
    assert loaded.spec == SPEC
    assert torch.equal(loaded(images), classifier(images))


def test_dropout_survives_the_disk(tmp_path: Path) -> None:
    classifier = Classifier(dataclasses.replace(SPEC, dropout=0.5))
    save_classifier(classifier, tmp_path / "classifier.safetensors")
    loaded = load_classifier(tmp_path / "classifier.safetensors").train()
    images = torch.rand(3, 3, 10, 8)
    assert not torch.equal(loaded(images), loaded(images))


def test_networks_that_ask_for_their_version_survive_the_disk(tmp_path: Path) -> None:
    classifier = Classifier(dataclasses.replace(SPEC, architecture="mnasnet0_5", image_size=32))
    save_classifier(classifier, tmp_path / "classifier.safetensors")
    loaded = load_classifier(tmp_path / "classifier.safetensors")
    images = torch.rand(2, 3, 10, 8)
    assert torch.equal(loaded(images), classifier.eval()(images))


def test_of_several_versions_the_newest_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "classifier.safetensors"
    for version, name in (("2024-01-02", "new"), ("2024-01-01", "old")):
        spec = dataclasses.replace(SPEC, class_names=(name,), coarse_names=(), coarse_of_class=())
        save_classifier(Classifier(spec), folder / version / folder.name)
    assert load_classifier(folder).spec.class_names == ("new",)


def test_a_folder_without_versions_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no stored version: train the model first"):
        load_classifier(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.safetensors does not exist: train"):
        load_classifier(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_a_truncated_file_is_damaged(tmp_path: Path, classifier: Classifier, share: float) -> None:
    path = tmp_path / "classifier.safetensors"
    save_classifier(classifier, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"classifier\.safetensors is damaged"):
        load_classifier(path)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="holds no classifier of this project"):
        load_classifier(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "resnet18", "image_size": 32},
        {"architecture": "of the future"},
        {"class_names": ["a"]},
        {"class_names": 5},
        {"mean": "x"},
        {"new_field": 1},
    ],
)
def test_a_spec_that_does_not_fit_is_a_user_error(
    tmp_path: Path, classifier: Classifier, changes: dict[str, object]
) -> None:
    path = tmp_path / "classifier.safetensors"
    description = json.loads(SPEC.to_json()) | changes
    path.write_bytes(pack(classifier.state_dict(), "classifier", description))
    with pytest.raises(UserError, match=r"classifier\.safetensors is damaged or of another"):
        load_classifier(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, classifier: Classifier) -> None:
    with torch.no_grad():
        next(classifier.parameters()).view(-1)[0] = math.nan
    save_classifier(classifier, tmp_path / "classifier.safetensors")
    with pytest.raises(UserError, match=r"classifier\.safetensors holds weights that are not fin"):
        load_classifier(tmp_path / "classifier.safetensors")


FRACTION = st.floats(0.01, 1)
TRIPLE = st.tuples(FRACTION, FRACTION, FRACTION)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.builds(
        ClassifierSpec,
        architecture=st.text(max_size=9),
        class_names=st.lists(st.text(max_size=5), max_size=4).map(tuple),
        mean=TRIPLE,
        std=TRIPLE,
        input_size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
        image_size=st.none() | st.integers(1, 64),
        dropout=st.none() | FRACTION,
        coarse_names=st.lists(st.text(max_size=5), max_size=4).map(tuple),
        coarse_of_class=st.lists(st.integers(0, 3), max_size=4).map(tuple),
        recipe=st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    )
)
def test_specs_come_back_from_json(spec: ClassifierSpec) -> None:
    assert ClassifierSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"architecture": "x"}', "no json"])
def test_other_json_is_no_spec(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected the fields|Expecting value"):
        ClassifierSpec.from_json(text)


def test_images_are_averaged_where_they_are_made_smaller() -> None:
    spec = ClassifierSpec("simple_cnn", ("a", "b"), (0.5,) * 3, (0.25,) * 3, image_size=8)
    stripes = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    stripes[..., ::4] = 255
    seen = Classifier(spec).preprocess(stripes)[..., 2:-2, 2:-2]
    # A quarter of the pixels is white: (1/4 - 1/2) / (1/4).
    torch.testing.assert_close(seen, torch.full_like(seen, -1.0), atol=0.05, rtol=0)
