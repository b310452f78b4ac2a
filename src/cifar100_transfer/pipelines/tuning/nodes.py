"""Nodes of the tuning templates. None of them is given test images."""

import logging
from typing import TYPE_CHECKING, Any

from cifar100_transfer.config import (
    AblationConfig,
    ComputeConfig,
    ModelConfig,
    ScreeningConfig,
    SearchConfig,
    TrainingConfig,
)
from cifar100_transfer.pipelines.annotations import DataFrame, Figure, ImageSet, Tensor

if TYPE_CHECKING:
    from cifar100_transfer.tuning.trial_data import TrialData

logger = logging.getLogger(__name__)


def search_recipe(
    train_set: ImageSet,
    validation_set: ImageSet,
    normalization: dict[str, Any],
    model: ModelConfig,
    training: TrainingConfig,
    search: SearchConfig,
    compute: ComputeConfig,
    studies: str,
    pretrained_weights: dict[str, Tensor] | None = None,
    *,
    model_name: str,
) -> tuple[DataFrame, str, dict[str, Any]]:
    """Run all trials that no process has run yet, and choose the best recipe.

    Returns the trials, the best recipe as a parameters file, and a summary.
    """
    from cifar100_transfer.tuning.search import recipe_file, run_search
    from cifar100_transfer.tuning.space import Recipe

    data = _data(train_set, validation_set, normalization, compute, pretrained_weights)
    result = run_search(model_name, Recipe(model, training), search, data, studies)
    return result.trials, recipe_file(model_name, result), result.summary


def ablate_recipe(
    train_set: ImageSet,
    validation_set: ImageSet,
    normalization: dict[str, Any],
    model: ModelConfig,
    training: TrainingConfig,
    ablation: AblationConfig,
    compute: ComputeConfig,
    studies: str,
    pretrained_weights: dict[str, Tensor] | None = None,
    *,
    model_name: str,
) -> tuple[DataFrame, DataFrame, dict[str, Any]]:
    """Train base and changes with every seed.

    Returns the trials, the table of paired differences, and a summary.
    """
    from cifar100_transfer.tuning.ablation import run_ablation
    from cifar100_transfer.tuning.space import Recipe

    data = _data(train_set, validation_set, normalization, compute, pretrained_weights)
    result = run_ablation(model_name, Recipe(model, training), ablation, data, studies)
    return result.trials, result.table, result.summary


def screen_architectures(
    train_set: ImageSet,
    validation_set: ImageSet,
    normalization: dict[str, Any],
    screening: ScreeningConfig,
    compute: ComputeConfig,
    studies: str,
) -> tuple[DataFrame, dict[str, Any]]:
    """Train every architecture within the budget. Returns the table and a summary."""
    from cifar100_transfer.tuning.screening import run_screening

    data = _data(train_set, validation_set, normalization, compute)
    result = run_screening(screening, data, studies)
    return result.trials, result.summary


def draw_search_history(trials: DataFrame, summary: dict[str, Any]) -> Figure:
    """Draw the accuracy of every trial in their order."""
    from cifar100_transfer.tuning import figures

    title = f"Trials of {summary['study']}"
    return figures.search_history(trials, title, summary["judged_by"])


def draw_importances(summary: dict[str, Any]) -> Figure:
    """Draw how much of the accuracy each setting decides."""
    from cifar100_transfer.tuning import figures

    return figures.importances(
        summary["importances"], title=f"What decides accuracy in {summary['study']}"
    )


def draw_slices(trials: DataFrame, summary: dict[str, Any]) -> Figure:
    """Draw accuracy against every setting."""
    from cifar100_transfer.tuning import figures

    title = f"Accuracy by setting in {summary['study']}"
    return figures.slices(trials, summary["settings"], title, summary["judged_by"])


def draw_parallel_coordinates(trials: DataFrame, summary: dict[str, Any]) -> Figure:
    """Draw every trial as a line through its settings."""
    from cifar100_transfer.tuning import figures

    title = f"Settings and accuracy in {summary['study']}"
    return figures.parallel_coordinates(trials, summary["settings"], title, summary["judged_by"])


def draw_ablation(table: DataFrame, summary: dict[str, Any]) -> Figure:
    """Draw what every change is worth."""
    from cifar100_transfer.tuning import figures

    title = f"What each change is worth: {summary['study']}"
    return figures.ablation(table, title, summary["judged_by"])


def draw_screening(trials: DataFrame, summary: dict[str, Any]) -> Figure:
    """Draw accuracy against parameters and against training time."""
    from cifar100_transfer.tuning import figures

    budget = f"{summary['seconds']:g} s" if summary["seconds"] else "equal epochs"
    title = f"Architectures from random weights, {budget} each"
    return figures.screening(trials, summary["image_size"], title)


def _data(
    train_set: ImageSet,
    validation_set: ImageSet,
    normalization: dict[str, Any],
    compute: ComputeConfig,
    pretrained_weights: dict[str, Tensor] | None = None,
) -> "TrialData":
    from cifar100_transfer.data import check_division
    from cifar100_transfer.training import Compute
    from cifar100_transfer.tuning.trial_data import TrialData

    check_division(train_set, validation_set, normalization)
    logger.info(
        "Trials learn from %s images and are judged by %s",
        f"{len(train_set):,}",
        f"{len(validation_set):,}",
    )
    return TrialData(
        train_set, validation_set, normalization, Compute.of(compute), pretrained_weights
    )
