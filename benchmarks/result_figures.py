"""The pictures of docs/results.md, drawn from the stored runs."""

from collections.abc import Callable, Mapping
from textwrap import fill

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from real_tables import ROWS, Row, records_of, timed

from cifar100_transfer.evaluation.drawing import SHARES, empty_figure, short_name, styled
from cifar100_transfer.evaluation.figures import overlaid_curves


def histories() -> dict[str, pd.DataFrame]:
    """Return a history of every row of README.md, of the run whose time stands there, by title.

    Of ensembles there is none.
    """
    return {
        _name(row): pd.DataFrame(timed(records)["models"][row.model]["history"])
        for row in ROWS
        if row.short and not row.members and (records := records_of(row.name))
    }


def accuracies_by_corruption() -> pd.DataFrame:
    """Return accuracies on test images, a fraction: a row a corruption, a column a recipe.

    Those of the plain method, mean over severities and the stored seeds.
    """
    columns = {}
    for row in ROWS:
        tests = [
            record["models"][row.model]["robustness"]["methods"]["plain"]["test"]
            for record in records_of(f"{row.name}_robustness")
        ]
        if row.short and tests:
            means = pd.DataFrame([test["per_corruption"] for test in tests]).mean()
            columns[_name(row)] = means
    return pd.DataFrame(columns)


@styled
def corruption_heat_map(accuracies: pd.DataFrame) -> Figure:
    """Draw accuracies by corruption (row, the worst of the last recipe first) and recipe (column).

    Args:
        accuracies: a fraction each, as `accuracies_by_corruption` returns them.
    """
    ordered = accuracies.sort_values(accuracies.columns[-1])
    figure = empty_figure(
        *(2.4 + 1.45 * len(ordered.columns), 2.4 + 0.27 * len(ordered)),
        "What is left under each corruption",
        "Percent of test images, mean over five severities and the stored seeds.",
    )
    axes = figure.subplots()
    sns.heatmap(
        100 * ordered,
        ax=axes,
        annot=True,
        fmt=".0f",
        annot_kws={"fontsize": 8},
        cmap=SHARES,
        vmin=0,
        cbar=False,
        linewidths=0.5,
        linecolor="#F0F0F0",
    )
    axes.set_yticklabels([short_name(name) for name in ordered.index], rotation=0)
    means = ordered.mean().items()
    axes.set_xticklabels([f"{fill(name, 15)}\n{mean:.1%}" for name, mean in means], rotation=0)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    return figure


def _name(row: Row) -> str:
    return row.short.replace("`", "")


FIGURES: Mapping[str, Callable[[], Figure]] = {
    "results_curves.png": lambda: overlaid_curves(histories()),
    "results_corruptions.png": lambda: corruption_heat_map(accuracies_by_corruption()),
}
