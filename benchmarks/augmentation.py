"""Augmentation: what it costs, and what it looks like.

    python benchmarks/augmentation.py speed --output docs/results/augmentation.json
    python benchmarks/augmentation.py picture --data DIR --output docs/images/augmentation.png

Speed is that of batches alone, without any network, on random images of 32 x 32 pixels. The kinds
take turns, round by round; the first round is not counted. `DIR` holds `cifar-100-python/`; without
`--data` the picture shows the embedded images.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import command_line, describe_machine, run_script
from PIL import Image, ImageDraw

from cifar100_transfer.config import AugmentationConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.data.sample import generate
from cifar100_transfer.training.augmentation import to_unit
from cifar100_transfer.training.batches import ResidentBatches

CLASSES = 100
SIDE = 32
KINDS: dict[str, dict[str, Any]] = {
    "nothing": {"flip": False, "crop_padding": 0},
    "flip and crop": {"flip": True, "crop_padding": 4},
    "RandAugment": {"policy": "rand_augment"},
    "TrivialAugment": {"policy": "trivial_augment"},
    "AugMix": {"policy": "augmix"},
    "AugMix, three views": {"policy": "augmix", "augmix_jsd": 12.0},
    "noise on half": {"noise_share": 0.5},
    "random erasing of half": {"erasing_share": 0.5},
    "cutout": {"cutout_size": 8},
    "MixUp": {"mixup_alpha": 0.2},
    "CutMix": {"cutmix_alpha": 1.0},
}
COLUMNS = 10
ZOOM = 2
LABEL_WIDTH = 170


def measure_speed(
    count: int, batch_size: int, rounds: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Time epochs of batches of every kind, in turn, after a round that is not counted.

    Returns:
        For every kind its images a second: median, slowest and fastest epoch.
    """
    images = ImageSet(
        torch.randint(256, (count, 3, SIDE, SIDE)).byte(),
        torch.randint(CLASSES, (count,)),
        tuple(f"class {number}" for number in range(CLASSES)),
    )
    batches = {
        kind: ResidentBatches(images, AugmentationConfig(**options), batch_size, device)
        for kind, options in KINDS.items()
    }
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for epoch in range(1 + rounds):
        for kind, source in batches.items():
            start = time.perf_counter()
            for _ in source.epoch(seed=0, epoch=epoch):
                pass
            if device.type == "cuda":
                torch.cuda.synchronize()
            rates[kind].append(count / (time.perf_counter() - start))
    return {
        kind: {
            "median": round(statistics.median(measured[1:])),
            "slowest": round(min(measured[1:])),
            "fastest": round(max(measured[1:])),
        }
        for kind, measured in rates.items()
    }


def draw_picture(images: ImageSet) -> Image.Image:
    """Show the first images of one epoch, one row a kind of augmentation."""
    rows = []
    for kind, options in KINDS.items():
        # All images in one batch of one order: a column shows one image throughout.
        config = AugmentationConfig(**{"flip": False, "crop_padding": 0} | options)
        batch, _ = next(ResidentBatches(images, config, COLUMNS, torch.device("cpu")).epoch(3, 1))
        views = batch[1:] if batch.ndim == 5 else batch[None]
        rows += [(kind if view == 0 else "", to_unit(shown)) for view, shown in enumerate(views)]
    step = SIDE * ZOOM + 4
    picture = Image.new("RGB", (LABEL_WIDTH + COLUMNS * step, len(rows) * step), "white")
    pen = ImageDraw.Draw(picture)
    for row, (label, shown) in enumerate(rows):
        pen.text((4, row * step + step // 2 - 6), label, fill="black", font_size=13)
        for column, image in enumerate(shown):
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
            tile = Image.fromarray(pixels).resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.BOX)
            picture.paste(tile, (LABEL_WIDTH + column * step, row * step + 2))
    return picture


def main() -> None:
    """Measure or draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "picture"])
    parser.add_argument("--images", type=int, default=10_000, help="images of an epoch")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7, help="counted epochs of every kind")
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--data", type=Path, help="folder that holds cifar-100-python/")
    parser.add_argument("--output", type=Path, help="JSON or PNG file to write")
    options = parser.parse_args()

    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.what == "picture":
        images = read_cifar100(options.data)[0] if options.data else generate("target", "train", 1)
        picture = draw_picture(images.subset(torch.arange(COLUMNS)))
        picture.save(options.output or "augmentation.png")
        return
    machine = describe_machine()
    print(machine)
    rates = measure_speed(options.images, options.batch_size, options.rounds, options.device)
    print("| kind | images/s | slowest | fastest | ms a batch |\n| --- | --: | --: | --: | --: |")
    for kind, rate in rates.items():
        milliseconds = 1000 * options.batch_size / rate["median"]
        print(
            f"| {kind} | {rate['median']:,} | {rate['slowest']:,} | {rate['fastest']:,} | "
            f"{milliseconds:.2f} |"
        )
    if options.output:
        header = {
            "command": command_line(),
            "what": "images a second of augmented batches, without a network",
            "image_size": SIDE,
            "batch_size": options.batch_size,
            "rounds": options.rounds,
            "device": str(options.device),
            **machine,
        }
        content = {"header": header, "images_per_second": rates}
        options.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
