"""How long it takes to 75 % of the CIFAR-100 test images: mean time and accuracy over many seeds.

    python benchmarks/time_to_75.py --data DIR --seeds 20      (--quick: a glance, on drawn images)

In the manner of the public records: the clock runs from the images in the host's memory to the
trained weights: statistics, initial weights, upload, training and its validation. Test images are
classified twice, each way timed on its own: plainly, and as the mean over six views, mirrored and
shifted. A first run warms up and does not count. The recipe is `express` of `--env` (by default
conf/speedrun), `--set` changes it. 1,000 of the 50,000 training images are kept for validation;
test images choose nothing. The outcome is printed and, without `--quick`, stored in
docs/results/time_to_75.json.

A time counts as one to 75 % if the mean accuracy reaches 75 %, whatever single runs reach; that of
the views includes their classification.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from champion import ROOT, read_recipe
from machine import command_line, describe_machine, run_script

from cifar100_transfer.config import ComputeConfig, ModelConfig, TrainingConfig
from cifar100_transfer.data import ImageSet, channel_statistics, stratified_split
from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.data.sample import generate
from cifar100_transfer.evaluation.adaptation import augmented, plain
from cifar100_transfer.training import Compute, build_classifier, train

TARGET = 0.75
VALIDATION_SHARE = 0.02
RESULTS = ROOT / "docs" / "results" / "time_to_75.json"


def measure(
    sets: tuple[ImageSet, ImageSet, ImageSet],
    model: ModelConfig,
    training: TrainingConfig,
    compute: Compute,
) -> dict[str, float]:
    """Train once and classify the test images plainly and over the views.

    Returns:
        `seconds` of the training; of either way `plain_accuracy` and `views_accuracy` in [0, 1],
        `plain_seconds` and `views_seconds`.
    """
    train_set, validation_set, test_set = sets
    started = time.perf_counter()
    normalization = asdict(channel_statistics(train_set.images))
    classifier = build_classifier(train_set, normalization, model, training)
    # It ends with the weights on the host, for which the device has to be done.
    classifier = train(classifier, train_set, validation_set, training, compute).classifier
    figures = {"seconds": time.perf_counter() - started}
    predictor = plain(classifier.to(compute.device))
    for name, predict in (("plain", predictor), ("views", augmented(predictor))):
        started = time.perf_counter()
        answers = predict(test_set.images).argmax(1).cpu()
        figures[f"{name}_seconds"] = time.perf_counter() - started
        figures[f"{name}_accuracy"] = int((answers == test_set.labels).sum()) / len(test_set)
    return figures


def summarize(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return mean and standard deviation over the runs, and which way's mean reaches the target."""
    summary: dict[str, Any] = {"runs": len(runs)}
    for name in runs[0]:
        values = [run[name] for run in runs]
        summary[f"mean_{name}"] = statistics.mean(values)
        summary[f"sd_{name}"] = statistics.stdev(values) if len(values) > 1 else None
    for way in ("plain", "views"):
        summary[f"{way}_reaches_target"] = summary[f"mean_{way}_accuracy"] >= TARGET
    return summary


def main() -> None:
    """Read the command line, measure and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/01_raw"), help="raw_data folder")
    parser.add_argument("--env", default="speedrun")
    parser.add_argument("--set", nargs="+", default=[], metavar="PATH=VALUE", help="of the recipe")
    parser.add_argument("--seeds", type=int, default=20, help="number of runs that count")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="two runs on drawn images")
    chosen = parser.parse_args()
    quick = ["training.epochs=2", "training.batch_size=100"] if chosen.quick else []
    model, training = read_recipe(chosen.env, [*quick, *chosen.set], "express")
    compute = Compute.of(ComputeConfig(device=chosen.device, precision="auto"))
    seeds = 2 if chosen.quick else chosen.seeds
    if chosen.quick:
        official = generate("target", "train", 6, 0)
        sets = (official, generate("target", "test", 1, 1), generate("target", "test", 1, 2))
    else:
        official, test_set = read_cifar100(chosen.data)
        sets = (*stratified_split(official, VALIDATION_SHARE, 0), test_set)
    runs = []
    for seed in range(seeds + 1):
        recipe = training.model_copy(update={"seed": seed})
        runs.append(measure(sets, model, recipe, compute))
        print(
            f"seed {seed}: {runs[-1]['seconds']:.2f} s, {runs[-1]['plain_accuracy']:.2%}, "
            f"by views {runs[-1]['views_accuracy']:.2%} "
            f"in {runs[-1]['views_seconds']:.2f} s more",
            flush=True,
        )
    record = {
        "command": command_line(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": describe_machine(),
        "device": str(compute.device),
        "recipe": {"model": model.model_dump(), "training": training.model_dump(mode="json")},
        "summary": summarize(runs[1:]),
        "warm_up": runs[0],
        "runs": runs[1:],
    }
    print(json.dumps(record["summary"], indent=2))
    if not chosen.quick:
        RESULTS.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
