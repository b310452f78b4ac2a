"""What a run was: its parameters, code, data, packages, machine and seconds."""

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cifar100_transfer.nested import leaves


def describe_code(folder: Path) -> dict[str, Any] | None:
    """Return the git `commit` of a folder and whether it is `dirty`; None outside a repository.

    `dirty` is None where git does not say it in time.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            # Without the lock that `status` takes to refresh the index: it would stop a commit
            # of the user's, and stay behind where git is stopped after the time it is given.
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def describe_packages() -> dict[str, str]:
    """Return the version of every installed distribution, sorted by name."""
    found = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def describe_machine(device: str | None) -> dict[str, Any]:
    """Return the platform, the processor, its cores, and the device that computed.

    Args:
        device: as torch names it; None if nothing was computed.
    """
    machine: dict[str, Any] = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": device,
    }
    if device and device.startswith("cuda"):
        machine["gpu"] = hardware_name(device)
    return machine


def hardware_name(device: str) -> str:
    """Return what a device, as torch names it, is called by its maker."""
    if not device.startswith("cuda"):
        return _processor()
    import torch

    return torch.cuda.get_device_name(device)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def describe_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as plain values, by dotted name of the single value."""
    return dict(leaves(_plain(dict(sorted(values.items())))))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def changed_parameters(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which parameters have another value now; those that one side lacks are passed over."""
    return [
        f"{name}={value!r} (was {before[name]!r})"
        for name, value in now.items()
        if name in before and before[name] != value
    ]
