"""Nodes of the comparison pipeline."""

import logging
import math
from itertools import combinations
from typing import Any

from cifar100_transfer.config import ComparisonConfig
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.annotations import DataFrame, Figure, ImageSet, Predictions

logger = logging.getLogger(__name__)

_FROM_METRICS = (
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "test_top5_accuracy",
    "test_coarse_accuracy",
    "test_macro_f1",
    "test_loss",
    "test_ece",
    "test_loss_calibrated",
    "test_ece_calibrated",
    "temperature",
    "validation_accuracy",
    "train_accuracy",
)
_FROM_SUMMARY = (
    "architecture",
    "parameters",
    "flops",
    "train_images",
    "validation_images",
    "epochs",
    "best_epoch",
    "seconds",
    "images_per_second",
    "device",
)


def compare_models(
    results: list[dict[str, Any]], settings: ComparisonConfig, test_set: ImageSet, *after: Any
) -> DataFrame:
    """Put every model that has results on the stored test images into one table, best first.

    Args:
        results: all stored results, those of one model from the oldest to the newest.
        settings: whether every run of a model gets a row, or the newest alone.
        test_set: results on other images than these are left out, and the log says so: their
            accuracies can't be ranked together.
        after: artifacts of the run at hand; they only make this node wait for them.

    Raises:
        UserError: no model has results, or none on these images.
    """
    import pandas as pd

    comparable = _judged_on(test_set.digest(), results)
    newest = {result["model"]: result for result in comparable}
    rows = []
    for result in comparable if settings.all_runs else newest.values():
        metrics, git = result["metrics"], (result["manifest"] or {}).get("git") or {}
        validation, test = metrics["validation_accuracy"], metrics["test_accuracy"]
        train = math.nan if metrics["train_accuracy"] is None else metrics["train_accuracy"]
        rows.append(
            {
                "model": result["model"],
                **{name: result["summary"].get(name) for name in _FROM_SUMMARY},
                **{name: metrics.get(name) for name in _FROM_METRICS},
                "corrupted_accuracy": _corrupted_accuracy(result["robustness"]),
                "corrupted_images": (result["robustness"] or {}).get("test_images"),
                "train_test_gap": train - test,
                "train_validation_gap": train - validation,
                "validation_test_gap": validation - test,
                "run": result["run"],
                "manifest": f"runs/{result['run']}.json" if result["manifest"] else None,
                "commit": git.get("commit"),
                "uncommitted_changes": git.get("dirty"),
            }
        )
    counts = ("train_images", "validation_images", "corrupted_images", "epochs", "best_epoch")
    table = pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))
    _warn_of_other_images(table)
    _warn_of_other_corruptions(comparable if settings.all_runs else list(newest.values()))
    return table.sort_values("test_accuracy", ascending=False, ignore_index=True)


def _warn_of_other_images(table: DataFrame) -> None:
    """Say where more images alone could make a model better than another."""
    trained = table.dropna(subset=["train_images"]).drop_duplicates("train_images")
    if len(trained) > 1:
        logger.warning(
            "models were trained on different numbers of images, so that they don't differ by "
            "their recipes alone: %s",
            ", ".join(f"{row.model} on {row.train_images:,}" for row in trained.itertuples()),
        )


def _warn_of_other_corruptions(results: list[dict[str, Any]]) -> None:
    """Say where accuracies on corrupted images are not of the same ones."""
    judged = [(r["model"], r["robustness"]) for r in results if r["robustness"]]
    kinds = [f"{one.get('test_images')} of seed {one.get('seed')}" for _, one in judged]
    if len(set(kinds)) > 1:
        logger.warning(
            "accuracies on corrupted images are not of the same ones, and can't be compared: %s",
            ", ".join(f"{model}, {kind}" for (model, _), kind in zip(judged, kinds, strict=True)),
        )


