"""The champion on one GPU: trains, judges and saves in slices, and goes on where it stopped.

    python benchmarks/champion.py speed --data DIR              # images a second, minutes it takes
    python benchmarks/champion.py run --data DIR --seeds 0 1 2  # the same command until it is done
    python benchmarks/champion.py pack --seeds 0 --output DIR   # weights in small files to carry
    python benchmarks/champion.py unpack --input DIR            # and back

`run` trains the recipe `champion` of conf/base (track `open`), or with `--env held_out` that of the
other track, once with every seed; chooses the mixing weight of batch-norm adaptation on distorted
validation images; and judges every member and their ensemble on the clean test images and on
nineteen corruptions at five severities. (`--on validation` is for trials: test images are for the
final recipe.) It stops by itself before `--slice-seconds` are over, and goes on from the files in
`--work` when it is called again. Results go to docs/results/champion.json. `--quick` does all of it
in a minute or two on a CPU, on drawn images, and writes no results there.
"""

import argparse
import itertools
import json
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import command_line, describe_machine, run_script
from omegaconf import OmegaConf
from report_tables import spread

from cifar100_transfer.config import ComputeConfig, ModelConfig, TrainingConfig
from cifar100_transfer.data import (
    ImageSet,
    channel_statistics,
    stratified_split,
    stratified_subset,
)
from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar100_transfer.data.sample import generate
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation.adaptation import (
    adapt_batch_norm,
    mean_log_probabilities,
    views,
)
from cifar100_transfer.evaluation.robustness import rank_source_weights
from cifar100_transfer.models import (
    Classifier,
    ClassifierSpec,
    count_flops,
    load_classifier,
    predict_logits,
    save_classifier,
)
from cifar100_transfer.nested import leaves
from cifar100_transfer.sealed import pack, unpack
from cifar100_transfer.storage import atomic_path, file_digest
from cifar100_transfer.training import Compute, EpochRecord, build_classifier, train
from cifar100_transfer.tuning.space import Recipe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "champion.json"

VALIDATION_SHARE = 0.02
SOURCE_WEIGHTS = (0.0, 0.25, 0.5, 0.75)
WEIGHT_IMAGES = 1000
"""Distorted validation images that choose the mixing weight, at most."""
CLEAN = ("clean", 0)
SETS = (CLEAN, *((name, severity) for name in CORRUPTIONS for severity in SEVERITIES))

STORE_SECONDS = 5
"""For a resume point, which has up to 900 MB for 53 million parameters, and for the classifier."""
START_SECONDS = 40
"""What a training takes at most until its second epoch: copies, compilation, the first one."""
PART_BYTES = 15 * 2**20
"""Size of the files that `pack` makes."""

STARTED = time.monotonic()


class SliceOverError(Exception):
    """There is no time for more in this call."""


@dataclass(frozen=True)
class Job:
    """What is to be done, and with what.

    Attributes:
        model: the network.
        training: the recipe; its seed is replaced.
        sets: training, validation and test images.
        compute: where and in which numbers; evaluation has its device and precision.
        folder: where everything lies that a later call needs.
        slice_seconds: after which this call ends.
        part: what is judged on, `validation` for trials or `test`.
        images: number of images of it that are distorted, evenly over the classes.
        adapted: whether to judge with adapted batch-norm statistics, too.
        quick: whether this is only a trial of the script.
    """

    model: ModelConfig
    training: TrainingConfig
    sets: tuple[ImageSet, ImageSet, ImageSet]
    compute: Compute
    folder: Path
    slice_seconds: float
    part: str
    images: int
    adapted: bool
    quick: bool

    @property
    def judged(self) -> ImageSet:
        """Images that are judged on."""
        return self.sets[2] if self.part == "test" else self.sets[1]

    def seconds_left(self) -> float:
        """Return how much of this call's time is left."""
        return self.slice_seconds - (time.monotonic() - STARTED)

    def home(self, seed: int) -> Path:
        """Return the folder of one member."""
        return self.folder / f"seed_{seed}"

    def autocast(self) -> AbstractContextManager[object]:
        """Compute networks in the precision of `compute`."""
        device, precision = self.compute.device, self.compute.precision
        reduced = precision != torch.float32
        return torch.autocast(device.type, precision if reduced else None, reduced)


