"""Figures of a data set, a training, a classifier and a comparison.

Every function draws through matplotlib's objects on a figure of its own, in one style, and leaves
no global state behind: it works in a notebook, a pipeline and without a display. The same
arguments give the same picture. Where not everything fits, the picture itself says what is missing.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from cifar100_transfer.data import Predictions
from cifar100_transfer.errors import UserError

from .drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SERIES,
    SET_COLOURS,
    SHARES,
    amount,
    canvas,
    cut,
    empty_figure,
    message,
    styled,
    time_unit,
)
from .metrics import (
    calibration_table,
    confusion_counts,
    expected_calibration_error,
    most_confused_pairs,
    per_class_table,
    with_temperature,
)

ANNOTATED_CLASSES = 25  # with more the numbers in a matrix can't be read
MATRIX_CLASSES = 200  # with more a cell of a matrix is smaller than a dot of ink
SHOWN_OF_MANY = 50
LISTED_CLASSES = 120
GRID_CLASSES = 100
DISTRIBUTION_ROWS = 40


@styled
def learning_curves(history: pd.DataFrame, title: str) -> Figure:
    """Draw loss and accuracy per epoch, on training and validation images.

    Args:
        history: one row an epoch with `epoch`, `train_loss`, `train_accuracy`, `validation_loss`
            and `validation_accuracy`.
        title: heading of the figure.

    Returns:
        Two panels; the epoch of the best validation accuracy, the first of equals, is marked.
    """
    figure = empty_figure(10, 4.5, title)
    loss, accuracy = figure.subplots(1, 2)
    best = history.iloc[int(history["validation_accuracy"].to_numpy().argmax())]
    marker = "o" if len(history) <= 40 else None
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        for part in ("train", "validation"):
            axes.plot(
                history["epoch"],
                history[f"{part}_{quantity}"],
                color=SET_COLOURS[part],
                label=part,
                marker=marker,
                markersize=3,
            )
        axes.axvline(best["epoch"], color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        axes.set_xlabel("epoch")
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(history) == 1:
            axes.set_xlim(best["epoch"] - 0.5, best["epoch"] + 0.5)
    loss.set_title("cross-entropy (nats)")
    accuracy.set_title("accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.plot(
        best["epoch"],
        best["validation_accuracy"],
        marker="o",
        markersize=8,
        color=SET_COLOURS["validation"],
        markerfacecolor="none",
        linestyle="none",
        label=f"best validation: {best['validation_accuracy']:.1%} in epoch {best['epoch']:.0f}",
    )
    figure.legend(
        handles=accuracy.get_legend_handles_labels()[0], loc="outside lower center", ncols=3
    )
    return figure


@styled
def confusion_matrix(predictions: Predictions, title: str) -> Figure:
    """Draw how often each true class (row) was predicted as each class (column).

    Up to 25 classes the cells are annotated with counts. More classes are ordered by coarse class
    and coloured on a power scale, on which single errors can be seen. Of more than 200 classes
    those of the most frequent confusions are shown, or, with a hierarchy, the coarse classes.

    Args:
        predictions: of N images and C classes, at least 2.
        title: heading of the figure.
    """
    n = predictions.num_classes
    counts = confusion_counts(predictions.labels, predictions.predicted, n)
    if n <= ANNOTATED_CLASSES:
        return _annotated_matrix(
            counts,
            predictions.class_names,
            title,
            "d",
            "Numbers: images. Colour: share of the row.",
        )
    if n > MATRIX_CLASSES and 0 < len(predictions.coarse_names) <= MATRIX_CLASSES:
        return _coarse_matrix(
            predictions, title, f"{n:,} classes don't fit: they are summed by coarse class. "
        )
    if n > MATRIX_CLASSES:
        return _matrix_of_confused(predictions, counts, title)
    if not predictions.has_hierarchy:
        return _large_matrix(counts, predictions.class_names, [1] * n, title, "")
    coarse = np.asarray(predictions.coarse_of_class)
    order = np.argsort(coarse, kind="stable")
    groups, sizes = np.unique(coarse, return_counts=True)
    return _large_matrix(
        counts[np.ix_(order, order)],
        [predictions.coarse_names[g] for g in groups],
        sizes.tolist(),
        title,
        f"{n} classes in label order within their coarse class. ",
    )


@styled
def coarse_confusion_matrix(predictions: Predictions, title: str) -> Figure:
    """Draw in percent how often each coarse class (row) was taken for each other (column).

    Args:
        predictions: of N images. Without a hierarchy the picture says that there is none.
        title: heading of the figure.
    """
    if not predictions.has_hierarchy:
        return message(title, "these classes have no coarse classes")
    return _coarse_matrix(predictions, title, "")


@styled
def reliability_diagram(
    predictions: Predictions, title: str, temperature: float | None = None
) -> Figure:
    """Draw accuracy over confidence (Guo et al. 2017) and how the confidences are distributed.

    Args:
        predictions: of N images and C classes.
        title: heading of the figure.
        temperature: if given, a line shows the same after division of the logits by it.
    """
    table = calibration_table(predictions)
    figure = empty_figure(
        5.6,
        6.2,
        title,
        "Calibration error (ECE): distance of accuracy and mean confidence in a bin, averaged over "
        "the images.",
    )
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middle, width = (table["lower"] + table["upper"]) / 2, table["upper"] - table["lower"]
    filled = table["count"] > 0
    upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="perfect calibration")
    upper.bar(middle, table["accuracy"].fillna(0), width * 0.94, color=BLUE, label="accuracy")
    upper.scatter(
        table["confidence"][filled],
        table["confidence"][filled],
        color=ORANGE,
        marker="_",
        s=90,
        linewidths=2.5,
        zorder=3,
        label="mean confidence",
    )
    if temperature is not None:
        scaled = with_temperature(predictions, temperature)
        bins = calibration_table(scaled).dropna()
        error = expected_calibration_error(scaled)
        upper.plot(
            bins["confidence"],
            bins["accuracy"],
            color=GREEN,
            marker="o",
            markersize=3,
            linewidth=1.2,
            zorder=4,
            label=f"at temperature {temperature:.2f}: error {error:.1%}",
        )
    upper.set(xlim=(0, 1.01), ylim=(0, 1.01), ylabel="accuracy")
    upper.set_title(
        f"calibration error {expected_calibration_error(predictions):.1%}, "
        f"confidence {float(predictions.confidence.mean()):.1%}, "
        f"accuracy {float(predictions.correct.float().mean()):.1%}",
        fontsize=9,
    )
    # A hesitant classifier's bars reach behind the legend.
    upper.legend(loc="upper left", frameon=True, edgecolor="none", framealpha=0.85)
    lower.bar(middle, table["count"] / len(predictions), width * 0.94, color=GREY)
    lower.set(xlabel="confidence", ylabel="share of images")
    for axis in (upper.yaxis, lower.xaxis, lower.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    return figure


@styled
def per_class_accuracy(predictions: Predictions, title: str) -> Figure:
    """Draw the share of each class's images that was recognised, best class first.

    Args:
        predictions: of N images and C classes. Of more than 120 classes the best and the worst are
            shown; classes without images are left out. The picture says so.
        title: heading of the figure.
    """
    table = per_class_table(predictions)
    present = table[table["support"] > 0].sort_values("recall", ascending=False, kind="stable")
    missing = len(table) - len(present)
    note = f"{missing} classes without images are left out. " if missing else ""
    if len(present) > LISTED_CLASSES:
        half = SHOWN_OF_MANY
        note += (
            f"The {half} best and the {half} worst of {len(present):,} classes; the "
            f"{len(present) - 2 * half:,} between them are left out."
        )
        columns = [present.iloc[:half], present.iloc[-half:]]
    else:
        parts = math.ceil(len(present) / SHOWN_OF_MANY)
        length = math.ceil(len(present) / parts)
        columns = [present.iloc[k * length : (k + 1) * length] for k in range(parts)]
    rows = len(columns[0])
    figure = empty_figure(1.3 + 4.2 * len(columns), 1.7 + 0.17 * max(rows, 4), title, note)
    mean = float(present["recall"].mean())
    for axes, part in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        positions = np.arange(len(part))
        axes.barh(positions, part["recall"], color=BLUE, height=0.72)
        axes.axvline(
            mean, color=ORANGE, linewidth=1.2, zorder=0, label=f"mean of the classes {mean:.1%}"
        )
        for position, recall in zip(positions, part["recall"], strict=True):
            fits = recall > 0.1
            axes.text(
                recall,
                position,
                f" {recall:.0%} ",
                va="center",
                ha="right" if fits else "left",
                color="white" if fits else INK,
                fontsize=7,
            )
        axes.set_yticks(positions, [_short(name) for name in part["class"]], fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1), ylim=(rows - 0.4, -0.6), xlabel="accuracy on the class")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    return figure


@styled
def confused_pairs(
    pairs: pd.DataFrame, predictions: Predictions, images: torch.Tensor, title: str
) -> Figure:
    """Draw the most confused pairs of classes with images of both.

    Args:
        pairs: as `most_confused_pairs` returns them; the first 12 are drawn.
        predictions: of N images.
        images: the same N images, uint8 [N, 3, H, W].
        title: heading of the figure.

    Returns:
        A row for each pair: up to six images of the mistake, the most confident first, and beside
        them up to three of the class they were taken for, recognised, the most confident first.

    Raises:
        UserError: there are not as many images as predictions.
    """
    _check_images(predictions, images)
    shown = pairs.head(12)
    left_out = len(pairs) - len(shown)
    note = f"The {left_out} further pairs are left out." if left_out else ""
    if shown.empty:
        return message(title, "no class was taken for another")
    columns = min(6, int(shown["count"].max()))
    beside = columns + 0.5
    figure, axes = canvas((-2.4, beside + 3), (-0.4, len(shown) * 1.1), 0.72, title, note)
    index = {name: k for k, name in enumerate(predictions.class_names)}
    by_confidence = predictions.confidence.argsort(descending=True, stable=True)
    labels, predicted = predictions.labels[by_confidence], predictions.predicted[by_confidence]
    axes.text(-0.15, -0.12, "true class, taken for", ha="right", color=GREY)
    axes.text(0, -0.12, "mistaken images", color=GREY)
    axes.text(beside, -0.12, "images of the other class", color=GREY)
    for row, pair in enumerate(shown.to_dict("records")):
        true, other = index[pair["true"]], index[pair["predicted"]]
        mistakes = by_confidence[(labels == true) & (predicted == other)][:columns]
        others = by_confidence[(labels == other) & (predicted == other)][:3]
        top = row * 1.1
        names = f"{_short(pair['true'], 28)}\n→ {_short(pair['predicted'], 28)}"
        axes.text(-0.15, top + 0.3, names, ha="right", va="center", linespacing=1.3)
        axes.text(
            -0.15,
            top + 0.83,
            f"{pair['count']} {'image' if pair['count'] == 1 else 'images'}, {pair['share']:.0%}",
            ha="right",
            va="center",
            color=GREY,
            fontsize=8,
        )
        for column, k in enumerate(mistakes.tolist()):
            _draw_image(axes, images[k], column, top)
        for column, k in enumerate(others.tolist()):
            _draw_image(axes, images[k], beside + column, top)
    return figure


@styled
def confident_mistakes(
    predictions: Predictions, images: torch.Tensor, title: str, count: int = 24
) -> Figure:
    """Draw the wrongly classified images of which the classifier was surest.

    Args:
        predictions: of N images.
        images: the same N images, uint8 [N, 3, H, W].
        title: heading of the figure.
        count: largest number of images, at least 1.

    Raises:
        UserError: there are not as many images as predictions.
    """
    _check_images(predictions, images)
    confidence, predicted = predictions.confidence, predictions.predicted
    by_confidence = confidence.argsort(descending=True, stable=True)
    mistakes = by_confidence[~predictions.correct[by_confidence]]
    if len(mistakes) == 0:
        return message(title, f"no mistake among {len(predictions)} images")
    shown = mistakes[:count].tolist()
    columns = min(8, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, axes = canvas(
        (-0.08, columns * 1.15 - 0.07),
        (-0.05, rows * 1.72),
        1.15,
        title,
        f"The {len(shown)} surest of {len(mistakes):,} mistakes in {len(predictions):,} images. "
        f"Black: the true class. Orange: the predicted one and its confidence.",
    )
    for place, k in enumerate(shown):
        row, column = divmod(place, columns)
        x, y = column * 1.15, row * 1.72
        _draw_image(axes, images[k], x, y)
        true = predictions.class_names[int(predictions.labels[k])]
        taken_for = predictions.class_names[int(predicted[k])]
        _write_names(axes, x, y, true, f"{float(confidence[k]):.0%} {taken_for}")
    return figure


@styled
def class_activation(
    predictions: Predictions,
    images: torch.Tensor,
    chosen: torch.Tensor,
    heat: torch.Tensor,
    title: str,
) -> Figure:
    """Draw images and, beneath each, where the evidence for its predicted class lies.

    Args:
        predictions: of N images.
        images: the same N images, uint8 [N, 3, H, W].
        chosen: which of them are drawn, int64 [M], M from 1 to 8.
        heat: for each of those the evidence by pixel, float [M, H, W] in [0, 1].
        title: heading of the figure.

    Raises:
        UserError: there are not as many images as predictions.
    """
    _check_images(predictions, images)
    figure, axes = canvas(
        (-0.08, len(chosen) * 1.15 - 0.07),
        (-0.05, 2.75),
        1.15,
        title,
        "Grad-CAM: warm regions speak for the predicted class. "
        "Black: the true class. Orange: the predicted one and its confidence, where it is another.",
    )
    for column, k in enumerate(chosen.tolist()):
        x = column * 1.15
        _draw_image(axes, images[k], x, 0)
        _draw_image(axes, _heated(images[k], heat[column]), x, 1.03)
        true = predictions.class_names[int(predictions.labels[k])]
        predicted = predictions.class_names[int(predictions.predicted[k])]
        confidence = f"{float(predictions.confidence[k]):.0%}"
        if true == predicted:
            _write_names(axes, x, 1.03, f"{confidence} {true}", "")
        else:
            _write_names(axes, x, 1.03, true, f"{confidence} {predicted}")
    return figure


def _heated(image: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Lay a map of heat (float [H, W]) over a greyed image (uint8 [3, H, W])."""
    colours = torch.from_numpy(matplotlib.colormaps["inferno"](heat.numpy())[..., :3])
    grey = image.double().mean(0, keepdim=True).expand_as(image) / 255
    mixed = 0.45 * grey + 0.55 * colours.permute(2, 0, 1)
    return (255 * mixed).to(torch.uint8)


