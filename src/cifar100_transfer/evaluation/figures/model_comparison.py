"""Several models side by side."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from cifar100_transfer.evaluation.drawing import (
    GREY,
    SERIES,
    SET_COLOURS,
    amount,
    cut,
    empty_figure,
    styled,
    time_unit,
)


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
            zorder=4,  # or the dot of an equal test accuracy would hide it
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
    axes.set_yticks(positions, [cut(str(name), 40) for name in ordered["model"]])
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
    # The legend has a line for every model.
    height = max(4.2, 1 + 0.2 * len(table))
    figure = empty_figure(12, height, "Accuracy against cost", _missing_costs(table))
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
        axes.xaxis.set_major_formatter(
            lambda value, _: amount(value) if value >= 1 else f"{value:g}"
        )
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


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "training time unknown"
    unit, divisor = time_unit(seconds)
    return f"{seconds / divisor:.3g} {unit}"
