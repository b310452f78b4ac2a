"""Augmentation policies: many images a call, each with an operation and a magnitude of its own.

Images are grouped by operation; the five geometric operations are one group, since they are all
affine maps. What an image undergoes is drawn beforehand, for a whole epoch at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from .selection import Selection

CHAINS = 3
DEPTH = 3
"""AugMix: chains a mixture, and operations of the longest chain (Hendrycks et al., 2020)."""

_WARPED = "warped"
_WARPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_ENHANCEMENTS = ("brightness", "color", "contrast", "sharpness")
_TONES = ("posterize", "solarize", "autocontrast", "equalize")
OPERATIONS = ("identity", *_WARPS, *_ENHANCEMENTS, *_TONES)
"""RandAugment's and TrivialAugment's fourteen operations; draws number them in this order."""

AUGMIX_OPERATIONS = (*_WARPS, *_TONES)
"""AugMix's nine: none of them changes brightness, contrast, saturation or sharpness, as some of the
challenge's corruptions do."""

PolicyName = Literal["rand_augment", "trivial_augment", "augmix"]


@dataclass(frozen=True)
class Strength:
    """What operations do at magnitude 1.

    Attributes:
        shear: pixels sideways per pixel.
        translate: part of the image's side.
        rotate: degrees.
        enhance: by how much the factor of brightness, colour, contrast and sharpness leaves 1.
        bits: bits a channel that posterise keeps at magnitudes just above 0 and at 1.
    """

    shear: float
    translate: float
    rotate: float
    enhance: float
    bits: tuple[int, int]


STRENGTHS: dict[PolicyName, Strength] = {
    # Cubuk et al., 2020, in torchvision's reading.
    "rand_augment": Strength(0.3, 150 / 331, 30, 0.9, (8, 4)),
    # Müller and Hutter, 2021, the "wide" space; its 32 pixels are a whole side of a CIFAR image.
    "trivial_augment": Strength(0.99, 1.0, 135, 0.99, (8, 2)),
    # Hendrycks et al., 2020.
    "augmix": Strength(0.3, 1 / 3, 30, 0.0, (4, 1)),
}


@dataclass(frozen=True)
class PolicyDraws:
    """Which operations images undergo, one after another.

    Attributes:
        operations: int64 [N, ..., steps], indices into `OPERATIONS`.
        magnitudes: float32 [N, ..., steps] in [-1, 1]; 0 leaves the image as it is.
    """

    operations: Tensor
    magnitudes: Tensor


@dataclass(frozen=True)
class MixtureDraws:
    """Everything random about one AugMix view of every image.

    Attributes:
        chains: operations and magnitudes [N, chains, depth].
        weights: float32 [N, chains], the chains' parts of the mixture; sum one.
        mixture_shares: float32 [N], the mixture's part of the view; the rest is the image itself.
    """

    chains: PolicyDraws
    weights: Tensor
    mixture_shares: Tensor


def draw_policy(
    generator: np.random.Generator,
    count: int,
    policy: Literal["rand_augment", "trivial_augment"],
    operations: int,
    magnitude: float,
) -> PolicyDraws:
    """Draw operations for every image.

    Args:
        generator: gives all randomness.
        count: number of images.
        policy: RandAugment takes `operations` operations of one magnitude; TrivialAugment takes
            one operation, its magnitude one of 31 levels from 0 to 1.
        operations: of RandAugment, at least 1.
        magnitude: of RandAugment, in [0, 1].
    """
    steps = operations if policy == "rand_augment" else 1
    chosen = generator.integers(len(OPERATIONS), size=(count, steps))
    if policy == "rand_augment":
        magnitudes = np.full((count, steps), magnitude)
    else:
        magnitudes = generator.integers(31, size=(count, steps)) / 30
    return _signed(generator, chosen, magnitudes)


def draw_mixture(generator: np.random.Generator, count: int, severity: float) -> MixtureDraws:
    """Draw one AugMix view for every image.

    Args:
        generator: gives all randomness.
        count: number of images.
        severity: largest magnitude, in [0, 1]; magnitudes are uniform from a hundredth to it.
    """
    shape = (count, CHAINS, DEPTH)
    numbers = np.array([OPERATIONS.index(name) for name in AUGMIX_OPERATIONS])
    chosen = numbers[generator.integers(len(numbers), size=shape)]
    magnitudes = generator.uniform(min(0.01, severity), severity, size=shape)
    depths = generator.integers(1, DEPTH + 1, size=(count, CHAINS, 1))
    magnitudes[np.arange(DEPTH) >= depths] = 0
    return MixtureDraws(
        _signed(generator, chosen, magnitudes),
        torch.from_numpy(generator.dirichlet(np.ones(CHAINS), size=count)).float(),
        torch.from_numpy(generator.beta(1, 1, size=count)).float(),
    )


def _signed(
    generator: np.random.Generator, operations: np.ndarray, magnitudes: np.ndarray
) -> PolicyDraws:
    signs = generator.integers(2, size=magnitudes.shape) * 2 - 1
    return PolicyDraws(torch.from_numpy(operations), torch.from_numpy(magnitudes * signs).float())


