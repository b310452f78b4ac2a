"""Pretrained weights from where they are: published, or in a file."""

from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath

import safetensors.torch
import torch

from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import file_digest

from .fetch import fetch

_CLASSIFIER_PREFIX = "network."


def published_weights(name: str) -> dict[str, torch.Tensor]:
    """Return weights that torchvision publishes, downloading them once.

    The file is kept in torch's cache (`$TORCH_HOME/hub/checkpoints`), and its name carries the
    first digits of its SHA-256. They are checked every time, and no code in the file is run;
    torchvision's own `get_state_dict` does neither with a file that is there already.

    Args:
        name: torchvision's name of the weights, such as `ResNet50_Weights.IMAGENET1K_V1`.

    Raises:
        UserError: unknown name, the weights are not cached and can't be fetched, or the cached file
            is another one.
    """
    import torchvision

    try:
        weights = torchvision.models.get_weight(name)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"pretrained_weights: torchvision knows no weights '{name}'; "
            f"a right name looks like ResNet50_Weights.IMAGENET1K_V1"
        ) from error
    file_name = PurePosixPath(weights.url).name
    path = Path(torch.hub.get_dir(), "checkpoints", file_name)
    sha256 = path.stem.rpartition("-")[2]
    advice = (
        f"For {name}, put {file_name} into torch's cache ({path.parent}), name a file of your own "
        f"with --params=weights=FILE, or start from random weights (MODEL.model.pretrained=false)"
    )
    fetch(weights.url, path, f"sha256:{sha256}", advice)
    found = file_digest(path, "sha256")
    if not found.startswith(sha256):
        raise UserError(
            f"{path} is not what torchvision publishes: its SHA-256 begins with "
            f"{found[: len(sha256)]} instead of {sha256}. Delete it to fetch it anew"
        )
    return read_weights(path)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from a file without running any code in it.

    Args:
        path: a `.safetensors` file (a classifier of this project, too: its network is taken) or
            a file of `torch.save`.

    Raises:
        UserError: no such file, a folder, damaged, not a state dict of tensors, or not finite.
    """
    if path.is_dir():
        raise UserError(
            f"pretrained weights {path} are a folder: name a file with --params=weights=FILE"
        )
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"pretrained weights {path} do not exist: name another file with --params=weights=FILE"
        ) from None
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is no state dict, or may be hostile: it was not loaded") from error
    except Exception as error:
        # A damaged pickle can fail in any way, without a message, or with a number for one.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{path} is damaged or no file of weights ({reason})") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise UserError(f"{path} holds no state dict (a dictionary of tensors)")
    if any(value.is_meta or value.layout != torch.strided for value in state.values()):
        raise UserError(f"{path} holds tensors without values, or sparse ones: no weights to load")
    if broken := [key for key, value in state.items() if not bool(value.isfinite().all())]:
        raise UserError(f"{path} holds weights that are not finite, first in {broken[0]}")
    network = {
        key.removeprefix(_CLASSIFIER_PREFIX): value
        for key, value in state.items()
        if key.startswith(_CLASSIFIER_PREFIX)
    }
    return network or state
