"""Training throughput: this project's loop, the bare network, and the usual ways.

    python benchmarks/throughput.py --output docs/results/throughput.json     (--quick: a glance)

- ours: `train`, one epoch a round: batches cut, cropped, flipped and normalised, and its records.
  On a GPU its second, whose steps are recorded by then, and beside it one of a training without.
- bare: the same network and optimiser on one synthetic batch that stays on the device: the limit.
- DataLoader (SimpleCNN): torchvision's dataset and per-image transforms, 0, 2 and 4 workers; the
  network of torch's own layers.
- stock: SimpleCNN of torch's own layers, ResNet-50 of torchvision, channels_last, on the synthetic
  batch.

A step is forward, cross-entropy, backward and fused Adam. All take turns within one process, round
by round, so that whatever else the machine does meets all of them; the first round is not counted.
Ratios are the medians of the rounds' own ratios. The usual ways run with the C library's own way of
giving memory back, ours and the bare network without (`models/allocator.py`).
"""

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torchvision
from machine import command_line, describe_machine, run_script
from report_tables import throughput_table
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR100, VisionDataset
from torchvision.transforms import v2

from cifar100_transfer.config import ModelConfig, OptimizerConfig, TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.models import choose_device
from cifar100_transfer.models.allocator import keep_freed_memory
from cifar100_transfer.models.backbones import build_network, memory_format
from cifar100_transfer.training import Compute, build_classifier, train

CLASSES = 100
SIDE = 32
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
WORKERS = (0, 2, 4)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

Rates = dict[str, list[float]]
Round = Callable[[], float]  # runs one round, returns images a second


class RandomCIFAR100(CIFAR100):
    """torchvision's CIFAR-100, with its way to every image, but random pixels instead of files."""

    def __init__(self, images: ImageSet, transform: v2.Transform) -> None:
        VisionDataset.__init__(self, root="", transform=transform)
        self.data = images.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = images.labels.tolist()


def random_images(count: int) -> ImageSet:
    """Random images of 100 classes."""
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        torch.randint(256, (count, 3, SIDE, SIDE), generator=generator).byte(),
        torch.arange(count) % CLASSES,  # a training refuses classes without an image
        tuple(f"class {number}" for number in range(CLASSES)),
    )


def plain_round(
    network: nn.Module,
    batches: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]],
    device: torch.device,
    precision: torch.dtype,
) -> Round:
    """Make a round of the plainest loop over some batches."""
    network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def run() -> float:
        start, count = time.perf_counter(), 0
        for images, labels in batches():
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                loss = F.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            count += len(labels)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return count / (time.perf_counter() - start)

    return run


def bare_round(
    network: nn.Module,
    layout: torch.memory_format,
    batch_size: int,
    steps: int,
    device: torch.device,
    precision: torch.dtype,
) -> Round:
    """Make a round of steps on one synthetic batch."""
    images = torch.randn(batch_size, 3, SIDE, SIDE, device=device).contiguous(memory_format=layout)
    batch = images, torch.randint(CLASSES, (batch_size,), device=device)
    return plain_round(network, lambda: [batch] * steps, device, precision)