def _write_names(axes: Axes, x: float, y: float, true: str, taken_for: str) -> None:
    """Write under the image at (x, y) its class and, in orange, what it was taken for."""
    upper = _in_lines(true, 19, 2)
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8, "linespacing": 1.15}
    axes.text(x + 0.5, y + 1.04, upper, **style)
    axes.text(
        x + 0.5,
        y + 1.06 + 0.12 * (1 + upper.count("\n")),
        _in_lines(taken_for, 19, 2),
        color=ORANGE,
        **style,
    )


@styled
def class_distribution(counts: pd.DataFrame, title: str) -> Figure:
    """Draw how many images every class has in every set.

    Args:
        counts: a row for each set and class with `set`, `class`, `coarse_class` (empty without a
            hierarchy) and `images`. More than 40 classes are summed by coarse class, with the
            smallest and the largest class of each; without a hierarchy they are drawn by rank.
        title: heading of the figure.
    """
    if counts["class"].nunique() <= DISTRIBUTION_ROWS:
        return _distribution_bars(counts, "class", title)
    if 1 <= counts["coarse_class"].replace("", None).nunique() <= DISTRIBUTION_ROWS:
        return _distribution_bars(counts, "coarse_class", title)
    return _distribution_ranks(counts, title)


@styled
def sample_grid(
    images: torch.Tensor,
    labels: torch.Tensor,
    class_names: Sequence[str],
    title: str,
    seed: int,
) -> Figure:
    """Draw one image of every class, in label order.

    Args:
        images: uint8 [N, 3, H, W].
        labels: int64 [N], values 0 to `len(class_names) - 1`.
        class_names: one name a class. Of more than 100 classes, 100 are drawn by lot; classes
            without images are left out. The picture says so.
        title: heading of the figure.
        seed: the same seed draws the same images.
    """
    lot = np.random.default_rng(seed)
    present = np.unique(labels.numpy())
    missing = len(class_names) - len(present)
    note = f"{missing} classes without images are left out. " if missing else ""
    if len(present) == 0:
        return message(title, "no images")
    shown = present
    if len(present) > GRID_CLASSES:
        shown = np.sort(lot.choice(present, GRID_CLASSES, replace=False))
        note += f"{GRID_CLASSES} of {len(present):,} classes, drawn by lot."
    columns = min(10, len(shown))
    rows = math.ceil(len(shown) / columns)
    names = [_in_lines(class_names[label], 17, 2) for label in shown]
    step = 1.2 + 0.125 * max(1 + name.count("\n") for name in names)
    figure, axes = canvas(
        (-0.08, columns * 1.15 - 0.07), (-0.05, rows * step - 0.05), 0.95, title, note
    )
    for place, label in enumerate(shown):
        row, column = divmod(place, columns)
        x, y = column * 1.15, row * step
        example = int(lot.choice(np.flatnonzero(labels.numpy() == label)))
        _draw_image(axes, images[example], x, y)
        axes.text(
            x + 0.5, y + 1.03, names[place], ha="center", va="top", fontsize=7.5, linespacing=1.15
        )
    return figure