def read_recipe(
    env: str, changes: list[str], name: str = "champion"
) -> tuple[ModelConfig, TrainingConfig]:
    """Read a model's block as Kedro would merge it, and make the changes PATH=VALUE.

    Raises:
        UserError: there is no such environment, or a change of no parameter or to no value of it.
    """
    files = []
    for folder in dict.fromkeys(("base", env)):
        file = ROOT / "conf" / folder / "parameters_training.yml"
        if not file.exists():
            raise UserError(f"there is no {file}: name an environment with one, such as held_out")
        files.append(OmegaConf.load(file).get(name, {}))
    block: Any = OmegaConf.to_container(OmegaConf.merge(*files))
    changed: Any = OmegaConf.to_container(OmegaConf.from_dotlist(changes))
    recipe = Recipe(ModelConfig(**block["model"]), TrainingConfig(**block["training"]))
    recipe = recipe.with_changes(dict(leaves(changed)))
    return recipe.model, recipe.training


def read_images(data: Path, quick: bool) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Return training, validation and test images."""
    if quick:
        sizes = {"train": (6, 0), "validation": (2, 1), "test": (1, 2)}
        return tuple(
            generate("target", "train" if name == "train" else "test", count, seed)
            for name, (count, seed) in sizes.items()
        )  # type: ignore[return-value]
    official, test_set = read_cifar100(data)
    return (*stratified_split(official, VALIDATION_SHARE, 0), test_set)


# Training


def train_member(job: Job, seed: int) -> None:
    """Train one member to its end, or until the slice is over."""
    home = job.home(seed)
    file = home / "classifier.safetensors"
    config = job.training.model_copy(update={"seed": seed})
    recipe = {
        "model": job.model.model_dump(mode="json"),
        "training": config.model_dump(mode="json"),
    }
    if file.exists():
        _check_recipe(load_classifier(file).spec.recipe, recipe, home)
        return
    if job.seconds_left() < START_SECONDS and not job.quick:
        raise SliceOverError
    begun = home / "recipe.json"  # its resume point and its seconds are of this one
    if begun.exists():
        _check_recipe(json.loads(begun.read_text()), recipe, home)
    _write(begun, recipe)
    started = time.monotonic()
    train_set, validation_set, _ = job.sets
    normalization = asdict(channel_statistics(train_set.images))
    classifier = build_classifier(train_set, normalization, job.model, config)
    ends = [started]

    def stop_in_time(record: EpochRecord) -> None:
        ends.append(time.monotonic())
        print(
            f"seed {seed}, epoch {record.epoch}/{config.epochs}: loss {record.train_loss:.3f}, "
            f"validation {record.validation_accuracy:.2%}, {record.images_per_second:,.0f} "
            f"images/s, {job.seconds_left():.0f} s left",
            flush=True,
        )
        # Larger images make later epochs slower.
        needed = STORE_SECONDS + 2 * (ends[-1] - ends[-2])
        if record.epoch < config.epochs and job.seconds_left() < needed:
            raise SliceOverError

    try:
        result = train(
            classifier,
            train_set,
            validation_set,
            config,
            job.compute,
            home / "resume",
            stop_in_time,
        )
    finally:
        wall_seconds = _add_seconds(home / "wall_seconds.json", time.monotonic() - started)
    summary = {
        "seed": seed,
        "wall_seconds": wall_seconds,
        **result.summary(),
        "history": [asdict(record) for record in result.history],
    }
    _write(home / "training.json", summary)
    save_classifier(result.classifier, file)  # now the member is finished
    shutil.rmtree(home / "resume")


def _check_recipe(stored: dict[str, Any], wanted: dict[str, Any], home: Path) -> None:
    if {part: stored.get(part) for part in wanted} != wanted:
        raise UserError(f"{home} holds a classifier of another recipe: name another --work")


def _add_seconds(file: Path, seconds: float) -> float:
    """Add up the time of several calls; a call that was killed counts for nothing."""
    total = float(json.loads(file.read_text())) if file.exists() else 0.0
    _write(file, total + seconds)
    return total + seconds


# Judging


def judge(job: Job, seeds: list[int]) -> dict[str, Any]:
    """Judge all members and their ensemble, or as many sets as the slice has time for."""
    name = "_".join([job.part, *map(str, seeds), str(job.images)])
    file = job.folder / f"{name}{'' if job.adapted else '_unadapted'}.json"
    classifiers = [job.home(seed) / "classifier.safetensors" for seed in seeds]
    digests = [file_digest(classifier, "sha256") for classifier in classifiers]
    state: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if state.get("classifiers") != digests:  # others were judged: trained or unpacked since
        state = {"classifiers": digests, "seconds": 0.0, "sets": {}}
    members = [load_classifier(stored).to(job.compute.device) for stored in classifiers]
    if job.adapted and "source_weight" not in state:
        started = time.monotonic()
        validation = stratified_subset(job.sets[1], min(WEIGHT_IMAGES, job.images), 0)
        with job.autocast():
            ranked = rank_source_weights(members[0], validation, SOURCE_WEIGHTS, 0)
        state |= {"source_weight": next(iter(ranked)), "validation_by_weight": ranked}
        state["seconds"] += time.monotonic() - started
        _write(file, state)
    # All of them clean, fewer distorted ones where time is short.
    fewer = stratified_subset(job.judged, job.images, 0)
    missing = [pair for pair in SETS if _key(pair) not in state["sets"]]
    for pair, images in _distorted(missing, job.judged, fewer):
        started = time.monotonic()
        with job.autocast():
            state["sets"][_key(pair)] = _count_hits(members, images, state.get("source_weight"))
        spent = time.monotonic() - started
        state["seconds"] += spent
        _write(file, state)
        print(f"{_key(pair)}: {spent:.1f} s, {job.seconds_left():.0f} s left", flush=True)
        if pair != missing[-1] and job.seconds_left() < 2 * spent:
            raise SliceOverError
    return state


def _distorted(
    pairs: list[tuple[str, int]], clean: ImageSet, fewer: ImageSet
) -> Iterator[tuple[tuple[str, int], ImageSet]]:
    """Distort images in threads, some sets ahead of the network."""

    def make(pair: tuple[str, int]) -> ImageSet:
        return clean if pair == CLEAN else fewer.with_images(corrupt(fewer.images, *pair, seed=0))

    # Three keep ahead of the network. With eight, sets took 1.5 s on an H200 and the last 0.8 s:
    # most likely the thread that starts kernels had to wait for the interpreter till then.
    with ThreadPoolExecutor(3) as pool:
        futures: list[tuple[tuple[str, int], Future[ImageSet]]] = [
            (pair, pool.submit(make, pair)) for pair in pairs
        ]
        try:
            while futures:
                pair, future = futures.pop(0)  # forgotten at once: each set is 30 MB
                yield pair, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _count_hits(
    members: list[Classifier], images: ImageSet, source_weight: float | None
) -> dict[str, Any]:
    """Count right answers of every member and of the ensemble by every method.

    The methods are those of `evaluation.robustness`; what they have in common is computed once.
    Without a `source_weight` none of them adapts.
    """
    device = members[0].mean.device
    labels = images.labels.to(device)
    pixels = images.images.to(device)
    outputs: dict[str, list[torch.Tensor]] = defaultdict(list)
    for member in members:
        ways = [(member, "plain", "tta")]
        if source_weight is not None:
            adapted = adapt_batch_norm(member, pixels, source_weight)
            ways.append((adapted, "batch_norm", "batch_norm_tta"))
        for classifier, single, several in ways:
            of_views = [predict_logits(classifier, view) for view in views(pixels)]
            outputs[single].append(of_views[0])  # the first view is the image itself
            outputs[several].append(mean_log_probabilities(of_views))

    def hits(logits: torch.Tensor) -> int:
        return int((logits.argmax(1) == labels).sum())

    return {
        "images": len(images),
        "members": {method: [hits(one) for one in logits] for method, logits in outputs.items()},
        "ensemble": {
            method: hits(mean_log_probabilities(logits)) for method, logits in outputs.items()
        },
    }


def _key(pair: tuple[str, int]) -> str:
    return f"{pair[0]} {pair[1]}"


# Results


def summarize(job: Job, seeds: list[int], state: dict[str, Any], command: str) -> dict[str, Any]:
    """Return everything about one recipe that a reader may ask for."""
    trainings = [json.loads((job.home(seed) / "training.json").read_text()) for seed in seeds]
    return {
        "track": job.training.augmentation.track,
        "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": describe_machine(),
        "seeds": seeds,
        "precision": str(job.compute.precision),
        "compiled": job.compute.compiled,
        "recipe": {
            "model": job.model.model_dump(mode="json"),
            "training": job.training.model_dump(mode="json"),
        },
        "judged_on": job.part,
        "images": {"clean": len(job.judged), "distorted": min(job.images, len(job.judged))},
        "trainings": trainings,
        "source_weight": state.get("source_weight"),
        "validation_by_weight": state.get("validation_by_weight"),
        "judging_seconds": state["seconds"],
        "members": [accuracies(state["sets"], number) for number in range(len(seeds))],
        "ensemble": accuracies(state["sets"], None) if len(seeds) > 1 else None,
    }


def accuracies(sets: dict[str, Any], member: int | None) -> dict[str, Any]:
    """Return accuracies in [0, 1] by method, of one member or (None) of the ensemble.

    Of judging that was cut off it takes the corruptions that were judged at all severities.
    """

    def accuracy(key: str, method: str) -> float:
        counts = sets[key]
        right = counts["ensemble"][method]
        if member is not None:
            right = counts["members"][method][member]
        return float(right / counts["images"])

    complete = [
        name
        for name in CORRUPTIONS
        if all(_key((name, severity)) in sets for severity in SEVERITIES)
    ]
    figures = {}
    for method in sets[_key(CLEAN)]["ensemble"]:
        per_corruption = {
            name: statistics.mean(accuracy(_key((name, s)), method) for s in SEVERITIES)
            for name in complete
        }
        figures[method] = {
            "clean": accuracy(_key(CLEAN), method),
            "corrupted": statistics.mean(per_corruption.values()),
            "per_corruption": per_corruption,
        }
    return figures


def table(record: dict[str, Any]) -> str:
    """Return the figures of one recipe as a Markdown table."""
    rows = ["| | clean | corrupted |", "| --- | --- | --- |"]
    methods = list(record["members"][0])
    for method in methods:
        cells = [
            spread([100 * member[method][kind] for member in record["members"]])
            for kind in ("clean", "corrupted")
        ]
        rows.append(f"| {method}, {len(record['seeds'])} seeds | {' | '.join(cells)} |")
    for method in methods if record["ensemble"] else ():
        figures = record["ensemble"][method]
        cells = [f"{100 * figures[kind]:.2f}" for kind in ("clean", "corrupted")]
        rows.append(f"| {method}, ensemble | {' | '.join(cells)} |")
    return "\n".join(rows)


def run(job: Job, seeds: list[int], command: str) -> None:
    """Train, judge and store; in as many calls as it takes."""
    try:
        for seed in seeds:
            train_member(job, seed)
        state = judge(job, seeds)
    except SliceOverError:
        print("The slice is over: give the same command again.")
        return
    record = summarize(job, seeds, state, command)
    _write(job.folder / "result.json", record)
    print(table(record))
    if job.part == "test" and not job.quick:
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        _write(RESULTS, stored | {_name(record, stored): record})
    print("Done.")


def _name(record: dict[str, Any], stored: dict[str, Any]) -> str:
    """Return under which name to store: a new one, or that of an earlier result of the same."""
    recipe, seeds = record["recipe"], record["seeds"]
    name = (
        f"{record['track']}, {recipe['model']['architecture']}, {len(seeds)} seeds, "
        f"{recipe['training']['epochs']} epochs"
    )
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    return next(one for one in names if one not in stored or _is_of_same(stored[one], record))


def _is_of_same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two results are of the same recipe and seeds, judged alike."""
    parts = [
        (one["recipe"], one["seeds"], one["images"], list(one["members"][0]))
        for one in (first, second)
    ]
    return parts[0] == parts[1]