def _judged_on(images: str, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results on the test images of a digest; those of earlier releases don't say."""
    comparable = [r for r in results if r["metrics"].get("test_set") in (None, images)]
    if not comparable:
        judged = "on the stored test images" if results else "yet"
        raise UserError(
            f"no model has results {judged}: train one first, for example by "
            f"kedro run --pipelines=simple_cnn, with this run's --env and --params"
        )
    compared = {result["model"] for result in comparable}
    for model in dict.fromkeys(result["model"] for result in results):
        if model not in compared:
            logger.warning(
                "'%s' was judged on other test images than the stored ones and is left out: to "
                "compare it, train it on this data",
                model,
            )
    return comparable


def measure_time_to_accuracy(results: list[dict[str, Any]], comparison: DataFrame) -> DataFrame:
    """Tabulate how soon each model reaches the best validation accuracy of each other one.

    Pairs that were trained on different hardware, or validated on different images, are left out,
    and the log says so. So are, silently, ensembles: nothing was trained.
    """
    from cifar100_transfer.evaluation.metrics import time_to_accuracy

    trained = _trained(_named(results, comparison))
    incomparable = set()
    for (first, one), (second, other) in combinations(trained.items(), 2):
        if what := _difference_in_conditions(one["summary"], other["summary"]):
            logger.info("'%s' and '%s' had %s: their times are not compared", first, second, what)
            incomparable |= {(first, second), (second, first)}
    table = time_to_accuracy({name: result["history"] for name, result in trained.items()})
    pairs = zip(table["reference"], table["model"], strict=True)
    # By position: an empty mask would leave out the columns instead of the rows.
    compared = [row for row, pair in enumerate(pairs) if pair not in incomparable]
    return table.iloc[compared].reset_index(drop=True)


def _trained(named: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: result for name, result in named.items() if result["history"] is not None}


def _difference_in_conditions(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Say what makes "reached that accuracy in half the time" of two trainings meaningless."""
    if any(one.get(name) != other.get(name) for name in ("device", "devices", "hardware")):
        return "other devices"
    if _validated_on(one) != _validated_on(other):
        return "other validation images"
    return None


def _validated_on(summary: dict[str, Any]) -> tuple[Any, Any]:
    from cifar100_transfer.evaluation.prediction import VALIDATION_IMAGES

    return summary.get("validation_images"), summary.get("recipe", {}).get(VALIDATION_IMAGES)


def compare_pairs(results: list[dict[str, Any]], comparison: DataFrame) -> DataFrame:
    """Test every pair of models for a difference on the same test images (McNemar).

    Returns a row a pair: `first` and `second` model, `accuracy_difference` (first minus second),
    `first_only` and `second_only` (images that only one of them got right), `p_value`, and
    `p_corrected` for the number of pairs (Holm). Pairs that were not judged on the same images, or
    of which one has no stored predictions, are left out, and the log says so.
    """
    import pandas as pd

    from cifar100_transfer.evaluation.metrics import holm, mcnemar

    judged = {}
    for name, result in _named(results, comparison).items():
        predictions = result["predictions"]() if result["predictions"] else None
        if predictions is None:
            logger.info("'%s' has no stored predictions: its pairs are not tested", name)
        elif not _may_be_of(predictions, result["metrics"]):
            logger.info(
                "'%s' has stored predictions of another classifier: its pairs are not tested", name
            )
        else:
            judged[name] = predictions
    rows = []
    for (first, one), (second, other) in combinations(judged.items(), 2):
        known = one.image_set and other.image_set
        if (known and one.image_set != other.image_set) or not one.labels.equal(other.labels):
            logger.info(
                "'%s' and '%s' were judged on different images: the pair is not tested",
                first,
                second,
            )
            continue
        test = mcnemar(one.correct, other.correct)
        rows.append(
            {
                "first": first,
                "second": second,
                "accuracy_difference": (test["b"] - test["c"]) / len(one),
                "first_only": test["b"],
                "second_only": test["c"],
                "p_value": test["p_value"],
            }
        )
    columns = ["first", "second", "accuracy_difference", "first_only", "second_only", "p_value"]
    pairs = pd.DataFrame(rows, columns=columns)
    return pairs.assign(p_corrected=holm(pairs["p_value"].tolist()))


def _may_be_of(predictions: Predictions, metrics: dict[str, Any]) -> bool:
    """Whether metrics are of the classifier that predicted; earlier releases don't say."""
    return not predictions.classifier or predictions.classifier == metrics.get("classifier")


def draw_comparison(comparison: DataFrame) -> Figure:
    """Draw every model's accuracy with its confidence interval."""
    from cifar100_transfer.evaluation import figures

    return figures.comparison(comparison.assign(model=_names(comparison)))


def draw_accuracy_against_cost(comparison: DataFrame) -> Figure:
    """Draw every model's accuracy over time, parameters and operations."""
    from cifar100_transfer.evaluation import figures

    return figures.accuracy_against_cost(comparison.assign(model=_names(comparison)))


def draw_overlaid_curves(results: list[dict[str, Any]], comparison: DataFrame) -> Figure:
    """Draw every model's validation accuracy over epochs and over seconds."""
    from cifar100_transfer.evaluation import figures

    trained = _trained(_named(results, comparison))
    return figures.overlaid_curves({name: result["history"] for name, result in trained.items()})


def write_report(
    results: list[dict[str, Any]],
    comparison: DataFrame,
    times: DataFrame,
    significance: DataFrame,
    class_counts: DataFrame,
    sample_grid: bytes,
    *figures: bytes,
) -> str:
    """Put everything that is known into one page.

    Args:
        results: all stored results.
        comparison: the table of models.
        times: time to accuracy.
        significance: tests of pairs.
        class_counts: images by set and class.
        sample_grid: picture of the data.
        figures: pictures of accuracy, of curves, and of accuracy against cost.
    """
    from cifar100_transfer.evaluation.report import Report, render_report

    return render_report(
        Report(
            models=_named(results, comparison),
            table=comparison.assign(model=_names(comparison)),
            times=times,
            significance=significance,
            class_counts=class_counts,
            sample_grid=sample_grid,
            accuracy_figure=figures[0],
            curves_figure=figures[1],
            cost_figure=figures[2],
        )
    )


def _corrupted_accuracy(robustness: dict[str, Any] | None) -> float | None:
    plain = ((robustness or {}).get("methods") or {}).get("plain")
    return plain["test"]["mean_corruption_accuracy"] if plain else None


def _names(comparison: DataFrame) -> list[str]:
    """Name every row: by its model, and by its run where a model has several.

    The second in which a run started is enough, unless another one started in it.
    """
    models, runs = comparison["model"], comparison["run"]
    names = models.where(~models.duplicated(keep=False), models + " " + runs.str[:19])
    return names.where(~names.duplicated(keep=False), models + " " + runs).tolist()


def _named(results: list[dict[str, Any]], comparison: DataFrame) -> dict[str, dict[str, Any]]:
    """Return the results of every row by its name, in the table's order."""
    found = {(result["model"], result["run"]): result for result in results}
    rows = zip(_names(comparison), comparison["model"], comparison["run"], strict=True)
    return {name: found[model, run] for name, model, run in rows}