@styled
def contact_sheet(
    images: torch.Tensor, predictions: pd.DataFrame, title: str, note: str = ""
) -> Figure:
    """Draw pictures with their names and their most probable classes.

    Args:
        images: uint8 [N, 3, H, W].
        predictions: N rows with `file`, and `class_K` and `probability_K` for K from 1.
        title: heading of the figure.
        note: what a reader must know.
    """
    ranks = [rank for rank in (1, 2, 3) if f"class_{rank}" in predictions]
    columns = min(6, len(images))
    across, down = 1.45, 1.3 + 0.13 * len(ranks)
    rows = math.ceil(len(images) / columns)
    figure, axes = canvas(
        (-0.08, columns * across - 0.37), (-0.05, rows * down - 0.05), 1.2, title, note
    )
    for place, (image, (_, row)) in enumerate(zip(images, predictions.iterrows(), strict=True)):
        x, y = place % columns * across, place // columns * down
        _draw_image(axes, image, x, y)
        axes.text(x, y + 1.04, cut(row["file"], 24), va="top", fontsize=6.5, color=GREY)
        for line, rank in enumerate(ranks):
            axes.text(
                x,
                y + 1.15 + 0.12 * line,
                f"{row[f'probability_{rank}']:.0%} {_short(row[f'class_{rank}'], 18)}",
                va="top",
                fontsize=7,
                fontweight="bold" if rank == 1 else "normal",
            )
    return figure


