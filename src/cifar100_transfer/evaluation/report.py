"""One page about all models, and one card about each: sentences and tables made of numbers."""

import base64
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from cifar100_transfer.config import ModelConfig, TrainingConfig
from cifar100_transfer.nested import leaves

from .drawing import amount, time_unit

# Points of accuracy between training and test images.
STRONG_GAP, SLIGHT_GAP = 0.10, 0.03
SIGNIFICANT = 0.05
_RECIPE_PARTS = ("model", "training")
# Written elsewhere on the page, or of no interest to a reader of results.
_PLAIN_SETTINGS = {"model.architecture", "model.pretrained"}
# Named whatever their values are; others where a model departs from their defaults.
_ALWAYS_NAMED = {
    *("epochs", "batch size", "optimizer: name", "optimizer: learning rate"),
    *("optimizer: weight decay", "schedule: name", "label smoothing", "dropout"),
    *("augmentation: flip", "augmentation: crop padding"),
}
# Settings that mean something under some names of an optimiser or a schedule only.
_UNUSED = {
    "training.schedule.step_epochs": {"constant", "one_cycle", "cosine"},
    "training.schedule.gamma": {"constant", "one_cycle", "cosine"},
    "training.schedule.warmup_share": {"constant", "step"},
    "training.optimizer.momentum": {"adam", "adamw"},
}
# What a network that starts from pretrained weights has no use for.
_OF_RANDOM_WEIGHTS = {"zero init residual", "seed"}
_DEFAULTS = {
    "model": ModelConfig(architecture="simple_cnn").model_dump(mode="json"),
    "training": TrainingConfig().model_dump(mode="json"),
}
_PICTURES = {
    "learning_curves": "Learning curves",
    "coarse_confusion_matrix": "Which coarse classes are taken for which",
    "confusion_matrix": "Which classes are taken for which",
    "per_class_accuracy": "Accuracy by class",
    "confused_pairs": "The most confused pairs",
    "confident_mistakes": "The most confident mistakes",
    "class_activation": "Where the evidence lies",
    "robustness_heat_map": "Accuracy on corrupted images",
}


@dataclass(frozen=True)
class Report:
    """What the page is made of.

    Attributes:
        models: results of every model by the name of its row, as `ResultsDataset` gives them, in
            the table's order.
        table: the comparison, best first, with the rows' names in `model`.
        times: as `time_to_accuracy` makes it.
        significance: a row a pair of models; see the comparison pipeline.
        class_counts: `set`, `class`, `coarse_class`, `images`.
        sample_grid: PNG of the data.
        accuracy_figure: PNG of all accuracies.
        curves_figure: PNG of all learning curves.
        cost_figure: PNG of accuracy against cost.
    """

    models: Mapping[str, Mapping[str, Any]]
    table: pd.DataFrame
    times: pd.DataFrame
    significance: pd.DataFrame
    class_counts: pd.DataFrame
    sample_grid: bytes
    accuracy_figure: bytes
    curves_figure: bytes
    cost_figure: bytes


def render_report(report: Report) -> str:
    """Write the page: HTML with everything in it, nothing is loaded from elsewhere."""
    rows = report.table.to_dict("records")
    return _template("report.html.j2").render(
        rows=rows,
        data=data_facts(report.class_counts),
        trained_on_others=list(trained_on_others(report)),
        headline=headline(report.table),
        comparisons=[*pair_sentences(report), *transfer_sentences(report)],
        settings=settings_table(report.models),
        models=report.models,
        times=report.times.to_dict("records"),
        time_sentences=list(time_sentences(report)),
        significance=report.significance.to_dict("records"),
        overfitting=[
            overfitting_sentence(name, m)
            for name, m in report.models.items()
            if m["history"] is not None
        ],
        calibration=[calibration_sentence(name, m["metrics"]) for name, m in report.models.items()],
        shifted=list(shift_sentences(report.models)),
        tuning=list(tuning_sentences(report.models)),
        reliability={
            name: _inline(m["pictures"]["reliability_diagram"].read_bytes())
            for name, m in report.models.items()
            if "reliability_diagram" in m["pictures"]
        },
        pictures={name: _pictures(m["pictures"]) for name, m in report.models.items()},
        sample_grid=_inline(report.sample_grid),
        accuracy_figure=_inline(report.accuracy_figure),
        curves_figure=_inline(report.curves_figure),
        cost_figure=_inline(report.cost_figure),
    )


