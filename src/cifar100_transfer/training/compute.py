"""Where and in which numbers a training computes."""

from dataclasses import dataclass, field
from functools import partial
from typing import Self

import torch

from cifar100_transfer.config import ComputeConfig
from cifar100_transfer.models import choose_device, choose_precision


@dataclass(frozen=True)
class Compute:
    """What of the parameters `compute` concerns each process of a training.

    Attributes:
        device: where to train.
        precision: of forward and backward passes, float32 or bfloat16; weights and validation are
            float32.
        compiled: whether training steps go through `torch.compile`.
        cuda_graphs: whether a CUDA GPU may record the passes of a step and replay them, which
            changes no result. Compiled steps are not recorded.
    """

    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    precision: torch.dtype = torch.float32
    compiled: bool = False
    cuda_graphs: bool = True

    @classmethod
    def of(cls, config: ComputeConfig) -> Self:
        """Choose what this machine has.

        Raises:
            UserError: the device is not available on this machine.
        """
        device = choose_device(config.device)
        precision = choose_precision(config.precision, device)
        return cls(device, precision, config.compile, config.cuda_graphs)


ON_CPU = Compute()
"""The CPU in float32: the same numbers on every machine of a kind."""
