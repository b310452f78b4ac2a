"""Nodes of the export pipeline. What does not compute as the classifier does is never stored."""

from typing import Any

from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.annotations import Classifier, ImageSet, Tensor

CHECKED_IMAGES = 256


def export_program(classifier: Classifier, test_set: ImageSet) -> tuple[bytes, dict[str, Any]]:
    """Export for PyTorch (.pt2), and compare with the classifier on test images.

    Returns the file's content and the outcome of the comparison.
    """
    from cifar100_transfer.models import export

    images = _some_images(classifier, test_set)
    content = export.export_program(classifier)
    run = export.load_program(content)
    return content, export.check_export(run, classifier, images, ("torch",))


def export_onnx(classifier: Classifier, test_set: ImageSet) -> tuple[bytes, dict[str, Any]]:
    """Export to ONNX, and compare what onnxruntime makes of it with the classifier.

    Returns the file's content and the outcome of the comparison.
    """
    from cifar100_transfer.models import export

    images = _some_images(classifier, test_set)
    content = export.export_onnx(classifier)
    run = export.load_onnx(content)
    return content, export.check_export(run, classifier, images, ("torch", *export.ONNX_PACKAGES))


def _some_images(classifier: Classifier, test_set: ImageSet) -> Tensor:
    """Take up to 256 images, evenly over the set."""
    import torch

    from cifar100_transfer.evaluation.prediction import check_classes

    check_classes(classifier, test_set)
    size, wanted = tuple(test_set.images.shape[-2:]), tuple(classifier.spec.input_size)
    if size != wanted:
        raise UserError(
            f"the test images are of {size} pixels, those the classifier was trained on of "
            f"{wanted}: export it with its own data"
        )
    count = min(CHECKED_IMAGES, len(test_set))
    return test_set.images[torch.linspace(0, len(test_set) - 1, count).long()]
