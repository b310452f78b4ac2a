"""What every class has and how well it is told: images, and accuracy."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifar100_transfer.data import Predictions
from cifar100_transfer.evaluation.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SERIES,
    SET_COLOURS,
    SHOWN_OF_MANY,
    empty_figure,
    short_name,
    styled,
)
from cifar100_transfer.evaluation.metrics import (
    per_class_table,
)

LISTED_CLASSES = 120
DISTRIBUTION_ROWS = 40


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
        axes.set_yticks(positions, [short_name(name) for name in part["class"]], fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1), ylim=(rows - 0.4, -0.6), xlabel="accuracy on the class")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    return figure


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
    axes.set_yticks(np.arange(len(names)), [short_name(str(name), 30) for name in names])
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
                f"from {most['images']:,} ({short_name(most['class'])}) "
                f"to {least['images']:,} ({short_name(least['class'])})"
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
