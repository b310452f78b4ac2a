"""What is done to training images beyond crop and flip: policies, noise, erasing and mixing.

Who undergoes what is drawn on the CPU for a whole epoch at once, each kind of augmentation from a
generator of its own, seeded with (seed, epoch, kind): switching one on leaves the others as they
are. Only the values of single pixels (noise, the filling of erased rectangles) are drawn batch by
batch, on the device, from a generator seeded likewise.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cifar100_transfer.config import AugmentationConfig
from cifar100_transfer.data.corruptions import SEVERITIES, corrupt
from cifar100_transfer.models import return_freed_memory

from .policies import STRENGTHS, AugMix, Policy, draw_mixture, draw_policy
from .selection import Selection

ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = 0.3
"""Of an erased rectangle: its part of the image, and the least of height over width and of width
over height (Zhong et al., 2020)."""

_ATTEMPTS = 10
_KINDS = ("policy", "second view", "noise", "erasing", "cutout", "mixing", "pixels", "corruption")


class EpochAugmentation:
    """What happens to every image of one epoch, beyond crop and flip.

    Args:
        config: what is done.
        count: images in the epoch.
        image_size: their height and width in pixels.
        classes: number of classes.
        mean_color: what cutout leaves behind, uint8 [3] on the device of the batches.
        seed: the recipe's seed.
        epoch: number of the epoch, from 1.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        count: int,
        image_size: tuple[int, int],
        classes: int,
        mean_color: Tensor,
        seed: int,
        epoch: int,
    ) -> None:
        def generator(kind: str) -> np.random.Generator:
            return np.random.default_rng((seed, epoch, _KINDS.index(kind)))

        self._config = config
        self._classes = classes
        self._mean_color = mean_color.view(1, 3, 1, 1)
        device = mean_color.device
        magnitude = config.policy_magnitude
        self._policies: list[AugMix | Policy] = []
        if config.policy == "augmix":
            kinds = ("policy", "second view") if config.augmix_jsd else ("policy",)
            mixtures = [draw_mixture(generator(kind), count, magnitude) for kind in kinds]
            self._policies = [AugMix(draws, image_size, device) for draws in mixtures]
        elif config.policy != "none":
            draws = draw_policy(
                generator("policy"), count, config.policy, config.policy_operations, magnitude
            )
            strength = STRENGTHS[config.policy]
            self._policies = [Policy(draws, strength, image_size, device)]
        if config.noise_share:
            sigmas = draw_sigmas(generator("noise"), count, config.noise_share, config.noise_sigma)
            self._noisy = Selection(sigmas > 0, device, sigmas)
        if config.erasing_share:
            erased = draw_erased(generator("erasing"), count, config.erasing_share, image_size)
            self._erased = Selection(erased.any(1), device, erased)
        if config.cutout_size:
            sides = np.full(count, config.cutout_size)
            self._cut = _rectangles_around(generator("cutout"), sides, sides, image_size).to(device)
        if config.mixup_alpha or config.cutmix_alpha:
            self._mixing = draw_mixing(generator("mixing"), count, config, image_size).to(device)
        self._pixels = torch.Generator(device)
        self._pixels.manual_seed(int(generator("pixels").integers(1 << 63)))

    def apply_policy(self, images: Tensor, part: slice) -> Tensor:
        """Apply the policy to one batch or several: an image's neighbours don't matter.

        Args:
            images: uint8 [n, 3, H, W], cropped and flipped.
            part: where they stand in the epoch.

        Returns:
            Images [n, 3, H, W]: float32 in [0, 1] where there is a policy, else as they came. With
            `augmix_jsd` [3, n, 3, H, W]: as they came, and two views.
        """
        if not self._policies:
            return images
        unit = to_unit(images)
        views = [policy(unit, part) for policy in self._policies]
        return torch.stack([unit, *views]) if self._config.augmix_jsd else views[0]

    def __call__(self, images: Tensor, labels: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Do the rest, batch by batch. Batches must come in the epoch's order.

        Args:
            images: of `apply_policy`.
            labels: int64 [B].
            part: where the batch stands in the epoch.

        Returns:
            Images of that shape, uint8 or float32 in [0, 1]. Targets int64 [B] or, where images may
            be mixed, float32 [B, classes] of which every row sums to one.
        """
        config = self._config
        if config.augmix_jsd:
            unit, *views = images.unbind()
            return torch.stack([unit, *(self._disturb(view, part) for view in views)]), labels
        images = self._disturb(images, part)
        if config.mixup_alpha or config.cutmix_alpha:
            return mix(images, labels, self._mixing, part, self._classes)
        return images, labels

    def _disturb(self, images: Tensor, part: slice) -> Tensor:
        """Add noise and erase rectangles."""
        if self._config.noise_share:
            places, sigmas = self._noisy.places(part), self._noisy.values(part)
            images = add_noise(images, places, sigmas, self._pixels)
        if self._config.erasing_share:
            places, rectangles = self._erased.places(part), self._erased.values(part)
            images = erase(images, places, rectangles, self._pixels)
        if self._config.cutout_size:
            color = to_unit(self._mean_color) if images.is_floating_point() else self._mean_color
            images = torch.where(inside(self._cut[part], images), color, images)
        return images


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1], and float ones as they are."""
    return images if images.is_floating_point() else images.float().div_(255)


@dataclass(frozen=True)
class CorruptionDraws:
    """Which corruption every image undergoes.

    Attributes:
        names: the corruptions there are.
        kinds: int64 [N], index into `names`.
        severities: int64 [N], 1 to 5.
        seed: of what is random within the corruptions.
    """

    names: tuple[str, ...]
    kinds: NDArray[np.int64]
    severities: NDArray[np.int64]
    seed: int

    def pairs(self) -> list[tuple[int, int]]:
        """Return which pairs of kind and severity were drawn."""
        return sorted(set(zip(self.kinds.tolist(), self.severities.tolist(), strict=True)))


def draw_corruptions(
    generator: np.random.Generator, count: int, names: tuple[str, ...]
) -> CorruptionDraws:
    """Draw by what every image is corrupted, and how severely, all with equal probability.

    Args:
        generator: gives all randomness.
        count: number of images.
        names: some of the nineteen corruptions.
    """
    generator.random(count)  # was drawn when the results that are stored were made
    return CorruptionDraws(
        names,
        generator.integers(len(names), size=count),
        generator.integers(1, len(SEVERITIES) + 1, size=count),
        int(generator.integers(1 << 31)),
    )


def corrupted_copies(images: Tensor, config: AugmentationConfig, seed: int) -> Tensor:
    """Corrupt every image several times, each time by another corruption at another severity.

    Done once, what takes a second in every epoch (noise, weather) costs a few seconds in all.

    Args:
        images: uint8 [N, 3, H, W].
        config: gives `corruptions` and `corruption_copies`.
        seed: the recipe's seed.

    Returns:
        uint8 [copies, N, 3, H, W] on the CPU.
    """
    originals = images.cpu()
    copies = originals.expand(config.corruption_copies, *images.shape).clone()
    parts = []
    for number, copy in enumerate(copies):
        # Epoch 0 stands for the time before training.
        generator = np.random.default_rng((seed, 0, _KINDS.index("corruption"), number))
        draws = draw_corruptions(generator, len(images), config.corruptions)
        parts += [(copy, draws, kind, severity) for kind, severity in draws.pairs()]

    def fill(part: tuple[Tensor, CorruptionDraws, int, int]) -> None:
        copy, draws, kind, severity = part
        chosen = np.flatnonzero((draws.kinds == kind) & (draws.severities == severity))
        where = torch.from_numpy(chosen)
        copy[where] = corrupt(originals[where], draws.names[kind], severity, draws.seed)

    # Threads do: random numbers and tensors are made without Python's lock. Each takes a few images
    # at a time, or the last ones would have nothing to do where a few copies are left.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(fill, parts))
    return_freed_memory()  # what a thread freed, only threads would use again
    return copies


def draw_copies(seed: int, epoch: int, count: int, config: AugmentationConfig) -> Tensor:
    """Draw which corrupted copy stands for every image of an epoch.

    Args:
        seed: the recipe's seed.
        epoch: number of the epoch, from 1.
        count: number of images.
        config: gives `corruption_share` and `corruption_copies`.

    Returns:
        int64 [count], number of the copy; -1 where the image stands for itself.
    """
    generator = np.random.default_rng((seed, epoch, _KINDS.index("corruption")))
    chosen = generator.random(count) < config.corruption_share
    return torch.from_numpy(
        np.where(chosen, generator.integers(config.corruption_copies, size=count), -1)
    )


def draw_sigmas(generator: np.random.Generator, count: int, share: float, largest: float) -> Tensor:
    """Draw the noise of every image.

    Args:
        generator: gives all randomness.
        count: number of images.
        share: part of the images that get noise.
        largest: standard deviations are uniform from 0 to this.

    Returns:
        Standard deviations, float32 [count]; 0 where an image gets no noise.
    """
    chosen = generator.random(count) < share
    return torch.from_numpy(chosen * generator.uniform(0, largest, count)).float()


def add_noise(images: Tensor, places: Tensor, sigmas: Tensor, pixels: torch.Generator) -> Tensor:
    """Add Gaussian noise, one value for every pixel and channel, and clip.

    Args:
        images: [B, 3, H, W], uint8 or float in [0, 1].
        places: int64 [n], which of them get noise.
        sigmas: float32 [n], the standard deviation in each.
        pixels: generator on the images' device, where all of this lies.

    Returns:
        float32 [B, 3, H, W] in [0, 1].
    """
    noisy = to_unit(images).clone()
    shape = (len(places), *images.shape[1:])
    noise = torch.randn(shape, generator=pixels, device=images.device)
    strength = sigmas.view(-1, 1, 1, 1)
    noisy[places] = noisy[places].addcmul(noise, strength).clamp_(0, 1)
    return noisy


def draw_erased(
    generator: np.random.Generator, count: int, share: float, image_size: tuple[int, int]
) -> Tensor:
    """Draw the rectangle that random erasing fills in every image (Zhong et al., 2020).

    Area and aspect ratio (log-uniform) are drawn up to ten times, until the rectangle fits into
    the image, as in torchvision's `RandomErasing`. Its place is uniform.

    Args:
        generator: gives all randomness.
        count: number of images.
        share: part of the images in which a rectangle is erased.
        image_size: height and width in pixels.

    Returns:
        int64 [count, 4]: first row, first column, and the row and column behind the last; all 0
        where nothing is erased.
    """
    height, width = image_size
    chosen = generator.random(count) < share
    areas = height * width * generator.uniform(*ERASED_AREA, size=(count, _ATTEMPTS))
    limit = abs(math.log(ERASED_ASPECT))
    aspects = np.exp(generator.uniform(-limit, limit, size=(count, _ATTEMPTS)))
    heights = np.rint(np.sqrt(areas * aspects)).astype(np.int64)
    widths = np.rint(np.sqrt(areas / aspects)).astype(np.int64)
    fits = (heights < height) & (widths < width) & (heights > 0) & (widths > 0)
    first = np.arange(count), fits.argmax(1)
    heights, widths = heights[first], widths[first]
    top = generator.integers(np.maximum(height - heights, 0) + 1)
    left = generator.integers(np.maximum(width - widths, 0) + 1)
    rectangles = np.stack([top, left, top + heights, left + widths], axis=1)
    return torch.from_numpy(rectangles * (chosen & fits[first])[:, None])


def erase(images: Tensor, places: Tensor, rectangles: Tensor, pixels: torch.Generator) -> Tensor:
    """Fill a rectangle of some images with random pixels.

    Args:
        images: [B, 3, H, W], uint8 or float in [0, 1].
        places: int64 [n], which of them.
        rectangles: int64 [n, 4], one in each, as `draw_erased` returns them.
        pixels: generator on the images' device, where all of this lies.

    Returns:
        New images of the same type.
    """
    erased = images.clone()
    shape = (len(places), *images.shape[1:])
    filling = torch.randint(256, shape, generator=pixels, device=images.device, dtype=torch.uint8)
    filling = to_unit(filling) if images.is_floating_point() else filling
    part = images[places]
    erased[places] = torch.where(inside(rectangles, part), filling, part)
    return erased


def inside(rectangles: Tensor, images: Tensor) -> Tensor:
    """Return which pixels of images [B, 3, H, W] lie in their rectangles: bool [B, 1, H, W]."""
    top, left, bottom, right = rectangles[:, :, None].unbind(1)
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    row_inside = (rows >= top) & (rows < bottom)
    column_inside = (columns >= left) & (columns < right)
    return (row_inside[:, :, None] & column_inside[:, None, :]).unsqueeze(1)


@dataclass(frozen=True)
class MixingDraws:
    """How every image is mixed with the one before it in its batch.

    Attributes:
        own_shares: float32 [N], what MixUp leaves of the image, 1 where it is not applied; None
            if it is off.
        boxes: int64 [N, 4], what CutMix takes from the other image: first row, first column, and
            the row and column behind the last; empty where it is not applied.
    """

    own_shares: Tensor | None
    boxes: Tensor

    def to(self, device: torch.device) -> MixingDraws:
        """Return the draws on a device."""
        own_shares = None if self.own_shares is None else self.own_shares.to(device)
        return MixingDraws(own_shares, self.boxes.to(device))


def draw_mixing(
    generator: np.random.Generator,
    count: int,
    config: AugmentationConfig,
    image_size: tuple[int, int],
) -> MixingDraws:
    """Draw how every image is mixed: its share is its own, not the batch's.

    Where both MixUp (Zhang et al., 2018) and CutMix (Yun et al., 2019) are on, each image that is
    mixed undergoes one of them, with equal probability.

    Args:
        generator: gives all randomness.
        count: number of images.
        config: gives `mixup_alpha`, `cutmix_alpha` and `mix_share`.
        image_size: height and width in pixels.
    """
    height, width = image_size
    mixed = generator.random(count) < config.mix_share
    both = bool(config.mixup_alpha and config.cutmix_alpha)
    cut = generator.random(count) < 0.5 if both else np.full(count, bool(config.cutmix_alpha))
    # Where an alpha is 0, its draws are not used.
    blended = generator.beta(config.mixup_alpha or 1, config.mixup_alpha or 1, count)
    side = np.sqrt(1 - generator.beta(config.cutmix_alpha or 1, config.cutmix_alpha or 1, count))
    heights = np.where(mixed & cut, np.rint(height * side), 0).astype(np.int64)
    widths = np.where(mixed & cut, np.rint(width * side), 0).astype(np.int64)
    own_shares = torch.from_numpy(np.where(mixed & ~cut, blended, 1.0)).float()
    return MixingDraws(
        own_shares if config.mixup_alpha else None,
        _rectangles_around(generator, heights, widths, image_size),
    )


def mix(
    images: Tensor, labels: Tensor, draws: MixingDraws, part: slice, classes: int
) -> tuple[Tensor, Tensor]:
    """Mix every image and its label with the image before it in the batch (the first: the last).

    Batches are in random order, so neighbours are random pairs.

    Args:
        images: [B, 3, H, W], uint8 or float in [0, 1].
        labels: int64 [B].
        draws: of all images of the epoch, on the device of these.
        part: which of the draws belong to these images.
        classes: number of classes.

    Returns:
        Images, float32 in [0, 1] where MixUp is on, else of the same type. Targets
        float32 [B, classes]: the parts of the pixels that come from an image of each class.
    """
    boxes = draws.boxes[part]
    heights, widths = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    own = 1 - heights * widths / images[0, 0].numel()
    blended = images
    if draws.own_shares is not None:
        shares = draws.own_shares[part]
        own = own * shares
        images = to_unit(images)
        blended = torch.lerp(images.roll(1, 0), images, shares.view(-1, 1, 1, 1))
    mixed = torch.where(inside(boxes, images), images.roll(1, 0), blended)
    targets = F.one_hot(labels, classes).float()
    return mixed, torch.lerp(targets.roll(1, 0), targets, own.unsqueeze(1))


def _rectangles_around(
    generator: np.random.Generator,
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    image_size: tuple[int, int],
) -> Tensor:
    """Put rectangles around uniform centres; what lies outside the image is cut off."""
    count = len(heights)
    top = generator.integers(image_size[0], size=count) - heights // 2
    left = generator.integers(image_size[1], size=count) - widths // 2
    corners = np.stack([top, left, top + heights, left + widths], axis=1)
    return torch.from_numpy(corners.clip(0, [*image_size, *image_size]))
