"""Training throughput of ResNet-50 on small images, stock and with accelerated convolutions.

    python benchmarks/convolutions.py --output docs/results/convolutions.json

One step is forward, cross-entropy, backward and fused Adam, in float32, on random images that stay
in memory. The variants take turns within one process, so that whatever else the machine does meets
all of them; the first round is not counted. Printed are medians with the slowest and fastest step.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from machine import command_line, describe_machine
from torch import nn
from torch.nn import functional as F

from cifar100_transfer.models.fast_convolution import accelerate_convolutions

CLASSES = 100


@dataclass(frozen=True)
class Trainee:
    """A network, its memory format and its optimiser."""

    network: nn.Module
    memory_format: torch.memory_format
    optimizer: torch.optim.Optimizer

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Train on one batch and return the seconds it took."""
        images = images.contiguous(memory_format=self.memory_format)
        start = time.perf_counter()
        self.optimizer.zero_grad()
        F.cross_entropy(self.network(images), labels).backward()
        self.optimizer.step()
        return time.perf_counter() - start


def make_trainee(memory_format: torch.memory_format, accelerated: bool) -> Trainee:
    """Build the network of one variant; all variants start from the same weights."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(num_classes=CLASSES).to(memory_format=memory_format)
    if accelerated:
        accelerate_convolutions(network)
    return Trainee(network, memory_format, torch.optim.Adam(network.parameters(), fused=True))


def measure(
    trainees: dict[str, Trainee], batch: int, size: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Time `rounds` steps of every trainee in turn, after one that is not counted.

    Returns:
        For every variant its images a second: median, slowest and fastest step.
    """
    images, labels = torch.randn(batch, 3, size, size), torch.randint(CLASSES, (batch,))
    rates: dict[str, list[float]] = {name: [] for name in trainees}
    for _ in range(1 + rounds):
        for name, trainee in trainees.items():
            rates[name].append(batch / trainee.step(images, labels))
    return {
        name: {
            "median": round(statistics.median(all_rates[1:]), 1),
            "slowest": round(min(all_rates[1:]), 1),
            "fastest": round(max(all_rates[1:]), 1),
        }
        for name, all_rates in rates.items()
    }


def main() -> None:
    """Measure, print a table and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 128, 512])
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=5, help="counted steps of every variant")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()

    trainees = {
        "stock contiguous": make_trainee(torch.contiguous_format, accelerated=False),
        "stock channels_last": make_trainee(torch.channels_last, accelerated=False),
        "accelerated": make_trainee(torch.channels_last, accelerated=True),
    }
    machine = describe_machine()
    print(machine)
    print(f"{'batch':>5}  " + "".join(f"{name:>28}" for name in trainees) + f"{'gain':>8}")
    results = []
    for batch in options.batches:
        rates = measure(trainees, batch, options.size, options.rounds)
        best_stock = max(rate["median"] for name, rate in rates.items() if name.startswith("stock"))
        gain = round(rates["accelerated"]["median"] / best_stock, 2)
        cells = (f"{r['median']} ({r['slowest']} to {r['fastest']})" for r in rates.values())
        print(f"{batch:>5}  " + "".join(f"{cell:>28}" for cell in cells) + f"{gain:>8}", flush=True)
        results.append({"batch": batch, "images_per_second": rates, "gain_over_best_stock": gain})
    if options.output:
        header = {
            "command": command_line(),
            "what": "images a second, ResNet-50, one training step in float32 with fused Adam",
            "image_size": options.size,
            "rounds": options.rounds,
            **machine,
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(
            json.dumps({"header": header, "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
