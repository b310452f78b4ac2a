"""What looks as if a training learned nothing, though no error said so."""

import logging
import math

from .loop import EpochRecord

logger = logging.getLogger(__name__)

JUDGED_EPOCH = 3
"""The epoch after which a training is expected to do better than guessing."""
DEVIATIONS = 3
"""Standard deviations above chance that guessing hardly reaches."""


def warn_at_chance(record: EpochRecord, model: str, classes: int, images: int) -> None:
    """Warn if the validation accuracy after the third epoch is what guessing gives.

    Labels that don't belong to their images, a learning rate that is far too high and images that
    were prepared wrongly all look like this.

    Args:
        record: of any epoch; only the third is judged.
        model: its name.
        classes: number of classes, which the validation images have in equal numbers.
        images: number of validation images.
    """
    chance = 1 / classes
    reach = chance + DEVIATIONS * math.sqrt(chance * (1 - chance) / images)
    if record.epoch == JUDGED_EPOCH and record.validation_accuracy <= reach:
        logger.warning(
            "%s: validation accuracy is %.1f %% after %d epochs, no better than guessing "
            "(%.1f %%): check the learning rate, and whether labels belong to their images",
            *(model, 100 * record.validation_accuracy, record.epoch, 100 * chance),
        )
