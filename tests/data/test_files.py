"""Image sets and predictions survive a stay on the disk; whatever else lies there is named."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifar100_transfer.data import ImageSet, Predictions
from cifar100_transfer.data.files import (
    load_image_set,
    load_predictions,
    read_division,
    save_image_set,
    save_predictions,
)
from cifar100_transfer.errors import UserError
from cifar100_transfer.sealed import pack

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")
NAMES = st.lists(st.text(CHARACTERS, max_size=8), min_size=2, max_size=5, unique=True).map(tuple)


def same(first: ImageSet | Predictions, second: ImageSet | Predictions) -> bool:
    tensor = "images" if isinstance(first, ImageSet) else "logits"
    return (
        torch.equal(getattr(first, tensor), getattr(second, tensor))
        and torch.equal(first.labels, second.labels)
        and first.class_names == second.class_names
        and first.coarse_names == second.coarse_names
        and first.coarse_of_class == second.coarse_of_class
        and getattr(first, "division", "") == getattr(second, "division", "")
    )


@given(names=NAMES, hierarchy=st.booleans(), count=st.integers(0, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_image_sets_come_back(
    tmp_path: Path, names: tuple[str, ...], hierarchy: bool, count: int
) -> None:
    images = ImageSet(
        images=torch.randint(0, 256, (count, 3, 5, 4), dtype=torch.uint8),
        labels=torch.randint(0, len(names), (count,)),
        class_names=names,
        coarse_names=("größer",) if hierarchy else (),
        coarse_of_class=(0,) * len(names) if hierarchy else (),
        division="of a test" if hierarchy else "",
    )
    save_image_set(images, tmp_path / "set.safetensors")
    assert same(images, load_image_set(tmp_path / "set.safetensors"))
    assert read_division(tmp_path / "set.safetensors") == images.division


@given(names=NAMES, count=st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_predictions_come_back(tmp_path: Path, names: tuple[str, ...], count: int) -> None:
    predictions = Predictions(
        logits=torch.randn(count, len(names)),
        labels=torch.randint(0, len(names), (count,)),
        class_names=names,
        classifier="of a test",
        image_set="its images",
    )
    save_predictions(predictions, tmp_path / "predictions.safetensors")
    assert same(predictions, load_predictions(tmp_path / "predictions.safetensors"))


def test_views_are_stored_as_they_look(tmp_path: Path, image_set: ImageSet) -> None:
    turned = image_set.with_images(image_set.images.flip(-1).transpose(2, 3))
    save_image_set(turned, tmp_path / "set.safetensors")
    assert same(turned, load_image_set(tmp_path / "set.safetensors"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set\.safetensors does not exist: run the pipeline"):
        load_image_set(tmp_path / "set.safetensors")
    with pytest.raises(UserError, match=r"set\.safetensors does not exist: run the pipeline"):
        read_division(tmp_path / "set.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_truncated_file_is_damaged(tmp_path: Path, image_set: ImageSet, share: float) -> None:
    path = tmp_path / "set.safetensors"
    save_image_set(image_set, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"set\.safetensors is damaged"):
        load_image_set(path)


def test_the_other_kind_of_file_is_refused(tmp_path: Path, image_set: ImageSet) -> None:
    path = tmp_path / "set.safetensors"
    save_image_set(image_set, path)
    with pytest.raises(
        UserError, match=r"holds \['images', 'labels'\] instead of \['labels', 'logits'\]"
    ):
        load_predictions(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda classes: classes | {"surplus": ["x"]},
        lambda classes: {"class_names": 3},
        lambda classes: {},
        lambda classes: classes | {"class_names": [["nested"]] * 6},
        lambda classes: classes | {"class_names": ["too few"]},
        lambda classes: classes | {"coarse_of_class": ["a"] * 6},
    ],
)
def test_foreign_metadata_is_a_user_error_that_names_the_file(
    tmp_path: Path, image_set: ImageSet, spoil: Callable[[dict[str, object]], object]
) -> None:
    path = tmp_path / "set.safetensors"
    classes: dict[str, object] = {
        "class_names": image_set.class_names,
        "coarse_names": image_set.coarse_names,
        "coarse_of_class": image_set.coarse_of_class,
    }
    tensors = {"images": image_set.images, "labels": image_set.labels}
    path.write_bytes(pack(tensors, "classes", spoil(classes)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"set\.safetensors"):
        load_image_set(path)
