"""Mixed images: changes of the code that no other test had noticed."""

import numpy as np
import pytest
import torch

from cifar100_transfer.config import AugmentationConfig
from cifar100_transfer.training import augmentation
from cifar100_transfer.training.augmentation import draw_mixing


@pytest.mark.parametrize("kind", ["mixup_alpha", "cutmix_alpha"])
def test_mean_cutmix_and_mixup_shares_are_those_of_beta(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas: list[np.ndarray] = []

    def note(_: object, heights: np.ndarray, widths: np.ndarray, __: object) -> torch.Tensor:
        areas.append(heights * widths / 256**2)  # before what lies outside is cut off
        return torch.zeros(len(heights), 4, dtype=torch.int64)

    monkeypatch.setattr(augmentation, "_rectangles_around", note)
    config = AugmentationConfig(**{kind: 2.0})
    draws = draw_mixing(np.random.default_rng(0), 4000, config, (256, 256))
    shares = areas[0] if draws.own_shares is None else draws.own_shares.numpy()
    # Beta(2, 2): mean 1/2, variance 1/20.
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs(shares.var() - 0.05) < 0.005
