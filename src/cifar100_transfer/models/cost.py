"""What a network costs to run, known before it runs."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from .classifier import Classifier, ClassifierSpec


def count_flops(spec: ClassifierSpec) -> int:
    """Count the floating-point operations that classifying one image takes.

    Counted on a copy without weights, so every convolution counts as published, however it is
    computed here.

    Args:
        spec: of the classifier.

    Returns:
        Operations of convolutions and matrix products; a multiplication with its addition counts
        as two. (Papers often count it as one: ResNet-50's "4.1 GFLOPs" at 224 pixels are 8.2 here.)
    """
    # Built with weights first: torchvision computes the widths of a RegNet with tensors.
    with torch.random.fork_rng([]):
        classifier = Classifier(spec).to("meta").eval()
    image = torch.zeros(1, 3, *spec.input_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier(image)
    return int(counter.get_total_flops())
