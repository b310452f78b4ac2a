"""Accuracy on corrupted images."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from cifar100_transfer.evaluation.drawing import (
    SHARES,
    empty_figure,
    short_name,
    styled,
)

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
        np.arange(len(corruptions)) + 0.5, [short_name(name) for name in corruptions], rotation=0
    )
    return figure
