"""Running a classifier over many images."""

import math

import torch

from .allocator import keep_freed_memory
from .classifier import Classifier

_PIXELS = 512 * 64 * 64


@torch.inference_mode()
def predict_logits(
    classifier: Classifier, images: torch.Tensor, batch_size: int | None = None
) -> torch.Tensor:
    """Classify images batch by batch in evaluation mode; the classifier's mode is put back.

    Args:
        classifier: the classifier, on any device.
        images: uint8 [N, 3, H, W] or float in [0, 1]; batches are moved to the classifier's device.
        batch_size: images per call; changes speed and memory, not results (up to rounding). None:
            512, and of images that the network sees with more than 64 x 64 pixels as many as make
            up the same number of pixels.

    Returns:
        Logits float32 [N, classes] on the classifier's device.
    """
    keep_freed_memory()
    device = classifier.mean.device
    if batch_size is None:
        batch_size = max(1, min(512, _PIXELS // math.prod(classifier.network_size)))
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
