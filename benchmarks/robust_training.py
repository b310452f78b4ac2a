"""What training on noise and AugMix buys on corrupted images, and batch-norm adaptation on top.

    python benchmarks/robust_training.py --data DIR --seeds 0 1 2

One and the same small network, `express_small`, is trained from scratch plainly, with AugMix, with
Gaussian noise, and with both, and judged on the nineteen corruptions of the test images; the mixing
weight of the adaptation is chosen on corrupted validation images. Results are added to
docs/results/robust_training.json run by run: a killed benchmark goes on where it was. Prints the
table of docs/robustness.md.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from champion import read_recipe
from machine import command_line, describe_machine, run_script
from report_tables import spread

from cifar100_transfer.config import ComputeConfig
from cifar100_transfer.data import (
    ImageSet,
    channel_statistics,
    stratified_split,
    stratified_subset,
)
from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.evaluation.robustness import (
    measure_accuracy,
    measure_robustness,
    predictors_of,
    rank_source_weights,
)
from cifar100_transfer.training import Compute, build_classifier, train

CPU = Compute.of(ComputeConfig(device="cpu", precision="auto"))

AUGMIX, NOISE = "training.augmentation.policy=augmix", "training.augmentation.noise_share=0.5"
# What each changes in the recipe of `express`.
RECIPES = {"plain": [], "AugMix": [AUGMIX], "noise": [NOISE], "AugMix and noise": [AUGMIX, NOISE]}
SOURCE_WEIGHTS = (0.0, 0.25, 0.5)
OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "robust_training.json"


def measure(
    recipe: str, seed: int, sets: tuple[ImageSet, ImageSet, ImageSet], epochs: int, images: int
) -> dict[str, Any]:
    """Train one classifier and judge it."""
    train_set, validation_set, test_set = sets
    small = ["model.architecture=express_small", "training.batch_size=512"]
    run = [f"training.epochs={epochs}", f"training.seed={seed}", "training.accumulation_steps=1"]
    changes = [*small, *run, *RECIPES[recipe]]
    model, config = read_recipe("base", changes, "express")
    normalization = vars(channel_statistics(train_set.images))
    started = time.perf_counter()
    classifier = build_classifier(train_set, normalization, model, config)
    classifier = train(classifier, train_set, validation_set, config, CPU).classifier
    trained = time.perf_counter()
    # Choosing takes several passes, and one weight out of three needs fewer images.
    validation_set = stratified_subset(validation_set, images // 2, 0)
    test_set = stratified_subset(test_set, images, 0)
    weight = next(iter(rank_source_weights(classifier, validation_set, SOURCE_WEIGHTS, 0)))
    predictors = predictors_of(classifier, ["plain", "batch_norm"], weight)
    table = measure_robustness(predictors, test_set, "test", 0)
    return {
        "recipe": recipe,
        "seed": seed,
        "epochs": epochs,
        "images": images,
        "precision": str(CPU.precision),
        "training_seconds": trained - started,
        "judging_seconds": time.perf_counter() - trained,
        "source_weight": weight,
        "clean": measure_accuracy(predictors, test_set),
        "corrupted": table.groupby("method")["accuracy"].mean().to_dict(),
        "per_corruption": {
            method: rows.groupby("corruption", sort=False)["accuracy"].mean().to_dict()
            for method, rows in table.groupby("method")
        },
    }


def summary(runs: list[dict[str, Any]], epochs: int, images: int) -> str:
    """Return the Markdown table of the runs of so many epochs that so many images judged."""
    lines = [
        "| recipe | seeds | clean | corrupted | clean, adapted | corrupted, adapted | gain |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for recipe in RECIPES:
        wanted = (recipe, epochs, images)
        own = [run for run in runs if (run["recipe"], run["epochs"], run["images"]) == wanted]
        if not own:
            continue
        columns = [
            [run[kind][method] for run in own]
            for method in ("plain", "batch_norm")
            for kind in ("clean", "corrupted")
        ]
        columns.append([run["corrupted"]["batch_norm"] - run["corrupted"]["plain"] for run in own])
        cells = " | ".join(spread([100 * value for value in column], 1) for column in columns)
        lines.append(f"| {recipe} | {len(own)} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Train and judge what is not in the results yet, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/01_raw"), help="raw_data folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--images", type=int, default=1000, help="test images; half as many of validation"
    )
    chosen = parser.parse_args()
    stored = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {"runs": []}
    official, test_set = read_cifar100(chosen.data)
    sets = (*stratified_split(official, 0.2, 0), test_set)
    for seed in chosen.seeds:
        for recipe in RECIPES:
            key = (recipe, seed, chosen.epochs, chosen.images)
            if key in [
                (run["recipe"], run["seed"], run["epochs"], run["images"]) for run in stored["runs"]
            ]:
                continue
            outcome = measure(recipe, seed, sets, chosen.epochs, chosen.images)
            made_by = {"command": command_line(), "machine": describe_machine()}
            stored["runs"].append(outcome | made_by)
            OUTPUT.parent.mkdir(parents=True, exist_ok=True)
            OUTPUT.write_text(json.dumps(stored, indent=2) + "\n")
    print(summary(stored["runs"], chosen.epochs, chosen.images))


if __name__ == "__main__":
    run_script(main)