class Policy:
    """Operations on the images of an epoch, one after another, as they were drawn.

    Who undergoes what is sent to the device at once (`Selection` says why).

    Args:
        draws: of all images, [N, steps], in the epoch's order.
        strength: what magnitude 1 is.
        image_size: height and width in pixels, both at least 3.
        device: where the batches lie.
    """

    def __init__(
        self,
        draws: PolicyDraws,
        strength: Strength,
        image_size: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._strength = strength
        self._steps = [
            _choose(numbers, magnitudes, strength, image_size, device)
            for numbers, magnitudes in zip(
                draws.operations.unbind(1), draws.magnitudes.unbind(1), strict=True
            )
        ]

    def __call__(self, images: Tensor, part: slice) -> Tensor:
        """Apply the operations.

        Args:
            images: float [B, 3, H, W] in [0, 1].
            part: where they stand in the epoch.

        Returns:
            New images, float [B, 3, H, W] in [0, 1].
        """
        changed = images.clone()
        for step in self._steps:
            for name, selection in step.items():
                places = selection.places(part)
                if len(places):
                    changed[places] = self._operate(name, changed[places], selection.values(part))
        return changed

    def _operate(self, name: str, images: Tensor, values: Tensor) -> Tensor:
        if name == _WARPED:
            return _warp(images, values)
        amounts = values.view(-1, 1, 1, 1)
        if name in _ENHANCEMENTS:
            return _enhance(images, name, amounts * self._strength.enhance)
        return _change_tones(images, name, amounts.abs(), self._strength.bits)


class AugMix:
    """Mixes every image with a mixture of chains of operations (Hendrycks et al., 2020).

    Args:
        draws: of all images, in the epoch's order.
        image_size: height and width in pixels, both at least 3.
        device: where the batches lie.
    """

    def __init__(
        self, draws: MixtureDraws, image_size: tuple[int, int], device: torch.device
    ) -> None:
        chains = draws.chains
        one_by_one = PolicyDraws(chains.operations.flatten(0, 1), chains.magnitudes.flatten(0, 1))
        self._chains = Policy(one_by_one, STRENGTHS["augmix"], image_size, device)
        self._weights = draws.weights.to(device)
        self._mixture_shares = draws.mixture_shares.to(device)

    def __call__(self, images: Tensor, part: slice) -> Tensor:
        """Return images mixed; takes and returns what a `Policy` does."""
        start, stop, _ = part.indices(len(self._weights))
        chains = self._chains(
            images.repeat_interleave(CHAINS, 0), slice(start * CHAINS, stop * CHAINS)
        )
        mixture = torch.einsum(
            "bkchw,bk->bchw", chains.view(-1, CHAINS, *images.shape[1:]), self._weights[part]
        )
        shares = self._mixture_shares[part].view(-1, 1, 1, 1)
        # Weights sum to one only up to rounding.
        return torch.lerp(images, mixture, shares).clamp_(0, 1)


def _choose(
    numbers: Tensor,
    magnitudes: Tensor,
    strength: Strength,
    image_size: tuple[int, int],
    device: torch.device,
) -> dict[str, Selection]:
    """Group images by what one step does to them: the warps together, every other operation.

    Args:
        numbers: int64 [N] on the CPU, indices into `OPERATIONS`.
        magnitudes: float32 [N] on the CPU, in [-1, 1].
        strength: what magnitude 1 is.
        image_size: height and width.
        device: where the batches lie.

    Returns:
        Those of every group, with their matrices [n, 2, 3] or their magnitudes [n].
    """
    # Unchanged at magnitude 0 are thereby also the operations that have no degrees.
    active = magnitudes != 0
    warped = active & (numbers >= 1) & (numbers <= len(_WARPS))
    matrices = _warp_matrices(numbers, magnitudes, strength, image_size)
    step = {_WARPED: Selection(warped, device, matrices)}
    for name in (*_ENHANCEMENTS, *_TONES):
        chosen = active & (numbers == OPERATIONS.index(name))
        step[name] = Selection(chosen, device, magnitudes)
    return step


def _warp_matrices(
    numbers: Tensor, magnitudes: Tensor, strength: Strength, image_size: tuple[int, int]
) -> Tensor:
    """Return what shears, shifts and turns about the centre: float32 [N, 2, 3].

    They lead from the new image's coordinates to the old one's, both running from -1 to 1.
    """
    height, width = image_size

    def amount(name: str, scale: float) -> Tensor:
        return magnitudes * scale * (numbers == OPERATIONS.index(name))

    angle = amount("rotate", math.radians(strength.rotate))
    return torch.stack(
        [
            angle.cos(),
            (angle.sin() + amount("shear_x", strength.shear)) * (height / width),
            -2 * amount("translate_x", strength.translate),
            (amount("shear_y", strength.shear) - angle.sin()) * (width / height),
            angle.cos(),
            -2 * amount("translate_y", strength.translate),
        ],
        dim=1,
    ).view(-1, 2, 3)


def _warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Warp by matrices of `_warp_matrices`: bilinear, black beyond the edges."""
    grid = F.affine_grid(matrices.to(images), list(images.shape), align_corners=False)
    # Interpolation can leave the range by a rounding.
    return F.grid_sample(images, grid, align_corners=False).clamp_(0, 1)


def _enhance(images: Tensor, name: str, change: Tensor) -> Tensor:
    """Move images away from their dark, grey, flat or blurred version, or towards it."""
    if name == "brightness":
        plain = torch.zeros_like(images)
    elif name == "sharpness":
        plain = vision.adjust_sharpness(images, 0)
    else:
        plain = vision.rgb_to_grayscale(images)
        if name == "contrast":
            plain = plain.mean((1, 2, 3), keepdim=True)
    return (images + change * (images - plain)).clamp_(0, 1)


def _change_tones(images: Tensor, name: str, magnitude: Tensor, bits: tuple[int, int]) -> Tensor:
    if name == "autocontrast":
        return vision.autocontrast(images)
    levels = (images * 255).round()
    if name == "equalize":
        return vision.equalize(levels.byte()) / 255
    if name == "solarize":
        return torch.where(levels >= 256 * (1 - magnitude), 1 - images, images)
    kept = bits[0] - ((bits[0] - bits[1]) * magnitude).round()
    step = torch.exp2(8 - kept)
    return (levels / step).floor() * step / 255