@styled
def comparison(table: pd.DataFrame) -> Figure:
    """Draw the accuracy of every model, the best on test images first.

    Args:
        table: a row for each model with `model`, `test_accuracy`, `test_accuracy_low`,
            `test_accuracy_high`, `validation_accuracy`, `train_accuracy` (fractions; the last two
            may be NaN), `parameters` (number) and `seconds` (of training; NaN if unknown).
    """
    ordered = table.sort_values("test_accuracy", ascending=False, kind="stable")
    figure = empty_figure(
        9,
        1.7 + 0.5 * len(ordered),
        "Accuracy by model",
        "Bars: Wilson interval, 95 %, of the test accuracy.",
    )
    axes = figure.subplots()
    positions = np.arange(len(ordered))
    test = ordered["test_accuracy"]
    axes.errorbar(
        test,
        positions,
        xerr=[test - ordered["test_accuracy_low"], ordered["test_accuracy_high"] - test],
        fmt="o",
        markersize=7,
        color=SET_COLOURS["test"],
        capsize=4,
        label="test",
        zorder=3,
    )
    for part, marker in (("validation", "D"), ("train", "s")):
        axes.scatter(
            ordered[f"{part}_accuracy"],
            positions,
            marker=marker,
            s=34,
            facecolor="none",
            edgecolor=SET_COLOURS[part],
            linewidths=1.4,
            label=part,
        )
    for position, row in zip(positions, ordered.to_dict("records"), strict=True):
        axes.text(
            row["test_accuracy"],
            position - 0.2,
            f"{row['test_accuracy']:.1%}",
            ha="center",
            va="bottom",
            color=SET_COLOURS["test"],
        )
    right = axes.twinx()
    axes.set_yticks(positions, [cut(str(name), 30) for name in ordered["model"]])
    right.set_yticks(
        positions,
        [
            f"{amount(p)} parameters\n{_duration(s)}"
            for p, s in zip(ordered["parameters"], ordered["seconds"], strict=True)
        ],
        fontsize=8,
        color=GREY,
    )
    for side in (axes, right):
        side.set_ylim(len(ordered) - 0.5, -0.65)
        side.tick_params(axis="y", length=0)
        side.spines["left"].set_visible(False)
    axes.grid()
    axes.margins(x=0.08)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("accuracy")
    handles = axes.get_legend_handles_labels()[0]
    axes.legend(
        handles=[handles[-1], *handles[:-1]],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        borderaxespad=0.2,
    )
    return figure