def render_model_card(
    model: str,
    spec: Mapping[str, Any],
    metrics: Mapping[str, float],
    summary: Mapping[str, Any],
    per_class: pd.DataFrame,
) -> str:
    """Write what a classifier is, what it was trained on and what it can do, in Markdown.

    Args:
        model: its name.
        spec: its classes and preprocessing, as plain values.
        metrics: as stored in metrics.json.
        summary: of its training, or of its members if it is an ensemble.
        per_class: as `per_class_table` makes it.
    """
    known = per_class.dropna(subset=["recall"]).sort_values("recall", kind="stable")
    return _template("model_card.md.j2").render(
        model=model,
        spec=spec,
        metrics=metrics,
        summary=summary,
        settings=list(_settings(summary.get("recipe", {}))),
        pretrained=_is_pretrained(summary),
        images=int(per_class["support"].sum()),
        hardest=known.head(5).to_dict("records"),
        easiest=known.tail(5).iloc[::-1].to_dict("records"),
        calibration=calibration_sentence(model, metrics),
        members=summary.get("recipe", {}).get("members"),
        gap=None
        if metrics["train_accuracy"] is None
        else overfitting_verdict(metrics["train_accuracy"] - metrics["test_accuracy"]),
    )


def headline(table: pd.DataFrame) -> str:
    """Say which model is best, how sure that figure is, and how far it is from the last one."""
    best, worst = table.iloc[0], table.iloc[-1]
    interval = (
        f"{percent(best['test_accuracy'])} of the test images (95 % interval "
        f"{percent(best['test_accuracy_low'])} to {percent(best['test_accuracy_high'])})"
    )
    if len(table) == 1:
        return f"{best['model']} recognises {interval}."
    lead = best["test_accuracy"] - worst["test_accuracy"]
    if not lead:
        return f"All {len(table)} models are as accurate: each recognises {interval}."
    equals = table["model"][table["test_accuracy"] == best["test_accuracy"]].tolist()
    leading = "is the most accurate: it" if len(equals) == 1 else "are the most accurate: each"
    return (
        f"Of {len(table)} models {_listed(equals)} {leading} recognises {interval}. "
        f"{worst['model']}, the last, recognises {percent(worst['test_accuracy'])}, "
        f"{points(lead)} less."
    )


