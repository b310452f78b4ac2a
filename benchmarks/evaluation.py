"""What judging a classifier costs beside the bare network, in one process.

    python benchmarks/evaluation.py [images] [architecture]

Times in turns the bare network on preprocessed batches (`classifier.network`), and the evaluation's
prediction of the same images from bytes to checked `Predictions`; then the figures and tables that
are made of them. Prints medians over the rounds.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

import torch
from machine import run_script

from cifar100_transfer.data import ImageSet
from cifar100_transfer.datasets import FigureDataset
from cifar100_transfer.evaluation.prediction import predict
from cifar100_transfer.models import Classifier, ClassifierSpec, classifier_digest
from cifar100_transfer.pipelines.evaluation import nodes

ROUNDS = 5
BATCH = 512


def main(count: int, architecture: str) -> None:
    """Print the seconds of both, their ratio, and the seconds of every table and figure."""
    random = torch.Generator().manual_seed(0)
    classes = 100
    images = ImageSet(
        images=torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=random),
        labels=torch.randint(0, classes, (count,), generator=random),
        class_names=tuple(f"class_{k}" for k in range(classes)),
        coarse_names=tuple(f"group_{k}" for k in range(20)),
        coarse_of_class=tuple(k % 20 for k in range(classes)),
    )
    spec = ClassifierSpec(architecture, images.class_names, (0.5,) * 3, (0.25,) * 3)
    classifier = Classifier(spec).eval()
    batches = [classifier.preprocess(part) for part in images.images.split(BATCH)]

    @torch.inference_mode()
    def bare() -> None:
        for batch in batches:
            classifier.network(batch)

    seconds: dict[str, list[float]] = {"bare": [], "predict": []}
    for _ in range(ROUNDS + 1):
        seconds["bare"].append(_timed(bare))
        seconds["predict"].append(_timed(lambda: predict(classifier, images)))
    # The first round warms up.
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    outcome = {
        "images": count,
        "architecture": architecture,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "bare_seconds": medians["bare"],
        "predict_seconds": medians["predict"],
        "ratio": medians["predict"] / medians["bare"],
        "evidence_seconds": _evidence(classifier, images),
    }
    print(json.dumps(outcome, indent=2))


def _evidence(classifier: Classifier, images: ImageSet) -> dict[str, float]:
    """Time every table and figure that the evaluation makes of the predictions."""
    predictions = predict(classifier, images)
    summary = {
        "classifier": classifier_digest(classifier),
        "validation_images": len(images),
        **dict.fromkeys(("train_accuracy", "train_loss"), 0.0),
        **dict.fromkeys(("validation_accuracy", "validation_loss"), 0.0),
    }
    calibration = nodes.fit_calibration(predictions)
    pairs = nodes.list_confused_pairs(predictions)
    steps: dict[str, Callable[[], object]] = {
        "fit_calibration": lambda: nodes.fit_calibration(predictions),
        "metrics": lambda: nodes.compute_metrics(
            predictions, calibration, summary, classifier, images
        ),
        "per_class": lambda: nodes.tabulate_classes(predictions),
        "confused_pairs": lambda: nodes.list_confused_pairs(predictions),
    }
    model = classifier.spec.architecture
    drawings: dict[str, Callable[[], object]] = {
        "confusion_matrix": lambda: nodes.draw_confusion_matrix(predictions, model=model),
        "coarse_confusion_matrix": lambda: nodes.draw_coarse_confusion_matrix(
            predictions, model=model
        ),
        "reliability_diagram": lambda: nodes.draw_reliability_diagram(
            predictions, calibration, model=model
        ),
        "per_class_accuracy": lambda: nodes.draw_per_class_accuracy(predictions, model=model),
        "confused_pairs_figure": lambda: nodes.draw_confused_pairs(
            pairs, predictions, images, model=model
        ),
        "confident_mistakes": lambda: nodes.draw_confident_mistakes(
            predictions, images, model=model
        ),
        "class_activation": lambda: nodes.draw_class_activation(
            classifier, predictions, images, model=model
        ),
    }
    with TemporaryDirectory() as folder:
        figure = FigureDataset(filepath=f"{folder}/figure.png")
        seconds = {name: _timed(step) for name, step in steps.items()}
        for name, draw in drawings.items():
            seconds[name] = _timed(lambda draw=draw: figure.save(draw()))
    return {**seconds, "together": sum(seconds.values())}


def _timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=int, nargs="?", default=10_000)
    parser.add_argument("architecture", nargs="?", default="simple_cnn")
    given = parser.parse_args()
    run_script(lambda: main(given.images, given.architecture))
