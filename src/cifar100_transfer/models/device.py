"""Where tensors live, and in which precision they are computed."""

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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not get the memory they asked for, on a GPU or the CPU."""
    # On the CPU torch raises a plain RuntimeError with this in its text.
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn the parameter `compute.precision` into a data type for training steps.

    Args:
        name: `auto`, `float32` or `bfloat16`. `auto` takes bfloat16 on hardware with instructions
            at full speed: CUDA GPUs since Ampere, CPUs with AMX, and AMD's with AVX512_BF16.
            Intel's were slower with AVX512_BF16 alone than in float32; try both on one of them:
            `benchmarks/throughput.py --models resnet50`.
        device: where training computes.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has = torch.cpu.get_capabilities()
        by_vectors = has.get("avx512_bf16") and not str(has.get("cpu_name")).startswith("Intel")
        fast = device.type == "cpu" and bool(has.get("amx_bf16") or by_vectors)
    return torch.bfloat16 if fast else torch.float32
