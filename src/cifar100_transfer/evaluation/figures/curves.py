"""Learning curves, of one training and of several."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from cifar100_transfer.evaluation.drawing import (
    GREY,
    SERIES,
    SET_COLOURS,
    cut,
    empty_figure,
    styled,
    time_unit,
)


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
    # Not one quantity: smoothed or mixed labels are part of what training minimises.
    loss.set_title("loss (nats): train as minimised, validation cross-entropy")
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
def overlaid_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw every model's validation accuracy per epoch and over the time spent.

    Args:
        histories: by model name; each with `epoch`, `validation_accuracy` and `seconds` (of that
            epoch). The time axis is logarithmic where one model took over 20 times another's time.
            Without any model the panels are empty.
    """
    figure = empty_figure(10, 4.6, "Validation accuracy of every model")
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    totals = [float(history["seconds"].sum()) for history in histories.values()]
    unit, divisor = time_unit(max(totals, default=0))
    for k, (name, history) in enumerate(histories.items()):
        line: dict[str, Any] = {
            "color": SERIES[k % len(SERIES)],
            "linestyle": ("-", "--", ":", "-.")[k // len(SERIES) % 4],
            "marker": "o" if len(history) <= 40 else None,
            "markersize": 3,
        }
        accuracy = history["validation_accuracy"]
        by_epoch.plot(history["epoch"], accuracy, label=cut(name, 40), **line)
        by_time.plot(history["seconds"].cumsum() / divisor, accuracy, **line)
    by_epoch.set_title("by epoch")
    by_epoch.set_xlabel("epoch")
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    by_epoch.yaxis.set_major_formatter(PercentFormatter(1.0))
    by_time.set_title("by training time")
    by_time.set_xlabel(unit)
    if totals and max(totals) > 20 * min(totals) > 0:
        by_time.set_xscale("log")
        by_time.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        by_time.xaxis.set_major_formatter("{x:g}")
        by_time.xaxis.set_minor_formatter(NullFormatter())
        by_time.set_xlabel(f"{unit} (logarithmic)")
    for axes in (by_epoch, by_time):
        axes.grid()
    if histories:
        figure.legend(loc="outside lower center", ncols=min(len(histories), 3))
    return figure
