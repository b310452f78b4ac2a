"""Which of the stored classifiers belong together, and what is said of those that are missing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DatasetError

from cifar100_transfer.datasets.stored import StoredClassifiers, StoredClassifiersDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import (
    Classifier,
    ClassifierSpec,
    average_classifiers,
    save_classifier,
)

SPEC = ClassifierSpec("simple_cnn", ("a", "b"), (0.5,) * 3, (0.2,) * 3, (8, 8))


def store(root: Path, model: str, version: str, seed: int | None, **changes: Any) -> None:
    recipe = {"training": {"epochs": changes.pop("epochs", 2)}, "validation_images": "digest"}
    if seed is not None:
        recipe["training"]["seed"] = seed  # type: ignore[index]
    classifier = Classifier(replace(SPEC, recipe=recipe, **changes))
    name = "classifier.safetensors"
    file = root / "06_models" / model / name / version / name
    file.parent.mkdir(parents=True)
    save_classifier(classifier, file)


def seeds_in(root: Path, model: str = "m") -> list[tuple[int | None, str]]:
    found = StoredClassifiersDataset(filepath=str(root)).load().seeds_of(model)
    assert {one.model for one in found} == {model}
    return [(one.seed, one.version) for one in found]


def test_seeds_of_the_newest_recipe_belong_together(tmp_path: Path) -> None:
    store(tmp_path, "m", "2024-01-01", seed=0)
    store(tmp_path, "m", "2024-01-02", seed=2)
    store(tmp_path, "m", "2024-01-03", seed=1)
    store(tmp_path, "other", "2024-01-04", seed=5)
    assert seeds_in(tmp_path) == [(0, "2024-01-01"), (1, "2024-01-03"), (2, "2024-01-02")]


def test_of_one_seed_the_newest_is_taken(tmp_path: Path) -> None:
    for day in (1, 3, 2):
        store(tmp_path, "m", f"2024-01-0{day}", seed=0)
    assert seeds_in(tmp_path) == [(0, "2024-01-03")]


@pytest.mark.parametrize(
    "change",
    [{"epochs": 3}, {"image_size": 16}, {"mean": (0.1, 0.2, 0.3)}, {"class_names": ("b", "a")}],
)
def test_what_differs_by_more_than_the_seed_is_left_out(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    store(tmp_path, "m", "2024-01-01", seed=0)
    store(tmp_path, "m", "2024-01-02", seed=1, **change)
    store(tmp_path, "m", "2024-01-03", seed=2)
    assert seeds_in(tmp_path) == [(0, "2024-01-01"), (2, "2024-01-03")]
    store(tmp_path, "m", "2024-01-04", seed=0, **change)
    assert seeds_in(tmp_path) == [(0, "2024-01-04"), (1, "2024-01-02")]


def test_a_classifier_without_seed_or_versions_stands_alone(tmp_path: Path) -> None:
    store(tmp_path, "m", "2024-01-01", seed=None)
    store(tmp_path, "m", "2024-01-02", seed=None)
    assert seeds_in(tmp_path) == [(None, "2024-01-02")]
    file = tmp_path / "06_models" / "single" / "classifier.safetensors"
    file.parent.mkdir()
    save_classifier(Classifier(SPEC), file)
    assert seeds_in(tmp_path, "single") == [(None, "")]


def test_the_time_of_a_training_is_that_of_its_own_run(tmp_path: Path) -> None:
    for seed in (0, 1):
        store(tmp_path, "m", f"2024-01-0{seed + 1}", seed)
    name = "training_summary.json"
    summary = tmp_path / "08_reporting" / "m" / name / "2024-01-02" / name
    summary.parent.mkdir(parents=True)
    summary.write_text('{"seconds": 12.5}')
    assert [one.seconds for one in StoredClassifiers(tmp_path).seeds_of("m")] == [None, 12.5]


def test_a_time_that_is_not_readable_is_unknown(tmp_path: Path) -> None:
    store(tmp_path, "m", "2024-01-01", 0)
    name = "training_summary.json"
    summary = tmp_path / "08_reporting" / "m" / name / "2024-01-01" / name
    summary.parent.mkdir(parents=True)
    summary.write_text("damaged")
    assert [one.seconds for one in StoredClassifiers(tmp_path).seeds_of("m")] == [None]


def test_without_versions_the_summary_lies_beside_its_classifier(tmp_path: Path) -> None:
    file = tmp_path / "06_models" / "m" / "classifier.safetensors"
    file.parent.mkdir(parents=True)
    save_classifier(Classifier(SPEC), file)
    (tmp_path / "08_reporting" / "m").mkdir(parents=True)
    (tmp_path / "08_reporting" / "m" / "training_summary.json").write_text('{"seconds": 2.5}')
    assert [one.seconds for one in StoredClassifiers(tmp_path).seeds_of("m")] == [2.5]


def test_those_of_another_recipe_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for day, epochs in ((1, 2), (2, 3), (3, 4)):
        store(tmp_path, "m", f"2024-01-0{day}", seed=0, epochs=epochs)
    with caplog.at_level("INFO"):
        assert seeds_in(tmp_path) == [(0, "2024-01-03")]
    said = "no members, as of another recipe: m of run 2024-01-02, 2024-01-01"
    assert caplog.messages == [said]


def test_a_model_that_is_not_stored_is_named_with_those_that_are(tmp_path: Path) -> None:
    stored = StoredClassifiers(tmp_path)
    with pytest.raises(UserError, match=r"'m' is stored in .*06_models: .*; there is none yet"):
        stored.check("m")
    for model in ("express", "resnet50"):
        store(tmp_path, model, "2024-01-01", seed=0)
    (tmp_path / "06_models" / "killed").mkdir()
    stored.check("resnet50")
    with pytest.raises(UserError, match=r"'x' is stored .*; there is express or resnet50$"):
        stored.check("x")
    with pytest.raises(UserError, match=r"'expres' is stored .*; there is express$"):
        stored.seeds_of("expres")


def test_an_ensemble_is_no_member(tmp_path: Path) -> None:
    ensemble = average_classifiers([Classifier(SPEC)], {})
    file = tmp_path / "06_models" / "both" / "classifier.safetensors"
    file.parent.mkdir(parents=True)
    save_classifier(ensemble, file)
    with pytest.raises(UserError, match="'both' is an ensemble itself: name its members"):
        StoredClassifiers(tmp_path).check("both")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store(tmp_path, "m", "2024-01-01", seed=0)
    (file,) = tmp_path.glob("06_models/m/*/*/classifier.safetensors")
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"classifier.safetensors is damaged, .*: remove that ver"):
        StoredClassifiers(tmp_path).seeds_of("m")


def test_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="never written"):
        StoredClassifiersDataset(filepath=str(tmp_path)).save(1)  # type: ignore[arg-type]