# Speed


def measure_speed(job: Job) -> None:
    """Print images a second of real training steps, and how long the whole recipe would take."""
    images = 300 if job.quick else 15_000
    train_set = stratified_subset(job.sets[0], images, 0)
    validation_set = stratified_subset(job.sets[1], 100, 0)
    sizes = [size for _, size in job.training.progressive_sizes] + [None]
    shares = [share for share, _ in job.training.progressive_sizes] + [1.0]
    print(describe_machine())
    for compiled in (False, True) if job.compute.compiled else (False,):
        minutes = 0.0
        for size, begin, end in zip(sizes, [0.0, *shares], shares, strict=False):
            changes = {"epochs": 3, "progressive_sizes": ((0.99, size),) if size else ()}
            config = job.training.model_copy(update=changes)
            normalization = asdict(channel_statistics(train_set.images))
            classifier = build_classifier(train_set, normalization, job.model, config)
            compute = replace(job.compute, compiled=compiled)
            history = train(classifier, train_set, validation_set, config, compute).history
            # The first epoch makes copies, chooses kernels and compiles; the last is at full size.
            rate = max(record.images_per_second for record in history[1:])
            minutes += (end - begin) * job.training.epochs * len(job.sets[0]) / rate / 60
            side = size or train_set.image_size[0]
            # Backward passes take twice the operations of the forward pass.
            flops = 3 * count_flops(replace(classifier.spec, image_size=side)) * rate
            print(
                f"{'compiled' if compiled else 'eager'}, {side} pixels: {rate:,.0f} images/s "
                f"({flops / 1e12:.1f} TFLOP/s), first epoch {history[0].seconds:.1f} s",
                flush=True,
            )
        print(f"{job.training.epochs} epochs: {minutes:.1f} min of training steps", flush=True)


