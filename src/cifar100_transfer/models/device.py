"""Where tensors live."""

import torch

from cifar100_transfer.errors import UserError


def choose_device(name: str) -> torch.device:
    """Turn the parameter `compute.device` into a device that is there.

    Args:
        name: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`. `auto` takes CUDA, else MPS, else the CPU.

    Raises:
        UserError: the device is not available on this machine.
    """
    cuda, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:  # such as an index of more digits than torch reads
        raise UserError(f"compute.device={name} is no device: use auto or cpu") from None
    present = {
        "cpu": True,
        "mps": mps,
        "cuda": (device.index or 0) < cuda,
    }
    if not present[device.type]:
        raise UserError(f"compute.device={name} is not available on this machine: use auto or cpu")
    return device
