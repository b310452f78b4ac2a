"""Classifying pictures of one's own."""

from __future__ import annotations

import logging

import pandas as pd
import torch
from matplotlib.figure import Figure

from cifar100_transfer.data.pictures import PictureFiles, read_pictures
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, ClassifierSpec, predict_logits

from . import figures

logger = logging.getLogger(__name__)

TOP = 5
READ_AT_ONCE = 512  # pictures in memory; a folder may hold any number
SHOWN = 60  # pictures on the contact sheet
SHOWN_PIXELS = 160


def classify_pictures(
    classifier: Classifier, pictures: PictureFiles, device: torch.device | None = None
) -> pd.DataFrame:
    """Classify pictures of any size; those that can't be read get a row that says why.

    Args:
        classifier: pictures are cropped and resized to the size of its training images.
        pictures: the files.
        device: where to compute; the CPU if not given.

    Returns:
        One row a file, in the order of the files: `file`; `class_1`, `probability_1` … `class_5`,
        `probability_5`, most probable first (fewer where there are fewer classes; probabilities
        in [0, 1]); `problem`, missing where there is none.

    Raises:
        UserError: none of the files can be read.
    """
    classifier.to(device or torch.device("cpu"))
    tables = []
    for start in range(0, len(pictures), READ_AT_ONCE):
        paths = pictures.paths[start : start + READ_AT_ONCE]
        read = read_pictures(paths, classifier.spec.input_size)
        tables.append(_classify(classifier, read))
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "file", pictures.names)
    unreadable = table[table["problem"].notna()]
    if len(unreadable) == len(table):
        raise UserError(
            f"none of the {len(table)} files in {pictures.root} can be read as a picture; "
            f"the first: {unreadable['problem'].iloc[0]}"
        )
    if len(unreadable):
        logger.warning(
            "%d of %d files can't be read as pictures; the table says why: %s",
            len(unreadable),
            len(table),
            ", ".join([*unreadable["file"][:5], *(["…"] if len(unreadable) > 5 else [])]),
        )
    return table


def _classify(classifier: Classifier, read: list[torch.Tensor | UserError]) -> pd.DataFrame:
    """Return the rows of some pictures without their names."""
    names = classifier.spec.class_names
    count = min(TOP, len(names))
    images = [picture for picture in read if isinstance(picture, torch.Tensor)]
    best: list[tuple[list[float], list[int]]] = []
    if images:
        probabilities = predict_logits(classifier, torch.stack(images)).softmax(dim=1)
        values, indices = probabilities.topk(count, dim=1)
        best = list(zip(values.tolist(), indices.tolist(), strict=True))
    remaining = iter(best)
    rows: list[dict[str, object]] = []
    for picture in read:
        if isinstance(picture, UserError):
            rows.append({"problem": str(picture)})
            continue
        row: dict[str, object] = {"problem": None}
        for rank, (probability, index) in enumerate(zip(*next(remaining), strict=True), start=1):
            row |= {f"class_{rank}": names[index], f"probability_{rank}": probability}
        rows.append(row)
    ranks = range(1, count + 1)
    columns = [f"{name}_{rank}" for rank in ranks for name in ("class", "probability")]
    return pd.DataFrame(rows, columns=[*columns, "problem"])


def draw_contact_sheet(table: pd.DataFrame, pictures: PictureFiles, spec: ClassifierSpec) -> Figure:
    """Draw the first readable pictures, finer than the classifier sees them, with their classes.

    Args:
        table: as `classify_pictures` returns it.
        pictures: the same files.
        spec: of the classifier.
    """
    rows = table[table["problem"].isna()].head(SHOWN)
    height, width = spec.input_size
    finer = max(1, round(SHOWN_PIXELS / max(height, width)))
    read = read_pictures(
        [pictures.paths[index] for index in rows.index], (finer * height, finer * width)
    )
    still_there = [isinstance(picture, torch.Tensor) for picture in read]
    images = [picture for picture in read if isinstance(picture, torch.Tensor)]
    note = f"The classifier sees these crops at {width} x {height} pixels. "
    if len(table) > len(images):
        note += f"{len(images):,} of {len(table):,} files are shown; the table lists all."
    title = f"Pictures classified by a network of architecture {spec.architecture}"
    return figures.contact_sheet(torch.stack(images), rows[still_there], title, note)
