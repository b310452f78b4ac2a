"""Architectures side by side: size, work, speed, and accuracy within one budget."""

import math
from dataclasses import dataclass, replace
from typing import Any

import optuna
import pandas as pd
import torch

from cifar100_transfer.config import Changes, ModelConfig, ScreeningConfig, TrainingConfig
from cifar100_transfer.data import ImageSet, stratified_subset
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, count_flops
from cifar100_transfer.training import Compute, build_classifier
from cifar100_transfer.training.batch_size import images_per_second

from .judging import judge
from .space import Recipe, check_screening
from .study import Outcome, Plan, run_trials, settings_of, trials_table
from .trial_data import TrialData

# Sides that are tried in turn where images are too small as they come: twice CIFAR's, what
# AlexNet and Inception need at least, and what torchvision's networks were published for.
LARGER_SIZES = (64, 96, 128, 224)


@dataclass(frozen=True, eq=False)
class ScreeningResult:
    """What a screening found.

    Attributes:
        trials: one row an architecture and seed; see `trials_table` and `run_screening`.
        summary: plain values.
    """

    trials: pd.DataFrame
    summary: dict[str, Any]


def run_screening(screening: ScreeningConfig, data: TrialData, url: str) -> ScreeningResult:
    """Train every architecture from random weights within the budget, or what is left of it.

    Beside its accuracy a row tells `image_size` (pixels of a side, as the network sees them),
    `parameters`, `gflops` (of one image forward, a multiply-add counted as two), `seconds` and
    `images_per_second` of the training steps, `train_images` and `epochs`.

    Args:
        screening: architectures, recipe and budget.
        data: images to train on and to judge by.
        url: database of the study.

    Raises:
        UserError: an unknown architecture, the database can't be used, or every trial has failed.
    """
    check_screening(screening)
    settings = screening.model_dump(mode="json", exclude={"architectures", "seeds"})
    if screening.seconds is not None:  # worth as many images as the device manages
        settings["device"] = _describe(data.compute)
    jobs: list[Changes] = [
        {"architecture": name, "seed": seed}
        for seed in screening.seeds
        for name in screening.architectures
    ]
    plan = Plan(f"screening-{data.identity(screening=settings)}", jobs=tuple(jobs))

    def objective(trial: optuna.Trial) -> Outcome:
        job = settings_of(trial)
        return _screen(job["architecture"], job["seed"], screening, data)

    trials = trials_table(run_trials(url, plan, objective), plan)
    summary = {
        "study": plan.name,
        "seconds": screening.seconds,
        "image_size": data.train_set.image_size[0],
    }
    return ScreeningResult(trials, summary)


def _describe(compute: Compute) -> list[Any]:
    """Return what decides how many images are trained on in a second, as plain values."""
    on_gpu = compute.device.type == "cuda"
    device = torch.cuda.get_device_name(compute.device) if on_gpu else compute.device.type
    threads = None if on_gpu else torch.get_num_threads()
    return [device, threads, compute.compiled, compute.cuda_graphs]


def _screen(architecture: str, seed: int, screening: ScreeningConfig, data: TrialData) -> Outcome:
    training = screening.training.model_copy(update={"seed": seed})
    recipe, classifier = _smallest(architecture, training, data)
    spec, flops = classifier.spec, count_flops(classifier.spec)
    # A set smaller than a batch is refused by the training itself.
    if screening.seconds is not None and len(data.train_set) >= training.images_per_step:
        rate = images_per_second(classifier, data.train_set, training, data.compute)
        if rate is None:
            raise UserError(
                "the device has too little memory for a step: lower training.batch_size"
            )
        recipe, data = _spend(recipe, data, int(rate * screening.seconds))
    del classifier  # the training builds one of its own
    result = data.train(recipe)
    told = judge(result, data, corrupted_images=None)
    figures = {
        "image_size": spec.image_size or spec.input_size[0],
        "parameters": result.summary()["parameters"],
        "gflops": flops / 1e9,
        "train_images": len(data.train_set),
        **told.figures,
    }
    return Outcome(told.accuracy, figures)


def _smallest(
    architecture: str, training: TrainingConfig, data: TrialData
) -> tuple[Recipe, Classifier]:
    """Return the recipe with the smallest images that the network takes, and the network."""
    larger = [side for side in LARGER_SIZES if side > max(data.train_set.image_size)]
    for image_size in (None, *larger):
        model = ModelConfig(architecture=architecture, image_size=image_size)
        try:
            classifier = build_classifier(data.train_set, data.normalization, model, training)
        except UserError as error:
            # Its text alone: the error would hold on to the network that was refused.
            refusal = str(error)
        else:
            return Recipe(model, training), classifier
    raise UserError(refusal)


def _spend(recipe: Recipe, data: TrialData, images: int) -> tuple[Recipe, TrialData]:
    """Spread a number of images over whole epochs, on a part of the training set if need be."""
    epochs = max(1, math.ceil(images / len(data.train_set)))
    training = recipe.training.model_copy(update={"epochs": epochs})
    part = _draw(data.train_set, images // epochs, training.images_per_step)
    return replace(recipe, training=training), replace(data, train_set=part)


def _draw(images: ImageSet, count: int, batch_size: int) -> ImageSet:
    """Draw at most `count` images, in whole batches but for the whole set.

    There are at least as many images as classes: a training refuses a set that lacks one.
    """
    smallest = math.ceil(images.num_classes / batch_size)
    return stratified_subset(images, max(smallest, count // batch_size) * batch_size, seed=0)