# Carrying


def pack_members(job: Job, seeds: list[int], output: Path) -> None:
    """Write trained members as bfloat16 in files of at most `PART_BYTES`.

    Filters are rounded to bfloat16 in evaluation anyway; what has one dimension stays as it is.
    """
    for seed in seeds:
        classifier = load_classifier(job.home(seed) / "classifier.safetensors")
        weights = {
            name: value.bfloat16() if value.ndim == 4 else value
            for name, value in classifier.state_dict().items()
            if name.startswith("network")  # the other buffers come from the spec
        }
        training = json.loads((job.home(seed) / "training.json").read_text())
        about = {"spec": asdict(classifier.spec), "training": training, "seed": seed}
        content = pack(weights, "member", about)
        for number, start in enumerate(range(0, len(content), PART_BYTES)):
            with atomic_path(output / f"seed_{seed}.part{number}") as temporary:
                temporary.write_bytes(content[start : start + PART_BYTES])


def unpack_members(job: Job, folder: Path) -> None:
    """Put packed members where `run` looks for them."""
    firsts = sorted(folder.glob("seed_*.part0"))
    if not firsts:
        raise UserError(f"{folder} holds no packed members: name the --output of pack")
    for first in firsts:
        parts = sorted(folder.glob(f"{first.stem}.part*"), key=lambda p: int(p.suffix[5:]))
        whole = job.folder / f"{first.stem}.packed"
        with atomic_path(whole) as temporary:
            temporary.write_bytes(b"".join(part.read_bytes() for part in parts))
        weights, about = unpack(whole, "member")
        classifier = Classifier(ClassifierSpec.from_json(json.dumps(about["spec"])))
        classifier.load_state_dict({**classifier.state_dict(), **weights})
        save_classifier(classifier, job.home(about["seed"]) / "classifier.safetensors")
        _write(job.home(about["seed"]) / "training.json", about["training"])
        whole.unlink()


