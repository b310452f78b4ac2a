"""Corruptions: how fast they are, how near to the original, and what they look like.

    python benchmarks/corruptions.py speed [--data DIR] [--images N] [--output speed.json]
    python benchmarks/corruptions.py statistics --data DIR
    python benchmarks/corruptions.py picture --data DIR --output corruptions.png

`DIR` holds `cifar-100-python/`. Speed is measured on random images where it is absent.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import describe_machine, run_script
from PIL import Image, ImageDraw
from PIL import __version__ as pillow_version
from scipy import ndimage

from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt

REFERENCE = Path(__file__).parents[1] / "tests" / "data" / "corruption_reference.csv"
STATISTICS_IMAGES = 1000
ONE_BY_ONE_IMAGES = 40
PICTURED_IMAGE = 15  # a lion, neither dark nor bright


# One image at a time, in the manner of the original: the yardstick for speed.


def glass_blur_one(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Blur, copy pixel by pixel, blur; image uint8 [H, W, 3]."""
    sigma, iterations = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    image = np.uint8(ndimage.gaussian_filter(image / 255, (sigma, sigma, 0), mode="nearest") * 255)
    for _ in range(iterations):
        for y in range(len(image) - 1, 1, -1):
            for x in range(len(image) - 1, 1, -1):
                right, down = generator.integers(-1, 1, size=2)
                image[y, x] = image[y + down, x + right]
    blurred = ndimage.gaussian_filter(image / 255, (sigma, sigma, 0), mode="nearest")
    return np.uint8(np.clip(blurred, 0, 1) * 255)


