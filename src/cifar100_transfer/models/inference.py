"""Running a classifier over many images."""

import torch

from .allocator import keep_freed_memory
from .classifier import Classifier


@torch.inference_mode()
def predict_logits(
    classifier: Classifier, images: torch.Tensor, batch_size: int = 512
) -> torch.Tensor:
    """Classify images batch by batch in evaluation mode; the classifier's mode is put back.

    Args:
        classifier: the classifier, on any device.
        images: uint8 [N, 3, H, W] or float in [0, 1]; batches are moved to the classifier's device.
        batch_size: images per call; changes speed and memory, not results (up to rounding).

    Returns:
        Logits float32 [N, classes] on the classifier's device.
    """
    keep_freed_memory()
    device = classifier.mean.device
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