def data_facts(counts: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers of classes, coarse classes and images by set."""
    return {
        "classes": counts["class"].nunique(),
        "coarse_classes": counts["coarse_class"].replace("", None).nunique(),
        "images": counts.groupby("set", sort=False)["images"].sum().to_dict(),
    }


def trained_on_others(report: Report) -> Iterator[str]:
    """Name the models whose training or validation images are not as many as are stored now."""
    stored = data_facts(report.class_counts)["images"]
    for name, model in report.models.items():
        others = [
            f"{used:,} {part} images"
            for part in ("train", "validation")
            if (used := model["summary"].get(f"{part}_images")) not in (None, stored.get(part))
        ]
        if others:
            yield f"{name} had {' and '.join(others)}: it was trained after another ingestion."


def pair_sentences(report: Report) -> Iterator[str]:
    """Say of the best model and each other one whether their difference is more than chance.

    Which model is the best was seen on the same images, so all pairs count as tested.
    """
    best = report.table["model"].iloc[0]
    for row in report.significance.to_dict("records"):
        if row["first"] != best:
            continue
        difference = points(abs(row["accuracy_difference"]))
        corrected = row["p_corrected"]
        p = "p < 0.001" if corrected < 0.001 else f"p = {corrected:.3f}"
        pairs = len(report.significance)
        p += f", corrected for {pairs} pairs" if pairs > 1 else ""
        counts = (
            f"{row['first_only']:,} images only the former got right, {row['second_only']:,} only "
            f"the latter; McNemar {p}"
        )
        if corrected < SIGNIFICANT:
            yield f"{best} beats {row['second']} by {difference}, more than chance ({counts})."
        else:
            yield (f"The {difference} between {best} and {row['second']} may be chance ({counts}).")


def transfer_sentences(report: Report) -> Iterator[str]:
    """Say what pretrained weights bring, where the same network was also trained from scratch."""
    accuracy = report.table.set_index("model")["test_accuracy"]
    for name, model in report.models.items():
        if not _is_pretrained(model["summary"]):
            continue
        for other, scratch in report.models.items():
            same = scratch["summary"]["architecture"] == model["summary"]["architecture"]
            if not same or _is_pretrained(scratch["summary"]):
                continue
            gain = accuracy[name] - accuracy[other]
            changed = _differing_settings({name: model, other: scratch})
            if model["summary"].get("train_images") != scratch["summary"].get("train_images"):
                changed.append("number of images")
            besides = f", and training it with another {_listed(changed)}," if changed else ""
            yield (
                f"{name} and {other} are the same network, {model['summary']['architecture']}: "
                f"starting from pretrained weights instead of random ones{besides} "
                f"{'gains' if gain >= 0 else 'loses'} {points(abs(gain))} of test accuracy."
            )


def time_sentences(report: Report) -> Iterator[str]:
    """Say how soon the best model reaches what each other one reaches at its best."""
    best = report.table["model"].iloc[0]
    for row in report.times[report.times["model"] == best].to_dict("records"):
        target = f"{row['reference']}'s best validation accuracy ({percent(row['accuracy'])})"
        if math.isnan(row["seconds"]):
            yield f"{best} never reaches {target}."
            continue
        faster = row["speedup"] >= 1
        factor = row["speedup"] if faster else 1 / row["speedup"]
        yield (
            f"{best} reaches {target} after {_epochs(row['epochs'])} and "
            f"{duration(row['seconds'])}: "
            f"{factor:.1f} times {'sooner' if faster else 'later'} than {row['reference']} "
            f"({_epochs(row['reference_epochs'])}, {duration(row['reference_seconds'])})."
        )


def _epochs(number: float) -> str:
    return f"{number:.0f} {'epoch' if number == 1 else 'epochs'}"


def overfitting_verdict(gap: float) -> str:
    """Put a gap between training and test accuracy into words."""
    if gap >= STRONG_GAP:
        return "strong overfitting"
    if gap >= SLIGHT_GAP:
        return "some overfitting"
    if gap > -SLIGHT_GAP:
        return "hardly any overfitting"
    return "no sign of overfitting, but training images, as augmented, are harder than test images"


def overfitting_sentence(name: str, model: Mapping[str, Any]) -> str:
    """Say how far training and test accuracy are apart and when the validation loss turned."""
    metrics, history = model["metrics"], model["history"]
    gap = metrics["train_accuracy"] - metrics["test_accuracy"]
    losses = history["validation_loss"].to_numpy()
    lowest = int(losses.argmin())
    rise = f"{losses[-1] - losses[lowest]:.2f}"
    course = f" Its validation loss was lowest in epoch {lowest + 1} of {len(losses)} and " + (
        f"rose by {rise} nats until the end." if float(rise) else "stayed there."
    )
    if lowest + 1 == len(losses):
        course = " Its validation loss was lowest in the last epoch." if lowest else ""
    return (
        f"{name}: {percent(metrics['train_accuracy'])} of training and "
        f"{percent(metrics['test_accuracy'])} of test images, a gap of {points(gap)}: "
        f"{overfitting_verdict(gap)}.{course}"
    )


def calibration_sentence(name: str, metrics: Mapping[str, float]) -> str:
    """Say how far confidence can be believed, before and after temperature scaling."""
    error = (
        f"{name}: confidence and accuracy on test images are {points(metrics['test_ece'])} apart"
    )
    temperature = metrics.get("temperature")
    if temperature is None:
        return f"{error} on average."
    # By the likelihood, which the calibration error need not follow.
    manner = "changes little"
    if temperature > 1.05:
        manner = "makes it less sure of itself"
    elif temperature < 0.95:
        manner = "makes it surer of itself"
    return (
        f"{error} on average. A temperature of {temperature:.2f}, fitted on validation images, "
        f"{manner}: it leaves {points(metrics['test_ece_calibrated'])}, and takes the loss from "
        f"{metrics['test_loss']:.3f} to {metrics['test_loss_calibrated']:.3f} nats."
    )


def shift_sentences(models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say what is left of the accuracy on corrupted test images, where that was measured."""
    for name, model in models.items():
        if not model["robustness"]:
            continue
        images = model["robustness"]["test_images"]
        for method, summary in model["robustness"]["methods"].items():
            test = summary["test"]
            transductive = ", transductive" if summary["transductive"] else ""
            yield (
                f"{name} ({method.replace('_', ' ')}{transductive}): "
                f"{percent(test['mean_corruption_accuracy'])} on average over all corruptions of "
                f"{images:,} test images, {percent(test['clean_accuracy'])} without corruption."
            )


def tuning_sentences(models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say what a search for better settings found, where there was one."""
    for name, model in models.items():
        search = model["search"]
        if not search:
            continue
        best = ", ".join(f"{key} = {value}" for key, value in search["best_settings"].items())
        trials = sum(search["trials"].values())
        # Summaries of searches from before the choice have no such entry.
        judged_by = search.get("judged_by", "validation_accuracy")
        images = "corrupted validation" if judged_by == "corrupted_accuracy" else "validation"
        yield (
            f"{name}: {trials} trials over {', '.join(search['settings'])}. Best: {best}, with "
            f"{percent(search[f'best_{judged_by}'])} of the {images} images."
        )


def settings_table(models: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the settings in which the models were trained, with one value a model.

    A setting that is at its default in every model, or unknown, is left out unless it is one of
    those that every report of a training names.
    """
    defaults = dict(_settings(_DEFAULTS))
    columns = [dict(_settings(model["summary"].get("recipe", {}))) for model in models.values()]
    names = list(dict.fromkeys(name for column in columns for name in column))
    table = [(name, [column.get(name) for column in columns]) for name in names]
    return [
        (name, [_plain(value) for value in values])
        for name, values in table
        if name in _ALWAYS_NAMED
        or any(value is not None and value != defaults.get(name) for value in values)
    ]


def _differing_settings(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings in which models differ, but for how weights are drawn."""
    return [
        name
        for name, values in settings_table(models)
        if len(set(values)) > 1 and name not in _OF_RANDOM_WEIGHTS
    ]


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _settings(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Flatten a recipe into named settings; those without a meaning beside the others are None."""
    settings = dict(leaves({part: recipe[part] for part in _RECIPE_PARTS if part in recipe}))
    for path, value in settings.items():
        if path in _PLAIN_SETTINGS:
            continue
        chosen = settings.get(f"{path.rpartition('.')[0]}.name")
        name = path.partition(".")[2].replace(".", ": ").replace("_", " ")
        yield name, None if chosen in _UNUSED.get(path, ()) else value


def _plain(value: Any) -> str:
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "\N{EN DASH}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_pretrained(summary: Mapping[str, Any]) -> bool:
    return bool(summary.get("recipe", {}).get("model", {}).get("pretrained"))


def _pictures(pictures: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (caption, _inline(pictures[name].read_bytes()))
        for name, caption in _PICTURES.items()
        if name in pictures
    ]


def _inline(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def percent(share: float | None) -> str:
    """Write a share as a percentage, or a dash where it is unknown."""
    if share is None or math.isnan(share):
        return "\N{EN DASH}"
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """Write a difference of shares in points, or a dash where it is unknown."""
    if math.isnan(difference):
        return "\N{EN DASH}"
    return f"{100 * difference:.1f}\N{NO-BREAK SPACE}points"


def duration(seconds: float | None) -> str:
    """Write a duration in the unit that reads best, or a dash where it is unknown."""
    if seconds is None or math.isnan(seconds):
        return "\N{EN DASH}"
    unit, divisor = time_unit(seconds)
    return f"{seconds / divisor:.1f}\N{NO-BREAK SPACE}{unit}"


def _template(name: str) -> Any:
    environment = Environment(
        loader=PackageLoader("cifar100_transfer.evaluation"),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "duration": duration,
        "amount": lambda number: amount(number).replace(" ", "\N{NO-BREAK SPACE}"),
        "plain": _plain,
    }
    return environment.get_template(name)
