"""Processes that train together: how they start, and what they tell one another.

In a process that trains alone, everything here does nothing.
"""

import logging
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from cifar100_transfer.errors import UserError


def process_count() -> int:
    """Return how many processes take part in this training."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def process_rank() -> int:
    """Return this process's number among them; 0 is the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def run_in_processes(
    count: int, device: torch.device, function: Callable[..., None], *arguments: Any
) -> None:
    """Run a function in several processes, joined to a process group, and wait for all.

    Args:
        count: number of processes.
        device: `cuda` gives each a GPU of its own; `cpu` shares the threads out.
        function: of a module's top level; called with the process's device and `arguments`.
        arguments: few and small; they are pickled.

    Raises:
        UserError: a process raised it, the device is a single GPU (`cuda:N`), or there are fewer
            devices than processes.
    """
    if ":" in str(device):
        raise UserError(
            f"compute.device={device}: several devices (compute.devices={count}) are the first of "
            f"their kind: set it to {device.type}, or devices to 1"
        )
    if device.type == "mps" or (device.type == "cuda" and count > torch.cuda.device_count()):
        raise UserError(
            f"compute.devices={count}: there are fewer devices of the kind {device.type}: lower it"
        )
    # Imported here: a training in one process must not wait for it.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    threads = max(1, torch.get_num_threads() // count)
    # The launcher would leave its folder behind, on every run.
    with TemporaryDirectory(prefix="training_") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        with _own_signals():
            _launch(
                partial(elastic_launch(config, _join), device.type, threads, function, arguments)
            )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back what this process does on signals such as Ctrl-C; the launcher leaves its own."""
    # Only the main thread may set them, and in others the launcher sets none.
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in signal.valid_signals()} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _launch(start: Callable[[], object]) -> None:
    """Start the processes and wait; of several errors, the first that one raised is told.

    Raises:
        KeyboardInterrupt: Ctrl-C, which the launcher makes an error of its own.
        SystemExit: another signal that asks this process to end.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        start()
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + error.sigval) from None
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        # Typed as a string, but a dictionary with type and message in one entry where the process
        # raised something.
        found: Any = failure.message
        raised = found["message"] if isinstance(found, dict) else ""
        kind, _, message = raised.partition(": ")
        if kind == UserError.__name__:
            raise UserError(message) from error
        raise


def _join(
    kind: str, threads: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """Run in every new process: join the group, call the function, leave."""
    torch.set_num_threads(threads)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        rank = process_rank()
        if rank == 0:
            logging.basicConfig(level=logging.INFO, format="%(message)s")
        if kind == "cuda":
            torch.cuda.set_device(rank)
        function(torch.device(kind, rank) if kind == "cuda" else torch.device(kind), *arguments)
    finally:
        distributed.destroy_process_group()


def share(values: Tensor, dim: int = 0) -> Tensor:
    """Return this process's part of a batch; the parts of all are the batch, without overlap."""
    return values.tensor_split(process_count(), dim)[process_rank()]


def parallel(module: nn.Module) -> nn.Module:
    """Let the backward passes of a module average its gradients over the processes."""
    return module if process_count() == 1 else DistributedDataParallel(module)


def without_averaging(module: nn.Module) -> AbstractContextManager[None]:
    """Let gradients add up in this process for now; the next backward pass outside averages all."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def add_over_processes(values: Tensor) -> Tensor:
    """Add up a tensor over the processes, in place, and return it."""
    if process_count() > 1:
        distributed.all_reduce(values)
    return values


def take_from_first(values: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of the first process."""
    if process_count() > 1:
        for value in values:
            distributed.broadcast(value, 0)
