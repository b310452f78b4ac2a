"""What keeping freed memory buys a training on the CPU (`models/allocator.py`).

    python benchmarks/memory_reuse.py --output docs/results/memory_reuse.json

Training steps of the engine on random images, in processes that take turns, with and without it.
Measured is the processor time of one thread, which other work on the machine changes least; the
first epoch of a process is not counted.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from machine import command_line, describe_machine
from training_options import CLASSES, PLAIN, make_engine

from cifar100_transfer.data import ImageSet
from cifar100_transfer.models import keep_freed_memory
from cifar100_transfer.training.steps import train_epoch

NETWORKS = {"simple_cnn": (128, 20), "resnet50": (128, 2)}  # images a batch, batches an epoch


def train_apart(network: str, keep: bool) -> list[float]:
    """Train five epochs in this process, which must have done nothing else before.

    Returns:
        The images a second of each epoch but the first, and the peak memory in GB.
    """
    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    batch, steps = NETWORKS[network]
    count = batch * steps
    images = ImageSet(
        images=torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8),
        labels=torch.arange(count) % CLASSES,
        class_names=tuple(map(str, range(CLASSES))),
    )
    engine = make_engine(images, network, batch, PLAIN)
    rates = []
    for epoch in range(1, 6):
        start = time.process_time()
        train_epoch(engine, epoch)
        rates.append(count / (time.process_time() - start))
    return [*rates[1:], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9]


def measure(network: str, keep: bool) -> list[float]:
    """Return what `train_apart` does in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(train_apart, network, keep).result()


def main() -> None:
    """Measure both ways in turn and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    results = {}
    for network in NETWORKS:
        found: dict[bool, list[list[float]]] = {False: [], True: []}
        for _ in range(options.rounds):
            for keep, processes in found.items():
                processes.append(measure(network, keep))
        for keep, processes in found.items():
            rates = [rate for *epochs, _ in processes for rate in epochs]
            results[f"{network}, {'kept' if keep else 'given back'}"] = {
                "images_per_second": round(statistics.median(rates)),
                "slowest": round(min(rates)),
                "fastest": round(max(rates)),
                "peak_gb": round(max(process[-1] for process in processes), 2),
            }
    print(json.dumps(results, indent=2))
    content = {
        "command": command_line(),
        "machine": {**describe_machine(), "threads": 1},
        "results": results,
    }
    options.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
