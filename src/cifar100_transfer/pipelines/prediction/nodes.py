"""Nodes of the prediction pipeline."""

import logging

from cifar100_transfer.config import ComputeConfig
from cifar100_transfer.pipelines.annotations import Classifier, DataFrame, Figure, PictureFiles

logger = logging.getLogger(__name__)

LOGGED = 5  # pictures whose class the log says; the table has them all


def predict_pictures(
    classifier: Classifier, pictures: PictureFiles, compute: ComputeConfig
) -> tuple[DataFrame, Figure]:
    """Find the five most probable classes of every picture.

    Returns a table with one row a file, those that can't be read included, and a contact sheet of
    the first readable ones.
    """
    from cifar100_transfer.evaluation import pictures as own
    from cifar100_transfer.models import choose_device

    table = own.classify_pictures(classifier, pictures, choose_device(compute.device))
    for row in table[table["problem"].isna()].head(LOGGED).itertuples():
        logger.info("%s: %s (%s)", row.file, row.class_1, f"{row.probability_1:.0%}")
    return table, own.draw_contact_sheet(table, pictures, classifier.spec)
