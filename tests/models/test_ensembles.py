"""Several classifiers as one: what it says, what it is made of, and that it is stored like any."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import log_softmax

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import (
    Classifier,
    ClassifierSpec,
    average_classifiers,
    classifier_digest,
    count_flops,
    inference_batch_size,
    load_classifier,
    mean_log_probabilities,
    predict_logits,
    read_spec,
    save_classifier,
)

SPEC = ClassifierSpec(
    *("simple_cnn", ("Äpfel", "bear", "cup"), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), (16, 16)),
    coarse_names=("food", "rest"),
    coarse_of_class=(0, 1, 1),
    recipe={"training": {"seed": 3}},
)


def members() -> list[Classifier]:
    """Three that see images of another size, or normalised otherwise."""
    torch.manual_seed(0)
    specs = (
        SPEC,
        replace(SPEC, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
        replace(SPEC, architecture="express_small", image_size=24),
    )
    return [Classifier(spec).eval() for spec in specs]


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=generator)


def test_it_says_the_mean_of_what_its_members_say(images: torch.Tensor) -> None:
    every = members()
    ensemble = average_classifiers(every, {})
    larger = torch.nn.functional.interpolate(images.float(), size=(40, 40)).to(torch.uint8)
    for given_images in (images, images / 255, larger):
        wanted = torch.stack([log_softmax(one(given_images), dim=1) for one in every]).mean(0)
        torch.testing.assert_close(ensemble(given_images), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(predict_logits(ensemble, images), ensemble(images).detach())


def test_one_member_is_as_sure_as_by_itself(images: torch.Tensor) -> None:
    (alone, *_) = members()
    ensemble = average_classifiers([alone], {})
    torch.testing.assert_close(ensemble(images).softmax(1), alone(images).softmax(1))


def test_it_is_stored_and_loaded_like_any_classifier(images: torch.Tensor, tmp_path: Path) -> None:
    file = tmp_path / "ensemble.safetensors"
    ensemble = average_classifiers(members(), {"members": ["a", "b", "c"]})
    save_classifier(ensemble, file)
    loaded = load_classifier(file)
    assert torch.equal(loaded(images), ensemble(images))
    assert loaded.spec == ensemble.spec == read_spec(file)
    assert ClassifierSpec.from_json(ensemble.spec.to_json()) == ensemble.spec
    assert classifier_digest(loaded) == classifier_digest(ensemble)
    assert [one.spec for one in loaded.members] == [one.spec for one in members()]
    assert not loaded.training
    assert not any(one.training for one in loaded.members)


def test_it_has_what_its_members_have_in_common() -> None:
    every = members()
    ensemble = average_classifiers(every, {})
    for name in ("class_names", "coarse_names", "coarse_of_class", "input_size"):
        assert getattr(ensemble.spec, name) == getattr(SPEC, name)
    assert ensemble.spec.architecture == "ensemble"
    assert count_flops(ensemble.spec) == sum(count_flops(one.spec) for one in every)


def test_members_are_copied(images: torch.Tensor) -> None:
    every = members()
    ensemble = average_classifiers(every, {})
    before = ensemble(images)
    for one in every:
        torch.nn.init.zeros_(next(one.network.parameters()))
    assert torch.equal(ensemble(images), before)


def test_the_member_with_the_largest_images_sets_how_many_are_taken_at_once() -> None:
    large = Classifier(replace(SPEC, architecture="squeezenet1_1", image_size=128))
    every = [*members(), large]
    ensemble = average_classifiers(every, {})
    assert inference_batch_size(ensemble) == inference_batch_size(large) == 128
    assert inference_batch_size(average_classifiers(members(), {})) == 512


def test_a_classifier_is_its_own_only_member() -> None:
    (one, *_) = members()
    assert one.members == (one,)
    assert "members" not in asdict(one.spec), "or digests of stored classifiers would change"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": ("bear", "Äpfel", "cup")}, "same classes, in the same order"),
        ({"coarse_names": (), "coarse_of_class": ()}, "same coarse classes"),
        ({"input_size": (20, 16)}, r"same size, not \[16, 16\] and \[20, 16\] pixels"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, object], said: str) -> None:
    other = Classifier(replace(SPEC, **change))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        average_classifiers([Classifier(SPEC), other], {})


def test_ensembles_are_not_nested() -> None:
    ensemble = average_classifiers(members(), {})
    with pytest.raises(UserError, match="name its members"):
        average_classifiers([ensemble, members()[0]], {})


def test_nobody_is_no_ensemble() -> None:
    with pytest.raises(UserError, match="at least one member"):
        average_classifiers([], {})
    with pytest.raises(UserError, match="at least one member"):
        mean_log_probabilities([])


@given(seed=st.integers(0, 1000), count=st.integers(1, 5))
@settings(max_examples=30)
def test_log_probabilities_are_averaged(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 10 * torch.randn(count, 7, 4, generator=generator)
    wanted = log_softmax(logits.double(), dim=2).mean(0)
    found = mean_log_probabilities(logits)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)
    assert bool((found.exp().sum(1) <= 1 + 1e-5).all())


def test_under_autocast_logs_are_summed_in_full_precision() -> None:
    logits = torch.randn(3, 2, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = mean_log_probabilities(logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, log_softmax(logits.float(), dim=2).mean(0))


def test_a_spec_is_read_without_the_weights(tmp_path: Path) -> None:
    file = tmp_path / "classifier.safetensors"
    save_classifier(Classifier(SPEC), file)
    assert read_spec(file) == SPEC
    file.write_bytes(file.read_bytes()[:100])
    for bad in (file, tmp_path / "absent.safetensors"):
        with pytest.raises(UserError, match="is damaged, or holds no classifier of this project"):
            read_spec(bad)