def loader_round(
    network: nn.Module, images: ImageSet, batch_size: int, workers: int, device: torch.device
) -> Round:
    """Make a round over a DataLoader; its workers stay alive between rounds."""
    transform = v2.Compose(
        [
            v2.RandomCrop(SIDE, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(
        RandomCIFAR100(images, transform),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    return plain_round(network, lambda: loader, device, torch.float32)


def our_round(
    architecture: str,
    images: ImageSet,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    recorded: bool = True,
) -> Round:
    """Make a round of one epoch of `train`; its time is that of the training steps."""
    epochs = 2 if device.type == "cuda" else 1
    recipe = TrainingConfig(
        epochs=epochs, batch_size=batch_size, optimizer=OptimizerConfig(name="adam")
    )
    model = ModelConfig(architecture=architecture)
    classifier = build_classifier(images, {"mean": MEAN, "std": STD}, model, recipe)
    validation = images.subset(torch.arange(batch_size))
    compute = Compute(device, precision, cuda_graphs=recorded)

    def run() -> float:
        result = train(classifier, images, validation, recipe, compute)
        return result.history[-1].images_per_second

    return run


def stock_simple_cnn() -> nn.Module:
    """SimpleCNN as one writes it down."""
    return nn.Sequential(
        nn.Conv2d(3, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (SIDE // 2) ** 2, CLASSES),
    )


def simple_cnn_rounds(batch_size: int, steps: int, device: torch.device) -> dict[str, Round]:
    """Make SimpleCNN's contestants."""
    images = random_images(batch_size * steps)
    layout = memory_format("simple_cnn")
    ours = build_network("simple_cnn", CLASSES, (SIDE, SIDE))
    rounds = {
        "ours": our_round("simple_cnn", images, batch_size, device),
        "bare": bare_round(ours, layout, batch_size, steps, device, torch.float32),
        "stock": usually(
            bare_round(stock_simple_cnn(), layout, batch_size, steps, device, torch.float32)
        ),
    }
    if device.type == "cuda":
        rounds["ours unrecorded"] = our_round(
            "simple_cnn", images, batch_size, device, recorded=False
        )
    for workers in WORKERS:
        name = f"DataLoader, {workers} workers"
        loader = loader_round(stock_simple_cnn(), images, batch_size, workers, device)
        rounds[name] = usually(loader)
    return rounds


def resnet50_rounds(batch_size: int, steps: int, device: torch.device) -> dict[str, Round]:
    """Make ResNet-50's contestants, each in both precisions."""
    images = random_images(batch_size * steps)
    layout = memory_format("resnet50")
    rounds = {}
    for name, precision in PRECISIONS.items():
        ours = build_network("resnet50", CLASSES, (SIDE, SIDE))
        stock = torchvision.models.resnet50(num_classes=CLASSES).to(memory_format=layout)
        arguments = layout, batch_size, steps, device, precision
        rounds[f"ours, {name}"] = our_round(
            "resnet50", images, batch_size, device, precision=precision
        )
        if device.type == "cuda":
            rounds[f"ours unrecorded, {name}"] = our_round(
                "resnet50", images, batch_size, device, precision=precision, recorded=False
            )
        rounds[f"bare, {name}"] = bare_round(ours, *arguments)
        rounds[f"stock, {name}"] = usually(bare_round(stock, *arguments))
    return rounds


def usually(run: Round) -> Round:
    """Let a round run with the memory settings that glibc arrives at by itself.

    It adapts to the blocks that are freed until it asks the kernel for those above 32 MB, and gives
    64 MB at its top back (mallopt(3), dynamic threshold).
    """
    if not keep_freed_memory():
        return run
    mallopt = ctypes.CDLL(None).mallopt
    # M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
    usual = {-4: 65536, -3: 32 * 2**20, -1: 64 * 2**20, -2: 0}

    def usual_round() -> float:
        for name, value in usual.items():
            mallopt(name, value)
        rate = run()
        keep_freed_memory.__wrapped__()  # past the cache
        return rate

    return usual_round


def measure(contestants: dict[str, Round], rounds: int) -> Rates:
    """Run all contestants in turn; return their images a second, without the first round."""
    rates: Rates = {name: [] for name in contestants}
    for _ in range(1 + rounds):
        for name, run in contestants.items():
            rates[name].append(run())
    return {name: measured[1:] for name, measured in rates.items()}


def summarize(model: str, batch_size: int, rates: Rates) -> dict[str, Any]:
    """Print a table of a model's contestants and return what it says."""
    rows = {}
    for name, measured in rates.items():
        # Networks are compared with ours of the same precision.
        precision = name.partition(", ")[2]
        ours = rates.get(f"ours, {precision}") or rates["ours"]
        ratio = statistics.median(a / b for a, b in zip(ours, measured, strict=True))
        rows[name] = {
            "images_per_second": round(statistics.median(measured), 1),
            "slowest": round(min(measured), 1),
            "fastest": round(max(measured), 1),
            "ours_over_this": round(ratio, 3),
        }
    result = {"model": model, "batch_size": batch_size, "contestants": rows}
    print(f"\n{throughput_table(result)}", flush=True)
    return result


def main() -> None:
    """Measure, print tables and write them as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["simple_cnn", "resnet50"])
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds")
    parser.add_argument("--steps", type=int, default=60, help="of SimpleCNN in a round")
    parser.add_argument("--resnet-steps", type=int, default=2, help="of ResNet-50 in a round")
    parser.add_argument("--resnet-batch", type=int, default=512)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="two short rounds, ResNet-50 at 32")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps, options.resnet_batch = 2, 20, 64

    device = choose_device(options.device)
    machine = describe_machine()
    print(machine, f"training on {device}")
    results = []
    if "simple_cnn" in options.models:
        contestants = simple_cnn_rounds(128, options.steps, device)
        results.append(summarize("simple_cnn", 128, measure(contestants, options.rounds)))
    if "resnet50" in options.models:
        contestants = resnet50_rounds(options.resnet_batch, options.resnet_steps, device)
        rates = measure(contestants, options.rounds)
        results.append(summarize("resnet50", options.resnet_batch, rates))
    if options.output:
        header = {
            "command": command_line(),
            "what": "training images a second, and how many times as fast ours is",
            "image_size": SIDE,
            "rounds": options.rounds,
            "device": str(device),
            **machine,
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"header": header, "results": results}, indent=2)
        options.output.write_text(content + "\n")


if __name__ == "__main__":
    run_script(main)
