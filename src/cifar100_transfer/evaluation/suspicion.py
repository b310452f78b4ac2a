"""What looks as if test images were treated unlike validation images, though no error said so."""

import logging
import math

logger = logging.getLogger(__name__)

DEVIATIONS = 5
"""Standard deviations between two accuracies that chance does not explain."""


def warn_of_gap(
    test_accuracy: float, test_images: int, validation_accuracy: float, validation_images: int
) -> None:
    """Warn if test and validation accuracy differ by more than chance (two-proportion z-test).

    Both are drawn from one distribution and neither is trained on, so that a classifier is about as
    good on both; the choice of the best epoch by validation images moves them much less apart.
    Channels in another order, other preprocessing, labels or classes in another order, evaluation
    in training mode, and training images among either look like this.

    Args:
        test_accuracy: fraction in [0, 1].
        test_images: number of test images, at least 1.
        validation_accuracy: fraction in [0, 1], of the same weights.
        validation_images: number of validation images, at least 1.
    """
    total = test_images + validation_images
    pooled = (test_accuracy * test_images + validation_accuracy * validation_images) / total
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / test_images + 1 / validation_images))
    if abs(test_accuracy - validation_accuracy) > DEVIATIONS * deviation:
        logger.warning(
            "test accuracy is %.1f %% and validation accuracy %.1f %%, which chance does not "
            "explain: check that both sets are prepared and labelled alike, and free of training "
            "images",
            *(100 * test_accuracy, 100 * validation_accuracy),
        )
