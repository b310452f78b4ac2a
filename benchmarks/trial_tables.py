"""Stored trials of searches, ablations and screenings as they stand in pages.

Apart from `report_tables`, as it needs Optuna, which the scripts for a GPU machine do without.
"""

import math
from collections.abc import Sequence

import pandas as pd

from cifar100_transfer.tuning.ablation import paired_differences
from cifar100_transfer.tuning.judging import CLEAN, CORRUPTED


def ablation_table(trials: pd.DataFrame) -> str:
    """Return what every change of an ablation is worth.

    Args:
        trials: as `trials_table` makes them. Where corrupted images judged, clean ones stand
            beside them.
    """
    changes = list(dict.fromkeys(trials["change"]))
    titles, columns = ["change"], [changes]
    for accuracy, images in ((CORRUPTED, "corrupted"), (CLEAN, "validation")):
        if accuracy not in trials:
            continue
        table = paired_differences(trials, changes, accuracy)
        titles += [f"{images} images, %", "difference in points"]
        columns += [
            [f"{100 * value:.2f}" for value in table[accuracy]],
            ["", *(f"{100 * value:+.2f}" for value in table["difference"].iloc[1:])],
        ]
        if table["t_low"].notna().any():  # there are several seeds
            ends = zip(table["t_low"].iloc[1:], table["t_high"].iloc[1:], strict=True)
            titles.append("Student's 95 %")
            columns.append(["", *(f"{100 * low:+.2f} to {100 * high:+.2f}" for low, high in ends)])
    complete = trials[trials["state"] == "complete"]
    trained = complete.groupby("change")["train_accuracy"].mean()
    titles += ["training images, %", "time"]
    columns += [
        [f"{100 * trained[name]:.1f}" for name in changes],
        ["", *map(_times, table["relative_time"].iloc[1:])],
    ]
    return _markdown(titles, columns)


def _times(ratio: float) -> str:
    return "\N{EN DASH}" if math.isnan(ratio) else f"{ratio:.2f} times"


def grid_table(trials: pd.DataFrame, down: str, across: str) -> str:
    """Return the validation accuracies of a grid over two settings, several seeds side by side.

    Args:
        trials: as `trials_table` makes them.
        down: the setting that changes from row to row.
        across: the setting that changes from column to column.
    """
    values = list(dict.fromkeys(trials[down]))
    titles = [down.rpartition(".")[2].replace("_", " ")]
    columns = [[str(value) for value in values]]
    for setting in dict.fromkeys(trials[across]):
        rows = trials[trials[across] == setting]
        unit = across.rpartition(".")[2].removesuffix("s")
        titles.append(f"{setting} {unit}{'s' if setting != 1 else ''}")
        columns.append(
            [
                ", ".join(f"{100 * accuracy:.2f}" for accuracy in rows[rows[down] == value][CLEAN])
                for value in values
            ]
        )
    if "images_per_second" in trials:
        rates = trials.groupby(down)["images_per_second"].mean()
        titles.append("images/s")
        columns.append([f"{rates[value]:,.0f}" for value in values])
    return _markdown(titles, columns)


def screening_table(trials: pd.DataFrame) -> str:
    """Return what a screening found, the best first."""
    ordered = trials.sort_values(CLEAN, ascending=False)
    columns = [
        [f"`{name}`" for name in ordered["architecture"]],
        [f"{side:.0f}" for side in ordered["image_size"]],
        [f"{count / 1e6:.2f} M" for count in ordered["parameters"]],
        [f"{flops:.3f}" for flops in ordered["gflops"]],
        [f"{rate:,.0f}" for rate in ordered["images_per_second"]],
        [f"{count:,.0f}" for count in ordered["epochs"] * ordered["train_images"]],
        [f"{100 * accuracy:.2f}" for accuracy in ordered[CLEAN]],
    ]
    titles = ["architecture", "side", "parameters", "GFLOPs", "images/s", "trained on"]
    return _markdown([*titles, "validation images, %"], columns)


def recipe_table(trials: pd.DataFrame) -> str:
    """Return single trainings, one setting a column and the rarer ones in one, as they stand."""
    columns = [
        [str(side) for side in trials["image_size"]],
        [str(count) for count in trials["epochs"]],
        [f"`{name}`" for name in trials["optimizer"]],
        [str(rate) for rate in trials["learning_rate"]],
        [" ".join(f"`{one}`" for one in text.split()) for text in trials["others"].fillna("")],
        [f"{100 * accuracy:.1f}" for accuracy in trials["train_accuracy"]],
        [f"{100 * accuracy:.1f}" for accuracy in trials[CLEAN]],
    ]
    titles = ["pixels", "epochs", "optimiser", "learning rate", "besides"]
    return _markdown([*titles, "training images, %", "validation images, %"], columns)


def _markdown(titles: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown: the first column on the left, the others on the right."""
    rows = [titles, ["---", *["--:"] * (len(titles) - 1)], *zip(*columns, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
