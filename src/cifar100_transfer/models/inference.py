"""Running a classifier over many images."""

import math

import torch

from .allocator import keep_freed_memory
from .classifier import Classifier

# Images that a network takes at once where it sees them with up to 64 x 64 pixels.
_IMAGES = 512
_PIXELS = _IMAGES * 64 * 64


def inference_batch_size(classifier: Classifier) -> int:
    """Return how many images a classifier is given at once: 512, or as many pixels of larger ones.

    Of an ensemble the member with the largest images counts. It changes speed and memory, not the
    logits (up to rounding).
    """
    largest = max(math.prod(member.network_size) for member in classifier.members)
    return max(1, min(_IMAGES, _PIXELS // largest))


@torch.inference_mode()
def predict_logits(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Classify images batch by batch in evaluation mode; the classifier's mode is put back.

    Args:
        classifier: the classifier, on any device.
        images: uint8 [N, 3, H, W] or float in [0, 1]; batches are moved to the classifier's device.

    Returns:
        Logits float32 [N, classes] on the classifier's device.
    """
    keep_freed_memory()
    device = classifier.mean.device
    batch_size = inference_batch_size(classifier)
    was_training = classifier.training
    classifier.eval()
    try:
        logits = torch.empty(len(images), len(classifier.spec.class_names), device=device)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(device, non_blocking=True)
            logits[start : start + batch_size] = classifier(batch)
    finally:
        classifier.train(was_training)
    return logits
