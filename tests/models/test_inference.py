"""Classifying many images batch by batch."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cifar100_transfer.models import Classifier, ClassifierSpec, inference, predict_logits

SPEC = ClassifierSpec(
    "simple_cnn", ("a", "b", "c"), (0.5,) * 3, (0.25,) * 3, input_size=(8, 8), dropout=0.5
)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(SPEC)


@given(count=st.integers(0, 9), batch_size=st.integers(1, 11))
def test_the_batch_size_changes_nothing(
    classifier: Classifier, count: int, batch_size: int
) -> None:
    images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "inference_batch_size", lambda _: batch_size)
        logits = predict_logits(classifier, images)
    assert logits.dtype == torch.float32
    assert logits.shape == (count, 3)
    assert not logits.requires_grad
    with torch.no_grad():
        assert torch.allclose(logits, classifier.eval()(images), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(classifier: Classifier, training: bool) -> None:
    classifier.train(training)
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    first = predict_logits(classifier, images)
    assert classifier.training is training
    assert classifier.network.training is training
    assert torch.equal(first, predict_logits(classifier, images))  # dropout was off


def test_the_mode_is_put_back_after_an_error(classifier: Classifier) -> None:
    classifier.train()
    with pytest.raises(ValueError, match="images are"):
        predict_logits(classifier, torch.zeros(4, 5, 8, 8))
    assert classifier.training


@pytest.mark.parametrize(
    ("size", "batches"), [(8, [512, 8]), (64, [512, 8]), (256, [32] * 16 + [8])]
)
def test_larger_images_are_classified_fewer_at_once(size: int, batches: list[int]) -> None:
    seen: list[int] = []
    classifier = Classifier(replace(SPEC, image_size=size))
    classifier.network = nn.Module()
    classifier.network.forward = lambda x: seen.append(len(x)) or torch.zeros(len(x), 3)
    predict_logits(classifier, torch.zeros(520, 3, 8, 8, dtype=torch.uint8))
    assert seen == batches
