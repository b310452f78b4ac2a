"""The embedded data set: drawn images in CIFAR-100's own shape, made in seconds, no download.

Every image shows one object on a cluttered background. Its class says which of five patterns it
has, in which of ten colours, on which of four ground colours: `blue_dotted_white`. Of these 200
combinations, numbered (pattern, colour, ground), the even ones (sum of the three numbers) are the
100 classes of the `target` task and the odd ones the 100 classes of the `pretraining` task. So the
tasks share every pattern and colour, and no class: what a network learns about stripes or red on
one task helps it on the other, which is what transfer learning claims. No single feature tells a
class from the others. The object's shape, place, size, angle and lighting, the background and its
scraps say nothing about the class and vary from image to image.

The twenty coarse classes are the ten colours on pale (white, grey) and on dark (black, brown)
ground, five fine classes each, as in CIFAR-100.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import atomic_path

from .image_set import ImageSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Task = Literal["target", "pretraining"]
Split = Literal["train", "test"]
_Reals = NDArray[np.float64]
_Mask = NDArray[np.bool_]

IMAGE_SIZE = 32
_SUPERSAMPLING = 2  # each pixel is the mean of 2x2 samples: smooth edges
_NOISE = 0.12  # uniform, width as a share of the range
_TASKS: tuple[Task, ...] = ("target", "pretraining")
_SPLITS: tuple[Split, ...] = ("train", "test")


def _ball(u: _Reals, v: _Reals) -> _Mask:
    return u * u + v * v < 0.9


def _box(u: _Reals, v: _Reals) -> _Mask:
    return np.maximum(np.abs(u), np.abs(v)) < 0.85


def _cross(u: _Reals, v: _Reals) -> _Mask:
    a, b = np.abs(u), np.abs(v)
    return (np.minimum(a, b) < 0.36) & (np.maximum(a, b) < 0.98)


def _triangle(u: _Reals, v: _Reals) -> _Mask:
    return (v < 0.75) & (np.abs(u) * 1.75 - v < 0.95)


_SHAPES: tuple[Callable[[_Reals, _Reals], _Mask], ...] = (_ball, _box, _cross, _triangle)

# A hue turns once from 0 to 6.
_HUES = {
    "red": 0.0,
    "orange": 0.55,
    "yellow": 1.0,
    "lime": 1.5,
    "green": 2.1,
    "teal": 2.8,
    "sky": 3.3,
    "blue": 3.9,
    "violet": 4.6,
    "pink": 5.3,
}


@dataclass(frozen=True)
class _Ground:
    family: str
    hue: float
    saturation: float
    value: float


_GROUNDS = {
    "white": _Ground("pale", 0.0, 0.0, 1.0),
    "black": _Ground("dark", 0.0, 0.0, 0.12),
    "brown": _Ground("dark", 0.4, 0.8, 0.45),
    "grey": _Ground("pale", 0.0, 0.0, 0.55),
}
_PATTERNS = ("striped", "checkered", "dotted", "halved", "ringed")


def _shows_ground(pattern: str, u: _Reals, v: _Reals, a: _Reals, b: _Reals) -> _Mask:
    """Where the ground colour shows, in the object's coordinates u, v; a, b shift the pattern."""
    distance = u * u + v * v
    column, row = u * 2.4 + a, v * 2.4 + b
    match pattern:
        case "striped":
            shows = np.floor(row) % 2 == 0
        case "checkered":
            shows = (np.floor(column) + np.floor(row)) % 2 == 0
        case "dotted":
            shows = (column % 1 - 0.5) ** 2 + (row % 1 - 0.5) ** 2 < 0.12
        case "halved":
            shows = u + v * 0.4 > 0
        case _:
            shows = (distance > 0.1) & (distance < 0.36)
    return np.asarray(shows, np.bool_)


@dataclass(frozen=True)
class _Class:
    colour: str
    pattern: str
    ground: str

    @property
    def name(self) -> str:
        return f"{self.colour}_{self.pattern}_{self.ground}"

    @property
    def coarse_name(self) -> str:
        return f"{self.colour}_on_{_GROUNDS[self.ground].family}"