def zoom_blur_one(image: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    """Average the enlargements; image uint8 [H, W, 3]."""
    side = len(image)
    zooms = (7, 12, 16, 21, 26)[severity - 1]
    total = image / 255
    for factor in np.arange(1, 2, 0.01)[:zooms]:
        kept = math.ceil(side / factor)
        top = (side - kept) // 2
        middle = image[top : top + kept, top : top + kept] / 255
        zoomed = ndimage.zoom(middle, (factor, factor, 1), order=1)
        trim = (len(zoomed) - side) // 2
        total = total + zoomed[trim : trim + side, trim : trim + side]
    return np.uint8(np.clip(total / (zooms + 1), 0, 1) * 255)


def motion_blur_one(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Add shifted copies; image uint8 [H, W, 3]."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    angle = math.radians(generator.uniform(-45, 45))
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    positions = np.arange(len(image))
    total = np.zeros(image.shape)
    for step, weight in enumerate(weights / weights.sum()):
        rows = positions + math.ceil(step * math.sin(angle) - 0.5)
        columns = positions + math.ceil(step * math.cos(angle) - 0.5)
        inside = [np.clip(places, 0, len(image) - 1) for places in (rows, columns)]
        total += weight * image[inside[0]][:, inside[1]]
    return np.uint8(np.clip(total, 0, 255))


def jpeg_compression_one(image: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    """Write and read with Pillow; image uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    return np.asarray(Image.open(file))


ONE_BY_ONE: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "glass_blur": glass_blur_one,
    "motion_blur": motion_blur_one,
    "zoom_blur": zoom_blur_one,
    "jpeg_compression": jpeg_compression_one,
}


def one_by_one_seconds(corruption: str, images: torch.Tensor) -> float:
    """Return seconds an image and severity of the per-image code."""
    pictures = np.ascontiguousarray(images[:ONE_BY_ONE_IMAGES].permute(0, 2, 3, 1).numpy())
    generator = np.random.default_rng(0)
    start = time.perf_counter()
    for severity in SEVERITIES:
        for picture in pictures:
            ONE_BY_ONE[corruption](picture, severity, generator)
    return (time.perf_counter() - start) / (len(pictures) * len(SEVERITIES))


def measure_speed(images: torch.Tensor, source: str) -> dict[str, Any]:
    """Time every corruption at all severities and print a table."""
    rows = []
    print("| corruption | s for 10,000 images x 5 | images/s | one by one: images/s | ratio |")
    print("| --- | --: | --: | --: | --: |")
    for corruption in CORRUPTIONS:
        start = time.perf_counter()
        for severity in SEVERITIES:
            corrupt(images, corruption, severity, seed=0)
        seconds = (time.perf_counter() - start) / (len(images) * len(SEVERITIES))
        row = {
            "corruption": corruption,
            "seconds_10000_images_5_severities": 50_000 * seconds,
            "images_per_second": 1 / seconds,
        }
        comparison = "|"
        if corruption in ONE_BY_ONE:
            reference = one_by_one_seconds(corruption, images)
            row["one_by_one_images_per_second"] = 1 / reference
            row["ratio"] = reference / seconds
            comparison = f"{1 / reference:,.0f} | {reference / seconds:.0f}"
        rows.append(row)
        print(f"| {corruption} | {50_000 * seconds:.2f} | {1 / seconds:,.0f} | {comparison} |")
    total = sum(row["seconds_10000_images_5_severities"] for row in rows)
    print(f"\nAll 95 sets of 10,000 images: {total:.1f} s ({len(images)} {source} images timed).")
    machine = {
        **describe_machine(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": pillow_version,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    return {"machine": machine, "images": source, "total_seconds": total, "corruptions": rows}


def print_statistics(images: torch.Tensor) -> None:
    """Print measured and original statistics of all 95 sets as a table."""
    keys = ("mean_abs_diff", "rmse", "mean", "std", "grad_energy")
    titles = ("mean abs. difference", "RMSE", "mean", "std", "gradient")
    print("| corruption | severity | " + " | ".join(titles) + " |")
    print("| --- | --: |" + " --: |" * len(keys))
    before = images.double()
    with REFERENCE.open() as file:
        for row in csv.DictReader(file):
            severity = int(row["severity"])
            after = corrupt(images, row["corruption"], severity, seed=0).double()
            change = after - before
            roughness = [
                x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean() for x in (after, before)
            ]
            measured = (
                change.abs().mean(),
                change.square().mean().sqrt(),
                after.mean(),
                after.std(),
                roughness[0] / roughness[1],
            )
            cells = [f"{value:.3f} / {row[key]}" for value, key in zip(measured, keys, strict=True)]
            print(f"| {row['corruption']} | {severity} | " + " | ".join(cells) + " |")


def draw_picture(images: torch.Tensor, path: Path) -> None:
    """Draw one image in all corruptions (columns) and severities (rows)."""
    image = images[PICTURED_IMAGE : PICTURED_IMAGE + 1]
    size, names = 64, 108
    height = names + size * len(SEVERITIES)
    picture = Image.new("RGB", (size * len(CORRUPTIONS), height), "white")
    for column, corruption in enumerate(CORRUPTIONS):
        label = Image.new("RGB", (names, size), "white")
        ImageDraw.Draw(label).text((4, size / 2 - 6), corruption, fill="black")
        picture.paste(label.rotate(90, expand=True), (column * size, 0))
        for row, severity in enumerate(SEVERITIES):
            corrupted = corrupt(image, corruption, severity, seed=0)[0].permute(1, 2, 0)
            tile = Image.fromarray(corrupted.numpy()).resize((size, size), Image.Resampling.NEAREST)
            picture.paste(tile, (column * size, names + row * size))
    picture.save(path, optimize=True)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "statistics", "picture"))
    parser.add_argument("--data", type=Path, help="folder that holds cifar-100-python/")
    parser.add_argument("--images", type=int, default=10_000, help="images timed")
    parser.add_argument("--output", type=Path, help="JSON of speed, PNG of picture")
    arguments = parser.parse_args()
    if arguments.data:
        images, source = read_cifar100(arguments.data)[1].images, "test"
    else:
        generator = torch.Generator().manual_seed(0)
        shape = (arguments.images, 3, 32, 32)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        source = "random"

    if arguments.what == "speed":
        result = measure_speed(images[: arguments.images], source)
        if arguments.output:
            arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    elif not arguments.data:
        parser.error(f"{arguments.what} needs --data")
    elif arguments.what == "statistics":
        print_statistics(images[:STATISTICS_IMAGES])
    elif not arguments.output:
        parser.error("picture needs --output")
    else:
        draw_picture(images, arguments.output)


if __name__ == "__main__":
    run_script(main)
