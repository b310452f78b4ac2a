"""One training on several devices of this machine.

PyTorch's elastic launcher starts a process a device, `DistributedDataParallel` averages their
gradients. Every process draws the same epoch plan and takes its share of each batch, so the batches
of the whole are those of one process. The pipeline around the training runs once.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cifar100_transfer.config import TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.models import Classifier, ClassifierSpec, load_current_state

from .checks import check_training
from .compute import ON_CPU, Compute
from .loop import EpochRecord, TrainingResult, train
from .processes import process_rank, run_in_processes


def train_on_devices(
    devices: int,
    classifier: Classifier,
    train_set: ImageSet,
    validation_set: ImageSet,
    config: TrainingConfig,
    compute: Compute = ON_CPU,
    resume_folder: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingResult:
    """Train as `train` does, with every batch shared out over several devices.

    Losses are those of one device up to rounding, except where batch normalisation sees a device's
    share of a batch alone.

    Args:
        devices: how many; 1 trains in this process.
        classifier: with initial weights, as its spec builds it; it is changed.
        train_set: as for `train`.
        validation_set: as for `train`.
        config: as for `train`; `batch_size` is that of all devices together.
        compute: as for `train`; several devices are the GPUs 0, 1, … or processes on the CPU, and
            compute their steps unrecorded.
        resume_folder: as for `train`; a resume point holds for one number of devices.
        on_epoch: as for `train`; with several devices, called for all epochs at the end.

    Raises:
        UserError: there are not enough devices, or what `train` raises.
    """
    if devices == 1:
        sets = train_set, validation_set
        return train(classifier, *sets, config, compute, resume_folder, on_epoch)
    check_training(classifier, train_set, validation_set, config, devices)
    with TemporaryDirectory() as folder:
        # Through files that every process maps into its memory: one copy of the images for all.
        inputs = {
            "classifier": dict(classifier.state_dict()),
            "spec": classifier.spec.to_json(),
            "train_set": vars(train_set),
            "validation_set": vars(validation_set),
            "config": config.model_dump_json(),
            "resume_folder": str(resume_folder) if resume_folder else None,
            "precision": compute.precision,
            "compiled": compute.compiled,
        }
        torch.save(inputs, Path(folder, "inputs.pt"))
        run_in_processes(devices, compute.device, _train_share, folder)
        result = torch.load(Path(folder, "result.pt"), weights_only=True)
    load_current_state(classifier, result["classifier"])
    history = [EpochRecord(**record) for record in result["history"]]
    if on_epoch:
        for record in history:
            on_epoch(record)
    return TrainingResult(classifier.cpu().eval(), history)


def _train_share(device: torch.device, folder: str) -> None:
    """Train in one of the processes; the first leaves the result in the folder."""
    inputs: dict[str, Any] = torch.load(
        Path(folder, "inputs.pt"), map_location="cpu", mmap=True, weights_only=True
    )
    classifier = Classifier(ClassifierSpec.from_json(inputs["spec"]))
    load_current_state(classifier, inputs["classifier"])
    resume_folder = inputs["resume_folder"]
    result = train(
        classifier,
        ImageSet(**inputs["train_set"]),
        ImageSet(**inputs["validation_set"]),
        TrainingConfig.model_validate_json(inputs["config"]),
        Compute(device, inputs["precision"], inputs["compiled"]),
        Path(resume_folder) if resume_folder else None,
    )
    if process_rank() == 0:
        history = [asdict(record) for record in result.history]
        weights = dict(result.classifier.state_dict())
        torch.save({"classifier": weights, "history": history}, Path(folder, "result.pt"))
