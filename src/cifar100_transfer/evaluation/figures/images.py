"""Pictures of images: of a data set, of mistakes, of what a classifier looks at, of corruptions."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar100_transfer.data import Predictions
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation.drawing import (
    GREY,
    ORANGE,
    canvas,
    cut,
    in_lines,
    message,
    short_name,
    styled,
)

GRID_CLASSES = 100
GRID_STEP = 1.06  # images of the corruption grid, with a gap between them


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
    names = [in_lines(class_names[label], 17, 2) for label in shown]
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
                f"{row[f'probability_{rank}']:.0%} {short_name(row[f'class_{rank}'], 18)}",
                va="top",
                fontsize=7,
                fontweight="bold" if rank == 1 else "normal",
            )
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
    note = "Further pairs are left out." if len(pairs) > len(shown) else ""
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
        names = f"{short_name(pair['true'], 28)}\n→ {short_name(pair['predicted'], 28)}"
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
        axes.text(-0.15, row * GRID_STEP + 0.5, short_name(name), ha="right", va="center")
        for column in range(columns):
            _draw_image(axes, examples[row, column], column * GRID_STEP, row * GRID_STEP)
    for column, severity in enumerate(severities):
        axes.text(column * GRID_STEP + 0.5, -0.12, str(severity), ha="center", va="bottom")
    return figure


def _heated(image: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Lay a map of heat (float [H, W]) over a greyed image (uint8 [3, H, W])."""
    colours = torch.from_numpy(matplotlib.colormaps["inferno"](heat.numpy())[..., :3])
    grey = image.double().mean(0, keepdim=True).expand_as(image) / 255
    mixed = 0.45 * grey + 0.55 * colours.permute(2, 0, 1)
    return (255 * mixed).to(torch.uint8)


def _write_names(axes: Axes, x: float, y: float, true: str, taken_for: str) -> None:
    """Write under the image at (x, y) its class and, in orange, what it was taken for."""
    upper = in_lines(true, 19, 2)
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8, "linespacing": 1.15}
    axes.text(x + 0.5, y + 1.04, upper, **style)
    axes.text(
        x + 0.5,
        y + 1.06 + 0.12 * (1 + upper.count("\n")),
        in_lines(taken_for, 19, 2),
        color=ORANGE,
        **style,
    )


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
