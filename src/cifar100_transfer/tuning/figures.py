"""Figures of a search, an ablation and a screening, from their tables, in the project's style."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from matplotlib.transforms import BboxBase

from cifar100_transfer.evaluation.drawing import (
    BLUE,
    GREY,
    ORANGE,
    SHARES,
    amount,
    cut,
    empty_figure,
    message,
    styled,
)

from .judging import CLEAN, CORRUPTED

# On a range this wide (largest over smallest) a setting was meant by order of magnitude.
_LOGARITHMIC_FROM = 10
TICKS = 8
_STATES = {"complete": ("o", BLUE), "pruned": ("x", ORANGE)}
# What the axis of an accuracy is called, by its column.
_ACCURACY = {
    CLEAN: "validation accuracy",
    CORRUPTED: "accuracy on corrupted validation images",
}
_NOTHING = "No trial came to an end."
# Where the text of a dot may stand: its edge that is next to the dot, and the offset in points.
_BESIDE: tuple[tuple[Literal["left", "right"], int, int], ...] = (
    ("left", 5, 4),
    ("left", 5, -10),
    ("right", -5, 4),
    ("right", -5, -10),
    ("left", 5, 14),
)


@styled
def search_history(trials: pd.DataFrame, title: str, accuracy: str = CLEAN) -> Figure:
    """Draw every trial's accuracy in the order of trials, and the best so far.

    Args:
        trials: rows with `trial`, `state` and `accuracy`'s column.
        title: heading of the figure.
        accuracy: the column by which trials are compared.
    """
    # On corrupted images none is judged that was given up.
    lost = int(trials[accuracy].isna().sum())
    note = f"Trials without a judgement, not shown: {lost}." if lost else ""
    figure = empty_figure(8, 4, title, note)
    axes = figure.subplots()
    for state, (marker, colour) in _STATES.items():
        rows = trials[trials["state"] == state]
        if len(rows):
            axes.scatter(
                rows["trial"],
                rows[accuracy],
                marker=marker,
                color=colour,
                s=28,
                label=state,
            )
    complete = trials[trials["state"] == "complete"]
    axes.step(
        complete["trial"],
        complete[accuracy].cummax(),
        where="post",
        color=GREY,
        linewidth=1.2,
        label="best so far",
        zorder=0,
    )
    axes.set(xlabel="trial", ylabel=_ACCURACY[accuracy])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y")
    figure.legend(loc="outside lower right", ncols=3)
    return figure


@styled
def importances(shares: Mapping[str, float], title: str) -> Figure:
    """Draw each setting's share of the variance of the accuracy.

    Args:
        shares: by setting, in [0, 1]; empty where nothing varied.
        title: heading of the figure.
    """
    if not shares:
        return message(title, "Accuracy or settings did not vary: there is nothing to explain.")
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    note = "Functional ANOVA over finished trials."
    figure = empty_figure(8, 1.4 + 0.4 * len(ordered), title, note)
    axes = figure.subplots()
    names, values = zip(*ordered, strict=True)
    bars = axes.barh(np.arange(len(names)), values, color=BLUE, height=0.6)
    axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=4)
    axes.set_yticks(np.arange(len(names)), names)
    axes.set(xlim=(0, 1.1), ylim=(len(names) - 0.4, -0.6), xlabel="share of the variance")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def slices(
    trials: pd.DataFrame, settings: Sequence[str], title: str, accuracy: str = CLEAN
) -> Figure:
    """Draw accuracy against every setting, a panel a setting.

    Args:
        trials: rows with `state`, `accuracy`'s column and the settings.
        settings: columns to draw.
        title: heading of the figure.
        accuracy: the column by which trials are compared.
    """
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        return message(title, _NOTHING)
    columns = min(len(settings), 3)
    rows = -(-len(settings) // columns)
    figure = empty_figure(
        max(5.5, 3.6 * columns),
        1.0 + 3.0 * rows,
        title,
        "A dot is a finished trial; the line joins the means of equal values.",
    )
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for name, axes in zip(settings, panels, strict=False):
        places, ticks = _places(complete[name])
        axes.scatter(places, complete[accuracy], s=20, color=BLUE, alpha=0.7)
        means = complete[accuracy].groupby(places).mean()
        if len(means) <= len(complete) / 2:
            axes.plot(means.index, means, color=ORANGE)
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.margins(x=0.1)
        axes.set_xlabel(name)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="y")
    for axes in list(panels):
        axes.set_axis_off()
    figure.axes[0].set_ylabel(_ACCURACY[accuracy])
    return figure


@styled
def parallel_coordinates(
    trials: pd.DataFrame, settings: Sequence[str], title: str, accuracy: str = CLEAN
) -> Figure:
    """Draw every finished trial as a line through its settings, darker where more accurate.

    Args:
        trials: rows with `state`, `accuracy`'s column and the settings.
        settings: columns to draw, from left to right.
        title: heading of the figure.
        accuracy: the column by which trials are compared.
    """
    complete = trials[trials["state"] == "complete"].sort_values(accuracy)
    if complete.empty:
        return message(title, _NOTHING)
    figure = empty_figure(max(6.0, 2.2 * (len(settings) + 1)), 4.2, title)
    axes = figure.subplots()
    values = complete[accuracy]
    columns = {name: _places(complete[name]) for name in settings}
    heights = np.column_stack([_to_unit(places) for places, _ in columns.values()])
    # The palest end of the scale can't be seen on white.
    colours = Normalize(values.min() - 0.3 * (np.ptp(values) or 1.0), values.max())
    for line, value in zip(heights, values, strict=True):
        axes.plot(range(len(settings)), line, color=SHARES(colours(value)), linewidth=1.2)
    for position, (places, ticks) in enumerate(columns.values()):
        axes.axvline(position, color=GREY, linewidth=0.8, zorder=0)
        ends = [places.min(), places.max()]
        unit = _to_unit(pd.Series([*ticks, *ends]))
        for height, text in zip(unit, ticks.values(), strict=False):
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
            axes.text(position + 0.03, height, text, fontsize=8, va="center", bbox=box)
    axes.set_xticks(range(len(settings)), settings)
    axes.set_xlim(-0.2, len(settings) - 0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    bar = figure.colorbar(ScalarMappable(colours, SHARES), ax=axes, label=_ACCURACY[accuracy])
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.ax.set_ylim(values.min() - 1e-9, values.max() + 1e-9)
    return figure


@styled
def ablation(table: pd.DataFrame, title: str, accuracy: str = CLEAN) -> Figure:
    """Draw what every change is worth, with Student's interval.

    Args:
        table: as `paired_differences` makes it.
        title: heading of the figure.
        accuracy: the column that was compared.
    """
    changes, base = table.iloc[1:], table.iloc[0]
    if base["seeds"] == 0:
        return message(title, "No trial of the base came to an end.")
    pairs = sorted(set(changes["seeds"]))
    seeds = " to ".join(str(n) for n in dict.fromkeys((pairs[0], pairs[-1])))
    figure = empty_figure(
        8.5,
        1.8 + 0.45 * len(changes),
        title,
        f"Paired by seed, {seeds} {'seed' if pairs == [1] else 'seeds'}; whiskers: Student's 95 % "
        f"interval (none for one seed). "
        f"Base: {base[accuracy]:.2%}.",
    )
    axes = figure.subplots()
    positions = np.arange(len(changes))
    points = 100 * changes[["difference", "t_low", "t_high"]]
    axes.axvline(0, color=GREY, linewidth=1)
    axes.errorbar(
        points["difference"],
        positions,
        xerr=[
            (points["difference"] - points["t_low"]).fillna(0),
            (points["t_high"] - points["difference"]).fillna(0),
        ],
        fmt="o",
        markersize=7,
        color=BLUE,
        capsize=4,
    )
    for position, value in zip(positions, points["difference"], strict=True):
        if not math.isnan(value):
            axes.text(value, position - 0.18, f"{value:+.2f}", ha="center", va="bottom", color=BLUE)
    axes.set_yticks(positions, [cut(str(name), 40) for name in changes["change"]])
    for position, time in zip(positions, changes["relative_time"], strict=True):
        axes.annotate(
            "" if math.isnan(time) else f"{time:.2f} times the time",
            (1.01, position),
            xycoords=("axes fraction", "data"),
            va="center",
            color=GREY,
        )
    axes.set_ylim(len(changes) - 0.5, -0.7)
    axes.set_xlabel(f"difference of {_ACCURACY[accuracy]}, percentage points")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return figure


@styled
def screening(trials: pd.DataFrame, image_size: int, title: str) -> Figure:
    """Draw accuracy against parameters and against training time, a dot an architecture.

    Args:
        trials: as `run_screening` makes them; several seeds of an architecture are averaged.
        image_size: the images' height in pixels; networks that saw another one are marked.
        title: heading of the figure.
    """
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        return message(title, _NOTHING)
    columns = ["validation_accuracy", "parameters", "images_per_second", "image_size"]
    means = complete.groupby("architecture")[columns].mean()
    times = 1000 / means["images_per_second"]
    figure = empty_figure(
        11, 4.8, title, "In brackets: pixels of a side that images were resized to, if any were."
    )
    by_size, by_time = figure.subplots(1, 2, sharey=True)
    panels: tuple[tuple[Axes, Any, str], ...] = (
        (by_size, means["parameters"], "parameters"),
        (by_time, times, "seconds a thousand training images"),
    )
    for axes, places, label in panels:
        axes.scatter(places, means["validation_accuracy"], s=36, color=BLUE)
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.1)
        axes.set_xlabel(f"{label} (logarithmic)")
        axes.grid()
    by_size.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
    by_time.xaxis.set_major_formatter("{x:g}")
    by_size.yaxis.set_major_formatter(PercentFormatter(1.0))
    by_size.set_ylabel(_ACCURACY[CLEAN])
    sides = means["image_size"].map(lambda side: f" ({side:.0f})" if side != image_size else "")
    figure.draw_without_rendering()  # where texts are in each other's way is known afterwards
    for axes, places, _ in panels:
        _label(axes, places, means["validation_accuracy"], list(means.index + sides))
    return figure


def _label(axes: Axes, x: pd.Series, y: pd.Series, texts: Sequence[str]) -> None:
    """Write a text beside every dot, where no earlier text is in its way if there is such a place.

    Args:
        axes: drawn, so that extents are known.
        x: places of the dots.
        y: places of the dots.
        texts: one a dot.
    """
    taken: list[BboxBase] = []
    for text, place, height in zip(texts, x, y, strict=True):
        note = axes.annotate(text, (place, height), (0, 0), textcoords="offset points", fontsize=8)
        for side, right, up in _BESIDE:
            note.set_horizontalalignment(side)
            note.xyann = (right, up)
            box = note.get_window_extent()
            if not box.count_overlaps(taken):
                break
        taken.append(box)


def _places(values: pd.Series) -> tuple[pd.Series, dict[float, str]]:
    """Return where values stand on an axis, and the texts there; of many values, of the ends.

    Numbers over a wide range stand by their logarithm; what is no number stands in a row.
    """
    known = list(dict.fromkeys(values.astype(object).where(values.notna(), None)))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    if not numeric:
        order = {value: float(place) for place, value in enumerate(known)}
        places = pd.Series([order[v if pd.notna(v) else None] for v in values], index=values.index)
        return places, {place: cut(_number(value), 16) for value, place in order.items()}
    places = values.astype(float)
    if min(known) > 0 and max(known) / min(known) >= _LOGARITHMIC_FROM:
        places = places.map(math.log10)
    shown = known if len(known) <= TICKS else [min(known), max(known)]
    return places, {
        float(place): _number(value)
        for place, value in zip(places, values, strict=True)
        if value in shown
    }


def _to_unit(places: pd.Series) -> np.ndarray:
    span = np.ptp(places) or 1.0
    return ((places - places.min()) / span).to_numpy()


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
