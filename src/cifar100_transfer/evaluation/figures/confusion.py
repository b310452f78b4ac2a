"""Confusion matrices, in whole while they can be read and of the most confused classes beyond."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifar100_transfer.data import Predictions
from cifar100_transfer.evaluation.drawing import (
    GREY,
    INK,
    SHARES,
    SHOWN_OF_MANY,
    empty_figure,
    message,
    short_name,
    styled,
)
from cifar100_transfer.evaluation.metrics import (
    confusion_counts,
    most_confused_pairs,
)

ANNOTATED_CLASSES = 25  # with more the numbers in a matrix can't be read
MATRIX_CLASSES = 200  # with more a cell of a matrix is smaller than a dot of ink


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


def _coarse_matrix(predictions: Predictions, title: str, note: str) -> Figure:
    n = len(predictions.coarse_names)
    counts = confusion_counts(predictions.coarse_labels, predictions.coarse_predicted, n)
    if n > ANNOTATED_CLASSES:
        return _large_matrix(counts, predictions.coarse_names, [1] * n, title, note)
    note += "Percent of the images of the true coarse class; under half a percent is left blank."
    return _annotated_matrix(counts, predictions.coarse_names, title, ".0f", note)


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
    short = [short_name(name, 30) for name in names]
    axes.set_xticks(np.arange(n) + 0.5, short, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(n) + 0.5, short, rotation=0)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


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
    short = [short_name(name, 30) for name in names]
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


def _row_shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Divide every row by its sum; a row without images stays 0."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
