"""The smallest baseline: one convolution."""

import torch
from torch import nn

from .pooled_convolution import PooledConv2d


class SimpleCNN(nn.Module):
    """One 3x3 convolution, ReLU, 2x2 max-pooling, one linear layer (the original report's part 1).

    Args:
        num_classes: number of logits.
        image_size: height and width of the images in pixels; odd rows and columns are dropped by
            the pooling.
    """

    def __init__(self, num_classes: int, image_size: tuple[int, int] = (32, 32)) -> None:
        super().__init__()
        height, width = image_size
        self.conv = PooledConv2d(3, 32)
        self.head = nn.Linear(32 * (height // 2) * (width // 2), num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] of normalised images [N, 3, H, W]."""
        # Pooling first is the same (ReLU is monotone) and leaves a quarter of the values to clip.
        return self.head(torch.relu(self.conv(images)).flatten(1))
