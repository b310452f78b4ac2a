"""Losses of labels, of mixed targets, and of several views."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cifar100_transfer.config import AugmentationConfig
from cifar100_transfer.training.objective import batch_loss, hits, jensen_shannon
from tests.training.tiny import recipe

GENERATOR = torch.Generator().manual_seed(3)
LOGITS = torch.randn(7, 5, generator=GENERATOR)
LABELS = torch.randint(5, (7,), generator=GENERATOR)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_and_their_shares_are_the_same_target(smoothing: float) -> None:
    config = recipe(label_smoothing=smoothing)
    shares = F.one_hot(LABELS, 5).float()
    labels, mixed = batch_loss(LOGITS, LABELS, config), batch_loss(LOGITS, shares, config)
    assert float(mixed) == pytest.approx(float(labels), rel=1e-6)
    assert int(hits(LOGITS, shares)) == int(hits(LOGITS, LABELS))


@given(share=st.floats(0, 1))
def test_a_mixed_target_is_a_mixed_loss(share: float) -> None:
    other = LABELS.roll(1)
    target = share * F.one_hot(LABELS, 5) + (1 - share) * F.one_hot(other, 5)
    parts = [float(F.cross_entropy(LOGITS, labels)) for labels in (LABELS, other)]
    loss = float(batch_loss(LOGITS, target, recipe()))
    assert loss == pytest.approx(share * parts[0] + (1 - share) * parts[1], rel=1e-4)


def test_hits_count_the_largest_target() -> None:
    target = torch.tensor([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]])
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    assert int(hits(logits, target)) == 2
    assert int(hits(torch.stack([logits, -logits, -logits]), target)) == 2


@given(seed=st.integers(0, 1000), views=st.integers(2, 4))
def test_the_divergence_lies_between_agreement_and_log_views(seed: int, views: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 10 * torch.randn(views, 6, 5, generator=generator)
    found = float(jensen_shannon(logits.log_softmax(-1)))
    assert 0 <= found <= math.log(views) + 1e-5
    same = logits[:1].expand(views, -1, -1)
    assert float(jensen_shannon(same.log_softmax(-1))) == pytest.approx(0, abs=1e-6)


def test_views_that_exclude_one_another_diverge_most() -> None:
    views = 50 * torch.eye(3).unsqueeze(1)
    assert float(jensen_shannon(views.log_softmax(-1))) == pytest.approx(math.log(3), rel=1e-5)


@pytest.mark.parametrize("gap", [10.0, 100.0, 1000.0])
def test_the_divergence_has_a_gradient_where_probabilities_underflow(gap: float) -> None:
    logits = (gap * torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])).requires_grad_()
    jensen_shannon(logits.log_softmax(-1)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_views_are_held_together_by_the_given_weight() -> None:
    views = torch.stack([LOGITS, LOGITS.roll(1, 0), LOGITS.roll(1, 1)])
    augmentation = AugmentationConfig(policy="augmix", augmix_jsd=12.0)
    loss = batch_loss(views, LABELS, recipe(augmentation=augmentation))
    expected = F.cross_entropy(LOGITS, LABELS) + 12 * jensen_shannon(views.log_softmax(-1))
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
