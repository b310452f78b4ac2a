"""Nodes of the robustness template.

`model` is the name of the classifier, for log and title. Validation images choose, test images are
only reported on: that is why they go through nodes of their own.
"""

import logging
from typing import Any

from cifar100_transfer.config import ADAPTING, ComputeConfig, RobustnessConfig
from cifar100_transfer.pipelines.annotations import Classifier, DataFrame, Figure, ImageSet

logger = logging.getLogger(__name__)


def choose_adaptation(
    validation_set: ImageSet,
    robustness: RobustnessConfig,
    compute: ComputeConfig,
    classifier: Classifier,
    *,
    model: str,
) -> dict[str, Any]:
    """Choose the mixing weight of batch-norm adaptation on corrupted validation images.

    Returns `source_weight` (null if there is nothing to adapt, or no method that adapts) and
    `candidates`: mean corruption accuracy on validation images by weight; a single weight is taken
    unmeasured, as measuring it is a pass over all corruptions.
    """
    from cifar100_transfer.evaluation.adaptation import has_batch_norm
    from cifar100_transfer.evaluation.prediction import check_validation
    from cifar100_transfer.evaluation.robustness import rank_source_weights

    check_validation(classifier, validation_set)  # before anything is measured
    if not set(ADAPTING) & set(robustness.methods):
        return {"source_weight": None, "candidates": {}}
    if len(robustness.source_weights) == 1 and has_batch_norm(classifier):
        return {"source_weight": robustness.source_weights[0], "candidates": {}}
    validation_set = _prepare(validation_set, robustness, compute, classifier)
    ranked = rank_source_weights(
        classifier, validation_set, robustness.source_weights, robustness.seed, model
    )
    if not ranked:
        logger.info("%s: no batch normalisation, so the methods adapting it are left out", model)
    return {
        "source_weight": next(iter(ranked), None),
        "candidates": {str(weight): accuracy for weight, accuracy in ranked.items()},
    }


def measure_on_validation(
    validation_set: ImageSet,
    adaptation: dict[str, Any],
    robustness: RobustnessConfig,
    compute: ComputeConfig,
    classifier: Classifier,
    *,
    model: str,
) -> tuple[DataFrame, dict[str, float]]:
    """Measure every method on corrupted, and on clean, validation images."""
    from cifar100_transfer.evaluation.prediction import check_validation

    check_validation(classifier, validation_set)
    return _measure(
        model, "validation", validation_set, adaptation, robustness, compute, classifier
    )


def measure_on_test(
    test_set: ImageSet,
    adaptation: dict[str, Any],
    robustness: RobustnessConfig,
    compute: ComputeConfig,
    classifier: Classifier,
    *,
    model: str,
) -> tuple[DataFrame, dict[str, float]]:
    """Measure every method on corrupted, and on clean, test images."""
    return _measure(model, "test", test_set, adaptation, robustness, compute, classifier)


def summarize(
    validation: DataFrame,
    validation_clean: dict[str, float],
    test: DataFrame,
    test_clean: dict[str, float],
    adaptation: dict[str, Any],
    classifier: Classifier,
    test_set: ImageSet,
    robustness: RobustnessConfig,
    *,
    model: str,
) -> tuple[DataFrame, dict[str, Any]]:
    """Put both sets' rows into one table, and sum up every method on each.

    `classifiers` in the summary holds the digest of the one that was judged, `test_set` that of all
    test images, of which `seed` has chosen some, and how they are corrupted.
    """
    import pandas as pd

    from cifar100_transfer.evaluation.robustness import summarize_robustness
    from cifar100_transfer.models import classifier_digest

    parts = (("validation", validation, validation_clean), ("test", test, test_clean))
    methods: dict[str, dict[str, Any]] = {
        method: {
            "transductive": method in ADAPTING,
            **{
                name: summarize_robustness(table[table["method"] == method], clean[method])
                for name, table, clean in parts
            },
        }
        for method in test_clean
    }
    for method, summary in methods.items():
        logger.info(
            "%s, %s: %.1f %% under all corruptions, %.1f %% without, of %s test images",
            model,
            method,
            100 * summary["test"]["mean_corruption_accuracy"],
            100 * summary["test"]["clean_accuracy"],
            f"{int(test['images'].iloc[0]):,}",
        )
    table = pd.concat([validation, test], ignore_index=True)
    return table, {
        "classifiers": [classifier_digest(classifier)],
        "test_set": test_set.digest(),
        "seed": robustness.seed,
        "validation_images": int(validation["images"].iloc[0]),
        "test_images": int(test["images"].iloc[0]),
        "adaptation": adaptation,
        "methods": methods,
    }


def draw_heat_map(table: DataFrame, model: str) -> Figure:
    """Draw every method's accuracy on corrupted test images."""
    from cifar100_transfer.evaluation import figures

    return figures.robustness_heat_map(
        table[table["set"] == "test"], title=f"Accuracy on corrupted images: {model}"
    )


def draw_corruption_grid(test_set: ImageSet, robustness: RobustnessConfig) -> Figure:
    """Draw the first test image under every corruption at every severity."""
    from cifar100_transfer.data.corruptions import CORRUPTIONS, SEVERITIES
    from cifar100_transfer.evaluation import figures
    from cifar100_transfer.evaluation.robustness import corruption_examples

    return figures.corruption_grid(
        corruption_examples(test_set.images[0], robustness.seed),
        CORRUPTIONS,
        SEVERITIES,
        title="One test image, corrupted",
    )


def _measure(
    model: str,
    set_name: str,
    images: ImageSet,
    adaptation: dict[str, Any],
    robustness: RobustnessConfig,
    compute: ComputeConfig,
    classifier: Classifier,
) -> tuple[DataFrame, dict[str, float]]:
    from cifar100_transfer.evaluation.robustness import (
        measure_accuracy,
        measure_robustness,
        predictors_of,
    )

    images = _prepare(images, robustness, compute, classifier)
    predictors = predictors_of(classifier, robustness.methods, adaptation["source_weight"])
    clean = measure_accuracy(predictors, images)
    table = measure_robustness(predictors, images, set_name, robustness.seed, model=model)
    return table, clean


def _prepare(
    images: ImageSet,
    robustness: RobustnessConfig,
    compute: ComputeConfig,
    classifier: Classifier,
) -> ImageSet:
    """Check classes, move the classifier to the device, and choose the images to be judged."""
    from cifar100_transfer.data import stratified_subset
    from cifar100_transfer.evaluation.prediction import check_classes
    from cifar100_transfer.models import choose_device

    device = choose_device(compute.device)
    check_classes(classifier, images)
    classifier.to(device)
    chosen = stratified_subset(images, robustness.images, robustness.seed)
    return chosen.with_images(chosen.images.to(device))