def _classes(task: Task) -> list[_Class]:
    """The 100 classes of a task in alphabetical order, as CIFAR-100's."""
    parity = _TASKS.index(task)
    classes = [
        _Class(colour, pattern, ground)
        for c, colour in enumerate(_HUES)
        for p, pattern in enumerate(_PATTERNS)
        for g, ground in enumerate(_GROUNDS)
        if (c + p + g) % 2 == parity
    ]
    return sorted(classes, key=lambda c: c.name)


def generate(task: Task, split: Split, per_class: int, seed: int) -> ImageSet:
    """Draw a part of the embedded data set.

    Train and test images of a task come from different random streams. The same arguments give the
    same images on every machine: all randomness is PCG64's 53-bit uniform numbers, all
    arithmetic is of operations that IEEE 754 defines exactly: no sine, no power, no logarithm.

    Args:
        task: `target` or `pretraining`; they have no class in common.
        split: `train` or `test`.
        per_class: images of each of the 100 classes, at least 1.
        seed: non-negative.

    Returns:
        100 `per_class` images [N, 3, 32, 32] in mixed order, with fine and coarse classes.

    Raises:
        UserError: an argument is out of its range.
    """
    import torch

    if task not in _TASKS or split not in _SPLITS:
        raise UserError(
            f"no task '{task}' with split '{split}': choose the task from {', '.join(_TASKS)}, "
            f"the split from {', '.join(_SPLITS)}"
        )
    if per_class < 1 or seed < 0:
        raise UserError(
            f"per_class must be at least 1 and seed at least 0, got {per_class} and {seed}"
        )
    classes = _classes(task)
    coarse_names = sorted({c.coarse_name for c in classes})
    stream = [seed, _TASKS.index(task), _SPLITS.index(split)]
    images = np.concatenate(
        [
            _draw(one, per_class, np.random.Generator(np.random.PCG64([*stream, label])))
            for label, one in enumerate(classes)
        ]
    )
    labels = np.repeat(np.arange(len(classes)), per_class)
    mixing = np.random.Generator(np.random.PCG64([*stream, len(classes)]))
    order = np.argsort(mixing.random(len(labels)), kind="stable")
    return ImageSet(
        images=torch.from_numpy(images[order]),
        labels=torch.from_numpy(labels[order]),
        class_names=tuple(c.name for c in classes),
        coarse_names=tuple(coarse_names),
        coarse_of_class=tuple(coarse_names.index(c.coarse_name) for c in classes),
    )


