"""Running a classifier over an image set."""

import torch

from cifar100_transfer.data import ImageSet, Predictions
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, classifier_digest, predict_logits

VALIDATION_IMAGES = "validation_images"
"""Where the recipe of a classifier has the digest of the images that its epoch was chosen by."""


def predict(
    classifier: Classifier, images: ImageSet, device: torch.device | None = None
) -> Predictions:
    """Classify an image set.

    Args:
        classifier: knows the same classes, in the same order.
        images: the images and their true labels.
        device: where to compute; the CPU if not given.

    Raises:
        UserError: classifier and images have different classes.
    """
    check_classes(classifier, images)
    logits = predict_logits(classifier.to(device or torch.device("cpu")), images.images)
    return Predictions(
        logits=logits.cpu(),
        labels=images.labels,
        class_names=images.class_names,
        coarse_names=images.coarse_names,
        coarse_of_class=images.coarse_of_class,
        classifier=classifier_digest(classifier),
        image_set=images.digest(),
    )


def check_classes(classifier: Classifier, images: ImageSet) -> None:
    """Raise a `UserError` if a classifier was trained on other classes than the images have."""
    if classifier.spec.class_names != images.class_names:
        raise UserError(
            f"the classifier was trained on other classes ({_few(classifier.spec.class_names)}) "
            f"than the images have ({_few(images.class_names)}): train it on this data"
        )


def check_validation(classifier: Classifier, images: ImageSet) -> None:
    """Raise a `UserError` if classes or images are others than those of a classifier's validation.

    Of another split, some of them were trained on: whatever they choose or show would be too good.
    A classifier that no pipeline trained doesn't say which its own were, and passes.
    """
    check_classes(classifier, images)
    if classifier.spec.recipe.get(VALIDATION_IMAGES) not in (None, images.digest()):
        raise UserError(
            f"the stored validation images are of another split than this classifier's "
            f"({classifier.spec.architecture}), which may have been trained on some of them: give "
            f"the pipeline ingestion the split parameters of its training first, or train it anew"
        )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join([*names[:3], "…"] if len(names) > 3 else names)
