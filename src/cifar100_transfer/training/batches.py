"""Training batches cut from one resident tensor, many images a call.

All images stay on the device as uint8. An epoch is a pure function of (seed, epoch): its order,
shifts and flips are drawn at once from a generator seeded with both, on the CPU, so they are the
same on every device. What else is done to images: `augmentation.py`.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view

from cifar100_transfer.config import AugmentationConfig
from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.errors import UserError

from .augmentation import EpochAugmentation, corrupted_copies, draw_copies
from .selection import Selection

_VALUES_AT_ONCE = 1 << 23
"""Of several batches' images that are cut and changed together on a GPU: as many kernels as for one
batch, and 32 MiB as float32."""


def epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed for one epoch that no other (seed, epoch) of a realistic run shares.

    Args:
        seed: the recipe's seed, at least 0.
        epoch: number of the epoch, at least 0; 0 stands for the time before training.
    """
    # An odd multiplier (the golden ratio of 2^64) spreads seeds, so seed 1 epoch 0 is not seed 0
    # epoch 1; torch takes seeds below 2^63.
    return (seed * 0x9E3779B97F4A7C15 + epoch) % (1 << 63)


@dataclass(frozen=True)
class EpochPlan:
    """Everything random about one epoch's batches.

    Attributes:
        order: int64 [N], a permutation of the images.
        shifts: int64 [N, 2], rows and columns of the crop's corner in the padded image.
        flips: bool [N], which images are mirrored.
    """

    order: torch.Tensor
    shifts: torch.Tensor
    flips: torch.Tensor


def plan_epoch(count: int, augmentation: AugmentationConfig, seed: int, epoch: int) -> EpochPlan:
    """Draw one epoch's order and augmentation.

    Args:
        count: number of images.
        augmentation: what is done to training images.
        seed: the recipe's seed.
        epoch: number of the epoch, from 1.
    """
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    order = torch.randperm(count, generator=generator)
    positions = 2 * augmentation.crop_padding + 1
    shifts = torch.randint(positions, (count, 2), generator=generator)
    flips = torch.rand(count, generator=generator) < (0.5 if augmentation.flip else 0.0)
    return EpochPlan(order, shifts, flips)