@styled
def accuracy_against_cost(table: pd.DataFrame) -> Figure:
    """Draw every model's test accuracy over its training time, parameters and operations.

    Args:
        table: a row for each model with `model`, `test_accuracy`, `test_accuracy_low`,
            `test_accuracy_high`, `seconds` (of training), `parameters` and `flops` (of one image).
            Of the last three any may be NaN; the picture says which models are missing then.
    """
    figure = empty_figure(12, 4.2, "Accuracy against cost", _missing_costs(table))
    quantities = {
        "seconds": "training time (s)",
        "parameters": "parameters",
        "flops": "operations for one image (FLOPs)",
    }
    for axes, (column, label) in zip(
        figure.subplots(1, 3, sharey=True), quantities.items(), strict=True
    ):
        for k, row in enumerate(table.to_dict("records")):
            accuracy = row["test_accuracy"]
            interval = [
                [accuracy - row["test_accuracy_low"]],
                [row["test_accuracy_high"] - accuracy],
            ]
            axes.errorbar(
                row[column],
                accuracy,
                yerr=interval,
                fmt="osD^v"[k // len(SERIES) % 5],
                color=SERIES[k % len(SERIES)],
                capsize=3,
                label=cut(str(row["model"]), 40),
            )
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(lambda value, _: amount(value))
        axes.margins(x=0.2)
        # On a logarithmic scale at least one power of ten must be in sight.
        low, high = axes.get_xlim()
        axes.set_xlim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
        axes.set_xlabel(label)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid()
    axes = figure.axes[0]
    axes.set_ylabel("test accuracy")
    handles = axes.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside right upper")
    return figure


def _missing_costs(table: pd.DataFrame) -> str:
    note = "Bars: Wilson interval, 95 %. A multiplication with its addition is two operations."
    missing = table[table[["seconds", "parameters", "flops"]].isna().any(axis=1)]["model"]
    if len(missing):
        note += f" Not everything is known of {', '.join(map(str, missing))}."
    return note


@styled
def overlaid_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw every model's validation accuracy per epoch and over the time spent.

    Args:
        histories: by model name; each with `epoch`, `validation_accuracy` and `seconds` (of that
            epoch). The time axis is logarithmic where one model took over 20 times another's time.
    """
    figure = empty_figure(10, 4.6, "Validation accuracy of every model")
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    totals = [float(history["seconds"].sum()) for history in histories.values()]
    unit, divisor = time_unit(max(totals))
    for k, (name, history) in enumerate(histories.items()):
        line: dict[str, Any] = {
            "color": SERIES[k % len(SERIES)],
            "linestyle": ("-", "--", ":", "-.")[k // len(SERIES) % 4],
            "marker": "o" if len(history) <= 40 else None,
            "markersize": 3,
        }
        accuracy = history["validation_accuracy"]
        by_epoch.plot(history["epoch"], accuracy, label=cut(name, 30), **line)
        by_time.plot(history["seconds"].cumsum() / divisor, accuracy, **line)
    by_epoch.set_title("by epoch")
    by_epoch.set_xlabel("epoch")
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    by_epoch.yaxis.set_major_formatter(PercentFormatter(1.0))
    by_time.set_title("by training time")
    by_time.set_xlabel(unit)
    if max(totals) > 20 * min(totals) > 0:
        by_time.set_xscale("log")
        by_time.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        by_time.xaxis.set_major_formatter("{x:g}")
        by_time.xaxis.set_minor_formatter(NullFormatter())
        by_time.set_xlabel(f"{unit} (logarithmic)")
    for axes in (by_epoch, by_time):
        axes.grid()
    figure.legend(loc="outside lower center", ncols=min(len(histories), 4))
    return figure


def _draw_image(axes: Axes, image: torch.Tensor, x: float, y: float) -> None:
    """Draw an image (uint8 [3, H, W]) into the unit square whose upper left corner is (x, y)."""
    height, width = image.shape[1:]
    w, h = width / max(height, width), height / max(height, width)
    left, top = x + (1 - w) / 2, y + (1 - h) / 2
    axes.imshow(
        image.permute(1, 2, 0).numpy(),
        extent=(left, left + w, top + h, top),
        # The pixels of a small image are to be seen; a large one is reduced without moiré.
        interpolation="nearest" if max(height, width) <= 96 else "auto",
    )


def _check_images(predictions: Predictions, images: torch.Tensor) -> None:
    if len(images) != len(predictions):
        raise UserError(
            f"images must be those of the predictions: got {len(images)} images and "
            f"{len(predictions)} predictions"
        )


def _row_shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Divide every row by its sum; a row without images stays 0."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _annotated_matrix(
    counts: npt.NDArray[np.int64], names: Sequence[str], title: str, unit: str, note: str
) -> Figure:
    """Draw a matrix of up to 25 classes with its numbers: images ("d") or percent of the row."""
    n = len(names)
    side = 2.6 + 0.42 * n
    figure = empty_figure(max(side + 1.5, 5.8), max(side, 4.2), title, note)
    axes = figure.subplots()
    shares = _row_shares(counts)
    values = counts if unit == "d" else 100 * shares
    texts = [[f"{value:{unit}}" if value >= 0.5 else "" for value in row] for row in values]
    sns.heatmap(
        shares,
        ax=axes,
        annot=np.array(texts),
        fmt="",
        annot_kws={"fontsize": 8 if n <= 15 else 7},
        cmap=SHARES,
        norm=PowerNorm(0.5, 0, 1),
        square=True,
        linewidths=0.5,
        linecolor="#F0F0F0",
        # They are set below. Seaborn would ask for the extent of each in a canvas of its own.
        xticklabels=False,
        yticklabels=False,
        cbar_kws={
            "label": "share of the true class",
            "format": PercentFormatter(1.0),
            "shrink": 0.7,
        },
    )
    for text in axes.texts:
        text.set_in_layout(False)  # they lie in their cells; to measure each takes a second
    short = [_short(name, 30) for name in names]
    axes.set_xticks(np.arange(n) + 0.5, short, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(n) + 0.5, short, rotation=0)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _coarse_matrix(predictions: Predictions, title: str, note: str) -> Figure:
    n = len(predictions.coarse_names)
    counts = confusion_counts(predictions.coarse_labels, predictions.coarse_predicted, n)
    if n > ANNOTATED_CLASSES:
        return _large_matrix(counts, predictions.coarse_names, [1] * n, title, note)
    note += "Percent of the images of the true coarse class; under half a percent is left blank."
    return _annotated_matrix(counts, predictions.coarse_names, title, ".0f", note)


def _matrix_of_confused(
    predictions: Predictions, counts: npt.NDArray[np.int64], title: str
) -> Figure:
    """Draw the classes of the most frequent confusions and sum up the others in a last column."""
    n = len(counts)
    index = {name: k for k, name in enumerate(predictions.class_names)}
    pairs = most_confused_pairs(predictions, SHOWN_OF_MANY**2)
    names = dict.fromkeys(pairs[["true", "predicted"]].to_numpy().ravel())
    # Perfect predictions have no pairs: the first classes fill the picture.
    shown = [index[name] for name in (names | dict.fromkeys(predictions.class_names))]
    shown, rest = shown[:SHOWN_OF_MANY], shown[SHOWN_OF_MANY:]
    part = np.column_stack([counts[np.ix_(shown, shown)], counts[np.ix_(shown, rest)].sum(axis=1)])
    return _large_matrix(
        part,
        [predictions.class_names[k] for k in shown],
        [1] * len(shown),
        title,
        f"The {len(shown)} classes of the most frequent confusions; {n - len(shown):,} of {n:,} "
        f"are left out, predictions of them are summed in the last column. ",
    )


def _large_matrix(
    counts: npt.NDArray[np.int64],
    names: Sequence[str],
    sizes: Sequence[int],
    title: str,
    note: str,
) -> Figure:
    """Draw a matrix by colour alone; `names` label groups of `sizes` neighbouring classes."""
    rows, columns = counts.shape
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    centres = (bounds[:-1] + bounds[1:]) / 2 - 0.5
    step = math.ceil(len(names) / 100)
    if step > 1:
        note += f"One name in {step} is written. "
    fontsize = 8 if len(names) <= 60 else 6
    side = 10.5 if len(names) <= 60 else 11.5
    figure = empty_figure(
        side + 0.6, side, title, note + "Rows sum to 100 %; the colour scale widens small shares."
    )
    axes = figure.subplots()
    mesh = axes.imshow(
        _row_shares(counts), cmap=SHARES, norm=PowerNorm(0.4, 0, 1), interpolation="nearest"
    )
    bar = figure.colorbar(mesh, ax=axes, shrink=0.5, aspect=30, pad=0.02)
    bar.set_label("share of the true class", color=GREY)
    bar.set_ticks(
        [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], labels=["0", "1%", "5%", "10%", "25%", "50%", "100%"]
    )
    bar.outline.set_visible(False)
    if max(sizes) > 1:
        for bound in bounds[1:-1] - 0.5:
            axes.axhline(bound, color=GREY, linewidth=0.4)
            axes.axvline(bound, color=GREY, linewidth=0.4)
    short = [_short(name, 30) for name in names]
    across, down = list(centres[::step]), short[::step]
    axes.set_yticks(across, down, fontsize=fontsize)
    if columns > rows:
        across, down = [*across, columns - 1], [*down, "other classes"]
        axes.axvline(columns - 1.5, color=INK, linewidth=1)
    rotation = {"rotation": 90} if len(names) > 30 else {"rotation": 45, "rotation_mode": "anchor"}
    ha = "center" if len(names) > 30 else "right"
    axes.set_xticks(across, down, fontsize=fontsize, ha=ha, **rotation)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _distribution_bars(counts: pd.DataFrame, by: str, title: str) -> Figure:
    """Draw bars per class or coarse class, one colour a set, and the range over its classes."""
    sets = list(dict.fromkeys(counts["set"]))
    coarse = by == "coarse_class"
    names = sorted(set(counts[by])) if coarse else list(dict.fromkeys(counts[by]))
    note = (
        "In brackets: number of classes x images of the smallest to the largest." if coarse else ""
    )
    summed = counts.pivot_table("images", by, "set", "sum", fill_value=0, sort=False)
    figure = empty_figure(8.5, 1.9 + len(names) * (0.115 * len(sets) + 0.08), title, note)
    axes = figure.subplots()
    height = 0.8 / len(sets)
    for k, part in enumerate(sets):
        positions = np.arange(len(names)) + (k - (len(sets) - 1) / 2) * height
        values = summed.loc[names, part]
        axes.barh(positions, values, height * 0.92, color=_set_colour(part, k), label=str(part))
        texts = [f"{value:,}" for value in values]
        if coarse:
            sizes = counts[counts["set"] == part].groupby(by)["images"]
            own = sizes.agg(["min", "max", "size"]).reindex(names, fill_value=0)
            texts = [
                f"{text} ({row['size']} x {_range(row['min'], row['max'])})"
                for text, (_, row) in zip(texts, own.iterrows(), strict=True)
            ]
        for position, value, text in zip(positions, values, texts, strict=True):
            axes.text(value, position, f" {text}", va="center", fontsize=6.5, color=GREY)
    axes.set_yticks(np.arange(len(names)), [_short(str(name), 30) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.25 if coarse else 0.1)
    axes.grid(axis="x")
    axes.set_xlabel("images")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(sets), borderaxespad=0.2)
    return figure


def _distribution_ranks(counts: pd.DataFrame, title: str) -> Figure:
    """Draw images per class over the rank of the class, for more classes than can be named."""
    classes = counts["class"].nunique()
    figure = empty_figure(
        8.5, 4.2, title, f"{classes:,} classes are too many to name: they are ranked in every set."
    )
    axes = figure.subplots()
    for k, part in enumerate(dict.fromkeys(counts["set"])):
        own = counts[counts["set"] == part].sort_values("images", ascending=False, kind="stable")
        most, least = own.iloc[0], own.iloc[-1]
        extent = f"{most['images']:,} in every class"
        if most["images"] > least["images"]:
            extent = (
                f"from {most['images']:,} ({_short(most['class'])}) "
                f"to {least['images']:,} ({_short(least['class'])})"
            )
        axes.step(
            np.arange(1, len(own) + 1),
            own["images"],
            where="mid",
            color=_set_colour(part, k),
            linestyle=("-", "-", "--")[k % 3],  # equal sets lie on each other
            label=f"{part}: {extent}",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlim(0.5, classes + 0.5)
    axes.grid(axis="y")
    axes.set(xlabel="rank of the class", ylabel="images of the class")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return figure


def _set_colour(name: str, k: int) -> str:
    return SET_COLOURS.get(name, SERIES[(k + 3) % len(SERIES)])


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}\N{EN DASH}{high:,}"


def _short(name: str, length: int = 20) -> str:
    """Write the name of a class for people, in at most `length` characters."""
    return cut(name.replace("_", " "), length)


def _in_lines(name: str, length: int, lines: int) -> str:
    """Write the name of a class for people in at most `lines` lines of `length` characters."""
    return textwrap.fill(name.replace("_", " "), length, max_lines=lines, placeholder="…")


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "training time unknown"
    unit, divisor = time_unit(seconds)
    return f"{seconds / divisor:.3g} {unit}"


GRID_STEP = 1.06  # images of the corruption grid, with a gap between them
METHOD_NAMES = {
    "plain": "plain",
    "batch_norm": "batch norm (transductive)",
    "tta": "flips and shifts",
    "batch_norm_tta": "both (transductive)",
}


@styled
def robustness_heat_map(table: pd.DataFrame, title: str) -> Figure:
    """Draw accuracy by corruption (row) and severity (column), a panel a method.

    Args:
        table: rows of one set, as `measure_robustness` makes them.
        title: heading of the figure.
    """
    methods = list(dict.fromkeys(table["method"]))
    corruptions = list(dict.fromkeys(table["corruption"]))
    note = f"Percent of {table['images'].iloc[0]:,} {table['set'].iloc[0]} images."
    if any(method.startswith("batch_norm") for method in methods):
        note += " Transductive methods use statistics of the very images they classify."
    figure = empty_figure(2.6 + 2.5 * len(methods), 1.7 + 0.27 * len(corruptions), title, note)
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for axes, method in zip(panels, methods, strict=True):
        grid = table[table["method"] == method].pivot_table("accuracy", "corruption", "severity")
        sns.heatmap(
            grid.loc[corruptions],
            ax=axes,
            annot=100 * grid.loc[corruptions],
            fmt=".1f",
            annot_kws={"fontsize": 8},
            cmap=SHARES,
            vmin=0,
            vmax=float(table["accuracy"].max()),
            cbar=False,
            linewidths=0.5,
            linecolor="#F0F0F0",
            yticklabels=False,  # set below; see _annotated_matrix
        )
        axes.set_title(f"{METHOD_NAMES[method]}\nmean {grid.to_numpy().mean():.1%}")
        axes.set(xlabel="severity", ylabel="")
        axes.tick_params(length=0)
    panels[0].set_yticks(
        np.arange(len(corruptions)) + 0.5, [_short(name) for name in corruptions], rotation=0
    )
    return figure


@styled
def corruption_grid(
    examples: torch.Tensor, corruptions: Sequence[str], severities: Sequence[int], title: str
) -> Figure:
    """Draw one image under every corruption (row) at every severity (column).

    Args:
        examples: uint8 [corruptions, severities, 3, H, W] on the CPU.
        corruptions: names of the rows.
        severities: numbers of the columns.
        title: heading of the figure.
    """
    rows, columns = len(corruptions), len(severities)
    x, y = (-2.4, columns * GRID_STEP), (-0.5, rows * GRID_STEP)
    figure, axes = canvas(x, y, unit=0.62, title=title, note="")
    for row, name in enumerate(corruptions):
        axes.text(-0.15, row * GRID_STEP + 0.5, _short(name), ha="right", va="center")
        for column in range(columns):
            _draw_image(axes, examples[row, column], column * GRID_STEP, row * GRID_STEP)
    for column, severity in enumerate(severities):
        axes.text(column * GRID_STEP + 0.5, -0.12, str(severity), ha="center", va="bottom")
    return figure