def _write(file: Path, content: object) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "run", "pack", "unpack"))
    parser.add_argument("--data", type=Path, default=Path("data/01_raw"), help="raw_data folder")
    parser.add_argument("--work", type=Path, default=Path("data/champion"), help="kept for later")
    parser.add_argument("--env", default="base", help="base (track open) or held_out")
    parser.add_argument("--set", nargs="+", default=[], metavar="PATH=VALUE", help="of the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--on", choices=("validation", "test"), default="test", help="judge on")
    parser.add_argument("--images", type=int, default=10_000, help="of them that are distorted")
    parser.add_argument("--unadapted", action="store_true", help="judge in half of the time")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="train through torch.compile")
    parser.add_argument("--slice-seconds", type=float, default=540)
    parser.add_argument("--input", type=Path, help="folder of packed members")
    parser.add_argument("--output", type=Path, help="folder for packed members")
    parser.add_argument("--quick", action="store_true", help="a trial on drawn images")
    chosen = parser.parse_args()
    changes = chosen.set
    if chosen.quick:
        changes = ["model.architecture=wrn_10_1", "training.epochs=3", "training.batch_size=100"]
        changes += ["training.augmentation.corruption_copies=1", *chosen.set]
    torch.backends.cudnn.benchmark = True  # few shapes, each used thousands of times
    model, training = read_recipe(chosen.env, changes)
    needs_images = chosen.what in ("speed", "run")
    empty: Any = ()
    job = Job(
        model=model,
        training=training,
        sets=read_images(chosen.data, chosen.quick) if needs_images else empty,
        compute=Compute.of(
            ComputeConfig(device=chosen.device, precision="auto", compile=chosen.compile)
        ),
        folder=chosen.work / training.augmentation.track,
        slice_seconds=chosen.slice_seconds,
        part=chosen.on,
        images=chosen.images,
        adapted=not chosen.unadapted,
        quick=chosen.quick,
    )
    if chosen.what == "speed":
        measure_speed(job)
    elif chosen.what == "run":
        run(job, chosen.seeds, command_line())
    elif chosen.what == "pack":
        pack_members(job, chosen.seeds, _named(chosen.output, "--output"))
    else:
        unpack_members(job, _named(chosen.input, "--input"))


def _named(folder: Path | None, option: str) -> Path:
    if folder is None:
        raise UserError(f"name a folder with {option}")
    return folder


if __name__ == "__main__":
    run_script(main)
