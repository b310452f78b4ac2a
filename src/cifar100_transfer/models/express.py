"""Residual networks that make their maps small early: little work for training from scratch."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Layout(NamedTuple):
    """What an `ExpressCNN` is made of.

    The defaults are for a CPU: large filters are for small maps, where it is at its best and an
    image needs few of them.

    Attributes:
        widths: channels of the maps of the three stages.
        inner: channels between the two convolutions of each stage's residual blocks.
        entries: sides of the filters of the convolution that enters each stage.
        sides: sides of the filters of each stage's blocks, of the first and the second convolution.
        blocks: residual blocks in every stage, at least 1.
    """

    widths: tuple[int, int, int]
    inner: tuple[int, int, int]
    entries: tuple[int, int, int] = (3, 3, 2)
    sides: tuple[tuple[int, int], ...] = ((1, 1), (3, 1), (3, 3))
    blocks: int = 1


LAYOUTS = {
    "express": Layout(widths=(64, 256, 768), inner=(64, 192, 512)),
    "express_small": Layout(widths=(32, 96, 256), inner=(32, 72, 176)),
    # For a GPU, whose matrix units take multiples of 128 channels best.
    "express_large": Layout(
        widths=(128, 512, 1024),
        inner=(128, 512, 1024),
        entries=(3, 3, 3),
        sides=((3, 3), (3, 3), (3, 3)),
        blocks=2,
    ),
}
"""By architecture."""

# NAVIER-STOKED's. It makes the first gradients small enough for the learning rates of the others.
_LOGIT_SCALE = 1.25 / 9

# Jordan's. It keeps directions in which patches hardly differ from being blown up to noise.
_LEAST_VARIANCE = 5e-4


class ExpressCNN(nn.Module):
    """A whitening stem, and three stages of one convolution and one or more residual blocks.

    After the first entries of public contests in speed: whitened 2x2 patches instead of a first
    layer to be learnt, filters that begin as the identity (K. Jordan, "94 % on CIFAR-10 in 3.29
    seconds", 2024), stages whose maps shrink before their blocks work on them, and a
    head on maxima and means (the entry NAVIER-STOKED for 75 % on CIFAR-100, 2026, and the entry of
    the team futurebiohackers before it).

    Args:
        num_classes: number of logits.
        layout: of the stages.
    """

    def __init__(self, num_classes: int, layout: Layout) -> None:
        super().__init__()
        self.stem = WhiteningStem()
        channels = (self.stem.channels, *layout.widths)
        self.stages = nn.Sequential(
            *(_Stage(channels[number], layout, number) for number in range(len(layout.widths)))
        )
        self.head = nn.Linear(channels[-1], num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of normalised images [N, 3, H, W], H and W at least 13."""
        maps = self.stages(self.stem(images))
        features = maps.amax(dim=(2, 3)) + maps.mean(dim=(2, 3))
        return cast(Tensor, self.head(features) * _LOGIT_SCALE)


class WhiteningStem(nn.Module):
    """The principal components of 2x2 patches, each scaled to unit variance, and their opposites.

    The filters are not learnt, only a bias is. They are random until `fit` has seen images.
    """

    channels = 24
    """Of its maps: two for each of the 2 x 2 x 3 components."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        components = self.channels // 2
        random = nn.init.orthogonal_(torch.empty(components, components))
        self.register_buffer("filters", _both_signs(random))
        self.bias = nn.Parameter(torch.zeros(self.channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return maps [N, 24, H - 1, W - 1] of normalised images [N, 3, H, W]."""
        return F.silu(F.conv2d(images, self.filters, self.bias))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take the filters from images, normalised as the network will see them: [N, 3, H, W]."""
        patches = F.unfold(images, kernel_size=2).transpose(1, 2).flatten(0, 1).double()
        variances, directions = torch.linalg.eigh(torch.cov(patches.T))
        whitening = directions.T / (variances + _LEAST_VARIANCE).sqrt().unsqueeze(1)
        self.filters.copy_(_both_signs(whitening))


def _both_signs(rows: Tensor) -> Tensor:
    return torch.cat([rows, -rows]).view(-1, 3, 2, 2).float()


class _Stage(nn.Module):
    """A convolution whose maps are pooled to half the side, and residual blocks on these.

    Pooled before they are normalised: that works on a quarter of the values.

    Args:
        narrow: channels of the maps it takes.
        layout: of the network.
        number: of the stage, from 0.
    """

    def __init__(self, narrow: int, layout: Layout, number: int) -> None:
        super().__init__()
        wide, inner, sides = layout.widths[number], layout.inner[number], layout.sides[number]
        self.entry = _convolution(narrow, wide, layout.entries[number])
        self.entry_norm = nn.BatchNorm2d(wide)
        self.block = _Residual(wide, inner, sides)
        # Beside the first, whose name in stored classifiers stays.
        self.further = nn.Sequential(
            *(_Residual(wide, inner, sides) for _ in range(layout.blocks - 1))
        )

    def forward(self, maps: Tensor) -> Tensor:
        maps = F.silu(self.entry_norm(F.max_pool2d(self.entry(maps), 2)))
        return cast(Tensor, self.further(self.block(maps)))


class _Residual(nn.Sequential):
    """Two convolutions, added to what they were given."""

    def __init__(self, wide: int, inner: int, sides: tuple[int, int]) -> None:
        super().__init__(
            _convolution(wide, inner, sides[0]),
            nn.BatchNorm2d(inner),
            nn.SiLU(),
            _convolution(inner, wide, sides[1]),
            nn.BatchNorm2d(wide),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return F.silu(maps + super().forward(maps))  # type: ignore[no-untyped-call]


def _convolution(narrow: int, wide: int, side: int) -> nn.Conv2d:
    """Return a convolution that passes on as many of its maps as it can, and adds random ones."""
    convolution = nn.Conv2d(narrow, wide, side, padding=side // 2 if side % 2 else 0, bias=False)
    nn.init.dirac_(convolution.weight[: min(narrow, wide)])
    return convolution