def _draw(one: _Class, count: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw `count` images of a class: uint8 [count, 3, 32, 32]."""

    def uniform(low: float, high: float) -> _Reals:
        return (low + (high - low) * random.random(count))[:, None, None]

    # Object coordinates u, v, in units of its radius, turned by up to 90 degrees either way.
    # The tangent of half the angle gives sine and cosine without trigonometric functions.
    x, y = _pixel_grid(_SUPERSAMPLING)
    radius = uniform(7, 12)
    across, down = (x - uniform(8, 24)) / radius, (y - uniform(8, 24)) / radius
    half = uniform(-1, 1)
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    u, v = cosine * across + sine * down, cosine * down - sine * across

    paint = _rgb(_HUES[one.colour] + uniform(-0.15, 0.15), uniform(0.75, 1), uniform(0.65, 1))
    ground = _GROUNDS[one.ground]
    ground_paint = _rgb(
        ground.hue + uniform(-0.12, 0.12),
        ground.saturation * uniform(0.8, 1),
        ground.value * uniform(0.8, 1),
    )
    shading = np.clip(1 - uniform(0.1, 0.25) * (across + down), 0.6, 1.2)
    shows_ground = _shows_ground(one.pattern, u, v, uniform(0, 2), uniform(0, 2))
    colours = np.where(shows_ground[:, None], ground_paint, paint) * shading[:, None]
    chosen = np.floor(uniform(0, len(_SHAPES)))
    inside = np.select([chosen == i for i in range(len(_SHAPES))], [s(u, v) for s in _SHAPES])
    background = _background(uniform).repeat(_SUPERSAMPLING, 2).repeat(_SUPERSAMPLING, 3)
    scene = np.where(inside[:, None], colours, background)

    noise = random.random((count, 3, IMAGE_SIZE, IMAGE_SIZE)) - 0.5
    # The mean of the samples of a pixel, added in a fixed order.
    offsets = range(_SUPERSAMPLING)
    samples = [scene[:, :, i::_SUPERSAMPLING, j::_SUPERSAMPLING] for i in offsets for j in offsets]
    values = np.rint(255 * (sum(samples) / len(samples) + _NOISE * noise))
    images: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return images


def _rgb(hue: _Reals, saturation: _Reals, value: _Reals) -> _Reals:
    """Turn HSV [count, 1, 1], the hue modulo 6, into RGB [count, 3, 1, 1]."""
    k = (np.array([5.0, 3.0, 1.0])[:, None, None] + hue[:, None]) % 6
    share = saturation[:, None] * np.clip(np.minimum(k, 4 - k), 0, 1)
    rgb: _Reals = value[:, None] * (1 - share)
    return rgb


def _pixel_grid(samples: int) -> tuple[_Reals, _Reals]:
    """Coordinates [1, 1, S] and [1, S, 1] in pixels, `samples` a pixel on each axis."""
    axis = (np.arange(IMAGE_SIZE * samples) + 0.5) / samples
    return axis[None, None, :], axis[None, :, None]


def _background(uniform: Callable[[float, float], _Reals]) -> _Reals:
    """A gradient between two muted colours with six oval scraps on it: [count, 3, 32, 32]."""
    x, y = _pixel_grid(1)
    muted = [_rgb(uniform(0, 6), uniform(0.1, 0.6), uniform(0.15, 0.9)) for _ in range(2)]
    share = np.clip(0.5 + uniform(-0.03, 0.03) * (x - 16) + uniform(-0.03, 0.03) * (y - 16), 0, 1)
    scene = muted[0] + (muted[1] - muted[0]) * share[:, None]
    for _ in range(6):
        paint = _rgb(uniform(0, 6), uniform(0.2, 0.8), uniform(0.2, 0.95))
        width, height = uniform(1, 3.5), uniform(1, 3.5)
        a, b = (x - uniform(0, 32)) / width, (y - uniform(0, 32)) / height
        cover = np.clip(1.7 - a * a - b * b, 0, 1)[:, None]  # soft: drawn at one sample a pixel
        scene = scene + (paint - scene) * cover
    return scene


def write_cifar_archive_folder(folder: Path, train: ImageSet, test: ImageSet) -> None:
    """Write two sets as `folder/cifar-100-python/{train,test,meta}`, the official format.

    Each file is a pickled dictionary with bytes as keys and names; images are rows of 3072 bytes:
    the red, the green and the blue plane (https://www.cs.toronto.edu/~kriz/cifar.html).

    Args:
        folder: made if missing; existing files are replaced, each atomically.
        train: 32x32 images with coarse classes.
        test: likewise, of the same classes.

    Raises:
        UserError: the sets differ in their classes, or have no coarse ones.
    """
    if (train.class_names, train.coarse_names, train.coarse_of_class) != (
        test.class_names,
        test.coarse_names,
        test.coarse_of_class,
    ):
        raise UserError("train and test differ in their classes: generate both from one task")
    if not train.coarse_names:
        raise UserError("the format needs coarse classes, but the image sets have none")
    archive = folder / "cifar-100-python"
    _write_pickle(archive / "train", _batch(train, "training", "train"))
    _write_pickle(archive / "test", _batch(test, "testing", "test"))
    meta = {
        b"fine_label_names": [name.encode() for name in train.class_names],
        b"coarse_label_names": [name.encode() for name in train.coarse_names],
    }
    _write_pickle(archive / "meta", meta)


def _batch(images: ImageSet, kind: str, prefix: str) -> dict[bytes, object]:
    labels = images.labels.tolist()
    return {
        b"filenames": [
            f"{prefix}_{images.class_names[label]}_{i:06}.png".encode()
            for i, label in enumerate(labels)
        ],
        b"batch_label": f"{kind} batch 1 of 1".encode(),
        b"fine_labels": labels,
        b"coarse_labels": [images.coarse_of_class[label] for label in labels],
        b"data": images.images.reshape(len(images), -1).numpy(),
    }


def _write_pickle(path: Path, content: Mapping[bytes, object]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        # The official files are Python 2's, protocol 2. Python 3 writes plain bytes from protocol 3
        # on; at 2 it wraps them in calls, which a wary reader would have to allow.
        pickle.dump(content, file, protocol=3)
