"""Architectures side by side: size, work, speed, and accuracy within one budget."""

import math
from dataclasses import dataclass, replace
from typing import Any

import optuna
import pandas as pd
import torch

from cifar100_transfer.config import Changes, ModelConfig, ScreeningConfig, TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import ClassifierSpec, count_flops
from cifar100_transfer.training import build_classifier

from .judging import judge
from .space import Recipe, check_screening
from .study import Outcome, Plan, run_trials, settings_of, trials_table
from .trial_data import TrialData

# Sides that are tried in turn where images are too small as they come: twice CIFAR's, what
# AlexNet and Inception need at least, and what torchvision's networks were published for.
LARGER_SIZES = (64, 96, 128, 224)
# A speed is believed when the measurement took this share of the budget.
PROBE_SHARE = 0.01
PROBE_BATCHES = 2


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
    return ScreeningResult(trials, {"study": plan.name, "seconds": screening.seconds})


def _screen(architecture: str, seed: int, screening: ScreeningConfig, data: TrialData) -> Outcome:
    training = screening.training.model_copy(update={"seed": seed})
    recipe, spec = _smallest(architecture, training, data)
    flops = count_flops(spec)
    if screening.seconds is not None:
        rate = _images_per_second(recipe, data, screening.seconds)
        recipe, data = _spend(recipe, data, int(rate * screening.seconds))
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
) -> tuple[Recipe, ClassifierSpec]:
    """Return the recipe with the smallest images that the network takes, and what it then is."""
    larger = [side for side in LARGER_SIZES if side > max(data.train_set.image_size)]
    for image_size in (None, *larger):
        model = ModelConfig(architecture=architecture, image_size=image_size)
        try:
            classifier = build_classifier(data.train_set, data.normalization, model, training)
        except UserError as error:
            # Its text alone: the error would hold on to the network that was refused.
            refusal = str(error)
        else:
            return Recipe(model, training), classifier.spec
    raise UserError(refusal)


def _images_per_second(recipe: Recipe, data: TrialData, budget: float) -> float:
    """Measure the speed of training steps on ever more batches, until it can be believed."""
    batches = PROBE_BATCHES
    while True:
        size = recipe.training.images_per_step
        probe = replace(
            data,
            train_set=_draw(data.train_set, batches * size, size),
            validation_set=data.validation_set.subset(torch.arange(1)),
        )
        # The first epoch also pays for what is made once.
        training = recipe.training.model_copy(update={"epochs": 2})
        record = probe.train(replace(recipe, training=training)).history[-1]
        if record.seconds >= PROBE_SHARE * budget or len(probe.train_set) == len(data.train_set):
            return record.images_per_second
        batches *= 4


def _spend(recipe: Recipe, data: TrialData, images: int) -> tuple[Recipe, TrialData]:
    """Spread a number of images over whole epochs, on a part of the training set if need be."""
    epochs = max(1, math.ceil(images / len(data.train_set)))
    training = recipe.training.model_copy(update={"epochs": epochs})
    part = _draw(data.train_set, images // epochs, training.images_per_step)
    return replace(recipe, training=training), replace(data, train_set=part)


def _draw(images: ImageSet, count: int, batch_size: int) -> ImageSet:
    """Draw at most `count` images, in whole batches but for the whole set.

    Classes take turns, and there are at least as many images as classes: a training refuses a set
    that lacks one.
    """
    smallest = math.ceil(images.num_classes / batch_size)
    count = max(smallest, count // batch_size) * batch_size
    if count >= len(images):
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    labels = images.labels[order]
    turns = torch.empty_like(order)
    for label in range(images.num_classes):
        of_class = labels == label
        turns[of_class] = torch.arange(int(of_class.sum()))
    return images.subset(order[turns.argsort(stable=True)[:count]])
