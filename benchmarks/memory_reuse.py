"""What keeping freed memory buys a training on the CPU (`models/allocator.py`).

    python benchmarks/memory_reuse.py --output docs/results/memory_reuse.json

Training steps of the engine on random images, in processes that take turns, with and without it.
Measured is the processor time of one thread, which other work on the machine changes least; the
first epoch of a process is not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from machine import command_line, describe_machine

NETWORKS = {"simple_cnn": (128, 20), "resnet50": (128, 2)}  # images a batch, batches an epoch
CHILD = """
import resource, sys, time, torch
sys.path.insert(0, "benchmarks")
from training_options import make_engine, ImageSet, train_epoch
from cifar100_transfer.models import keep_freed_memory
network, batch, steps, keep = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
if keep:
    keep_freed_memory()
count = batch * steps
images = ImageSet(
    torch.randint(256, (count, 3, 32, 32)).byte(), torch.arange(count) % 100,
    tuple(map(str, range(100))),
)
engine = make_engine(images, network, batch, "adam")
for epoch in range(1, 6):
    start = time.process_time()
    train_epoch(engine, epoch)
    if epoch > 1:
        print(count / (time.process_time() - start))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def measure(network: str, keep: bool) -> list[float]:
    """Return the images a second of each epoch of one process, and its peak memory in GB."""
    batch, steps = NETWORKS[network]
    arguments = [network, str(batch), str(steps), str(int(keep))]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True
    )
    return [float(line) for line in done.stdout.split()]


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