class ResidentBatches:
    """An image set on a device that yields augmented batches.

    Args:
        images: the training images.
        augmentation: what is done to them.
        batch_size: images per batch; the last batch may be smaller.
        device: where images and batches lie.

    Raises:
        UserError: the square of cutout is larger than the images.
    """

    def __init__(
        self,
        images: ImageSet,
        augmentation: AugmentationConfig,
        batch_size: int,
        device: torch.device,
    ) -> None:
        height, width = images.image_size
        if augmentation.cutout_size > min(height, width):
            raise UserError(
                f"training.augmentation.cutout_size={augmentation.cutout_size} is larger than the "
                f"images ({height} x {width} pixels): make it smaller"
            )
        self._images = images.images.to(device)
        self._copies: dict[int, torch.Tensor] = {}
        self._labels = images.labels.to(device)
        self._classes = images.num_classes
        self._image_size = height, width
        self._mean_color = torch.zeros(3, dtype=torch.uint8, device=device)
        if augmentation.cutout_size:
            mean = torch.tensor(channel_statistics(images.images).mean)
            self._mean_color = (mean * 255).round().byte().to(device)
        self._augmentation = augmentation
        self._batch_size = batch_size
        self._images_at_once = batch_size
        if device.type != "cpu":
            batches = _VALUES_AT_ONCE // (batch_size * images.images[0].numel())
            self._images_at_once *= max(batches, 1)
        self._device = device

    @property
    def images(self) -> int:
        """Number of images in an epoch."""
        return len(self._labels)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(len(self._labels) / self._batch_size)

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of one epoch.

        Args:
            seed: the recipe's seed.
            epoch: number of the epoch, from 1.

        Yields:
            Images and targets on the device. Images are uint8 [B, 3, H, W], or float32 in [0, 1]
            where an augmentation needs it; with `augmix_jsd` float32 [3, B, 3, H, W]. Targets are
            labels int64 [B], or float32 [B, classes] where images are mixed.
        """
        plan = plan_epoch(len(self._labels), self._augmentation, seed, epoch)
        augment = EpochAugmentation(
            self._augmentation,
            len(self._labels),
            self._image_size,
            self._classes,
            self._mean_color,
            seed,
            epoch,
        )
        order = plan.order.to(self._device)
        choose = self._chooser(seed, epoch)
        rows, columns = plan.shifts.to(self._device).unbind(1)
        flips = Selection(plan.flips, self._device)
        for start in range(0, len(order), self._images_at_once):
            chunk = slice(start, start + self._images_at_once)
            chosen = order[chunk]
            images = self._crop(choose(chosen), rows[chunk], columns[chunk])
            mirrored = flips.places(chunk)
            images[mirrored] = images.index_select(0, mirrored).flip(-1)
            images = augment.apply_policy(images, chunk)
            batches = zip(
                torch.split(images, self._batch_size, -4),
                torch.split(self._labels[chosen], self._batch_size),
                strict=True,
            )
            for number, (batch, labels) in enumerate(batches):
                first = start + number * self._batch_size
                yield augment(batch, labels, slice(first, first + len(labels)))

    def prepare(self, seed: int) -> None:
        """Make what all epochs of a seed share; the first of them does if this was not called."""
        config = self._augmentation
        if config.corruption_share and seed not in self._copies:
            # Those of one seed at a time: a training has only one.
            copies = corrupted_copies(self._images, config, seed)
            self._copies = {seed: copies.to(self._device)}

    def _chooser(self, seed: int, epoch: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what takes the images of an epoch by their numbers, some as corrupted copies."""
        config = self._augmentation
        self.prepare(seed)
        if seed not in self._copies:
            # It copies whole images, where indexing goes pixel by pixel on a CPU.
            return lambda chosen: self._images.index_select(0, chosen)
        copies = self._copies[seed].flatten(0, 1)
        numbers = draw_copies(seed, epoch, len(self._labels), config).to(self._device)

        def choose(chosen: torch.Tensor) -> torch.Tensor:
            number = numbers[chosen]
            corrupted = copies.index_select(0, number.clamp(min=0) * len(self._images) + chosen)
            itself = (number < 0).view(-1, 1, 1, 1)
            return torch.where(itself, self._images.index_select(0, chosen), corrupted)

        return choose

    def _crop(
        self, images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """Cut every image out of its padded self, at its own corner."""
        padding = self._augmentation.crop_padding
        if padding == 0:
            return images
        # Padded batch by batch: all images padded would take 1.6 times the memory once more.
        padded = F.pad(images, (padding,) * 4)
        cut = cut_by_rows if images.device.type == "cpu" else cut_by_pixels
        return cut(padded, rows, columns, self._image_size)


# Both take a view [B, 3, rows, columns, H, W] of every possible crop, and one indexing call cuts.


def cut_by_pixels(
    images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Cut a part out of every image, on any device.

    Args:
        images: uint8 [B, 3, H, W].
        rows: first row of each part, int64 [B].
        columns: first column of each part, int64 [B].
        size: height and width of the parts.
    """
    crops = images.unfold(2, size[0], 1).unfold(3, size[1], 1)
    return crops[torch.arange(len(images), device=images.device), :, rows, columns]


def cut_by_rows(
    images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Do the same on a CPU by NumPy, which copies whole rows where torch copies pixels."""
    crops = sliding_window_view(images.numpy(), size, (2, 3))
    return torch.from_numpy(crops[np.arange(len(images)), :, rows.numpy(), columns.numpy()])


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    # One a device: memory that was freed on a stream is given again on that stream alone.
    # Its small kernels go first, or each would wait for large ones of the step.
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


def one_ahead(
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]], device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches; on a CUDA GPU each is made while the one before is trained on.

    Augmenting waits for the device where it sends the numbers drawn on the CPU. On a stream of its
    own it waits for nothing but itself, and the GPU has the queued step to go on with.

    Args:
        batches: make their tensors when they are asked for the next.
        device: where they make them.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = _side_stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    while True:
        with torch.cuda.stream(stream):
            batch = next(batches, None)
        if batch is None:
            return
        training = torch.cuda.current_stream(device)
        training.wait_stream(stream)
        for tensor in batch:
            # Or its memory could be given to the next batch while the step still reads it.
            tensor.record_stream(training)
        yield batch
