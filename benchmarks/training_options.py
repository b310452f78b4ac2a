"""What the options of a training cost in time, each against the same training without it.

    python benchmarks/training_options.py --output docs/results/training_options.json

Whole epochs on random images of 32 x 32 pixels, by the engine itself; validation is not part of
them. The options take turns, round by round; the first round is not counted. Measured is the
processor time of one thread, which other work on the machine changes least.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import command_line, describe_machine, run_script

from cifar100_transfer.config import ModelConfig, TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.models import keep_freed_memory
from cifar100_transfer.training import Compute, build_classifier
from cifar100_transfer.training.steps import Engine, train_epoch

CLASSES = 100
SIDE = 32
ROUNDS = 100  # more epochs than are measured, so that none is the last
NORMALIZATION = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
PLAIN = "adam"
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "adamw": {"optimizer": {"name": "adamw"}},
    "sgd": {"optimizer": {"name": "sgd"}},
    "muon": {"optimizer": {"name": "muon"}},
    "layer_decay 0.8": {"optimizer": {"layer_decay": 0.8}},
    "clip_norm 1": {"optimizer": {"clip_norm": 1.0}},
    "sam_radius 0.05": {"optimizer": {"sam_radius": 0.05}},
    "frozen_epochs": {"frozen_epochs": ROUNDS},
    "accumulation_steps 4": {"accumulation_steps": 4},
    "ema": {"averaging": {"name": "ema"}},
    "swa": {"averaging": {"name": "swa", "swa_start": 0.0}},
    "progressive_sizes 24": {"progressive_sizes": [[0.99, 24]]},
    "bfloat16": {},
}


def make_engine(images: ImageSet, architecture: str, batch_size: int, option: str) -> Engine:
    """Set up a training with one option."""
    config = TrainingConfig.model_validate(
        {"epochs": ROUNDS, "batch_size": batch_size, **OPTIONS[option]}
    )
    model = ModelConfig(architecture=architecture)
    classifier = build_classifier(images, NORMALIZATION, model, config)
    precision = torch.bfloat16 if option == "bfloat16" else torch.float32
    return Engine.of(classifier, images, config, Compute(precision=precision))


def measure(architecture: str, batch_size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Time epochs under every option, in turn.

    Returns:
        For every option its processor time over that of the plain training in the same round:
        median, least and most; and the plain training's milliseconds an image.
    """
    count = batch_size * steps
    images = ImageSet(
        torch.randint(256, (count, 3, SIDE, SIDE)).byte(),
        torch.arange(count) % CLASSES,
        tuple(f"class {number}" for number in range(CLASSES)),
    )
    options = [
        option
        for option in OPTIONS
        if architecture != "simple_cnn" or not option.startswith("progressive")
    ]
    engines = {option: make_engine(images, architecture, batch_size, option) for option in options}
    seconds: dict[str, list[float]] = {option: [] for option in options}
    for epoch in range(1, rounds + 2):
        for option, engine in engines.items():
            start = time.process_time()
            train_epoch(engine, epoch)
            seconds[option].append(time.process_time() - start)
    plain = seconds[PLAIN][1:]
    ratios = {
        option: [a / b for a, b in zip(measured[1:], plain, strict=True)]
        for option, measured in seconds.items()
    }
    return {
        "batch_size": batch_size,
        "plain_ms_per_image": round(1000 * statistics.median(plain) / count, 3),
        "relative_time": {
            option: {
                "median": round(statistics.median(values), 2),
                "least": round(min(values), 2),
                "most": round(max(values), 2),
            }
            for option, values in ratios.items()
        },
    }


def main() -> None:
    """Measure some networks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["simple_cnn", "express", "resnet18"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as every training does
    networks = {}
    for network in arguments.networks:
        networks[network] = measure(
            network, arguments.batch_size, arguments.steps, arguments.rounds
        )
        print(network, json.dumps(networks[network], indent=2))
    content = {
        "command": command_line(),
        "machine": describe_machine(),
        "networks": networks,
    }
    arguments.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
