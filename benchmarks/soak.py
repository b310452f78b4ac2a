"""Faults at random, for minutes, and a table of what came of them.

    python benchmarks/soak.py damage [--mutations 1000] [--seed 0]
    python benchmarks/soak.py interrupt [--seconds 600] [--seed 0] [--pipelines ...]
    python benchmarks/soak.py memory --raw-data DIR [--weights FILE] [--matching TEXT]
    python benchmarks/soak.py tables

`damage` damages files of every kind. `interrupt` kills every registered pipeline at random moments
and refuses it files beyond random sizes, on the embedded data; after each it runs the pipeline
again and compares what came out with a run that nothing happened to. `memory` measures the peak
memory of the pipelines on the official images; with `--matching` only of those whose command
contains a text, and what they start from must be among them. Each stores its rows in
docs/results/faults as it goes; at the end they are written into docs/faults.md, which `tables`
alone does, too.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report_tables import fill

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "docs" / "results" / "faults"
PAGE = ROOT / "docs" / "faults.md"

# Of the stored artifacts, those that don't tell how long something took.
COMPARED = (
    *("classifier.safetensors", "metrics.json", "train_set.safetensors"),
    *("predictions.safetensors", "validation_predictions.safetensors"),
    *("validation_set.safetensors", "test_set.safetensors", "normalization.json"),
    *("class_counts.csv", "robustness.csv", "submission.csv", "submission.csv.gz"),
    *("confusion_matrix.png", "challenge_score.json", "corruption_grid.png"),
    *("per_class.csv", "picture_predictions.csv", "classifier.onnx", "classifier.pt2"),
)
# One model stands for all where a pipeline consists of the same nodes for each.
NAMESPACES = {
    name: ["--namespaces=simple_cnn"]
    for name in ("robustness", "submission", "challenge_score", "tuning", "ablation")
}
# What a pipeline does not run without.
GIVEN = {
    "export": ["model=simple_cnn"],
    "prediction": ["model=simple_cnn", f"images={ROOT / 'docs/images/sample_grid.png'}"],
}
# Its largest images at once.
EXPRESS = "express.training.epochs=1,express.training.progressive_sizes=[]"
# On the official images, each after those before it. Other epochs need no other memory.
MEASURED = (
    ("--pipelines=ingestion", ""),
    ("--pipelines=simple_cnn", "simple_cnn.training.epochs=1"),
    ("--pipelines=resnet50", "resnet50.model.architecture=resnet18,resnet50.training.epochs=1"),
    ("--pipelines=robustness --namespaces=simple_cnn", "robustness.images=200"),
    ("--pipelines=comparison", ""),
    ("--pipelines=export", "model=simple_cnn"),
    ("--pipelines=prediction", "model=simple_cnn,images=docs/images/sample_grid.png"),
    ("--pipelines=tuning --namespaces=simple_cnn --env=quick", ""),
    ("--pipelines=ablation --namespaces=simple_cnn", "simple_cnn.training.epochs=1"),
    ("--pipelines=screening --env=quick", ""),
    ("--pipelines=pretraining", ""),
    ("--pipelines=transfer", "weights=FILE,transfer.training.epochs=1"),
    ("--pipelines=express", EXPRESS),
    ("--pipelines=express", f"compute.precision=auto,{EXPRESS}"),
    ("--pipelines=express --env=express_robust", f"compute.precision=auto,{EXPRESS}"),
)
NEEDING_WEIGHTS = ("--pipelines=transfer",)
# What other pipelines start from.
BEFORE = ("__default__", "submission")
SKIPPED = ("__default__",)  # it is the models' pipelines and the comparison


def damage(mutations: int, seed: int) -> None:
    """Damage every kind of file; an outcome that isn't allowed ends the script."""
    from tests.faults.mutations import TARGETS, official_challenge, outcomes

    logging.disable(logging.WARNING)
    rows = []
    for name in TARGETS:
        with tempfile.TemporaryDirectory() as folder, official_challenge():
            counted = outcomes(name, Path(folder), mutations, seed)
        print(name, dict(counted), flush=True)
        rows.append({"fault": f"damaged {name}", "times": counted.total(), **counted})
        _store("damage", rows)


def interrupt(seconds: float, seed: int, names: list[str]) -> None:
    """Kill pipelines, and refuse them files, at random moments; compare what a rerun makes.

    Of some pipelines alone, nothing is stored.
    """
    from cifar100_transfer.pipeline_registry import register_pipelines

    end = time.monotonic() + seconds
    chance = random.Random(seed)
    store = (lambda *_: None) if names else _store
    names = names or [name for name in register_pipelines() if name not in SKIPPED]
    counts: dict[str, dict[str, Any]] = {}
    memory = []
    with tempfile.TemporaryDirectory() as folder:
        base = _new_project(Path(folder) / "base")
        for name in BEFORE:
            _finish(base, name)
        references = {}
        for name in names:
            reference = _copy(base, Path(folder) / f"reference_{name}")
            started = time.monotonic()
            status, peak, output = _run(reference, name)
            if status:
                raise SystemExit(f"{name} does not run: {output.splitlines()[-1:]}")
            references[name] = (_digests(reference), time.monotonic() - started)
            shutil.rmtree(reference)
            memory.append({"pipeline": name, "peak_gb": peak})
            store("memory_sample", memory)
            counts[name] = {"fault": f"interrupted `{name}`", "killed": 0, "refused": 0, "over": 0}
        while True:
            for name, (wanted, duration) in references.items():
                for fault in (_kill, _refuse):
                    project = _copy(base, Path(folder) / "project")
                    counts[name][fault(project, name, duration, chance)] += 1
                    _check_all(project)
                    _finish(project, name)
                    _compare(_digests(project), wanted, name)
                    shutil.rmtree(project)
                print(counts[name], flush=True)
                store("interruptions", list(counts.values()))
                if time.monotonic() > end:
                    return


def memory(raw_data: Path, weights: Path | None, matching: str) -> None:
    """Measure the peak memory of those commands, on the official images, that contain a text.

    Without pretrained weights those that need `transfer` are left out.
    """
    path = RESULTS / "memory_real.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    peaks = {row["command"]: row["peak_gb"] for row in stored}
    shown = [
        f"kedro run {options} --params={parameters}".removesuffix(" --params=")
        for options, parameters in MEASURED
    ]
    with tempfile.TemporaryDirectory() as folder:
        project = _new_project(Path(folder) / "real")
        for name, (options, parameters) in zip(shown, MEASURED, strict=True):
            if matching not in name or (not weights and options in NEEDING_WEIGHTS):
                continue
            given = parameters.replace("FILE", str(weights)).replace("docs/", f"{ROOT}/docs/")
            given = f"{given},raw_data={raw_data}".removeprefix(",")
            command = ["kedro", "run", *options.split(), f"--params={given}"]
            status, peaks[name], output = _execute(project, command)
            print(name, status, peaks[name], flush=True)
            if status:
                raise SystemExit(output[-3000:])
            rows = [{"command": name, "peak_gb": peaks[name]} for name in shown if name in peaks]
            _store("memory_real", rows)


def tables() -> None:
    """Write the stored rows into docs/faults.md."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(page: str) -> str:
    """Return a page with the stored rows between its markers."""
    columns = {
        "damage": ["fault", "times", "refused", "unused", "right"],
        "interruptions": ["fault", "killed", "refused", "over"],
        "memory_sample": ["pipeline", "peak_gb"],
        "memory_real": ["command", "peak_gb"],
    }
    return fill(page, "soak.py", {name: _table(name, columns[name]) for name in columns})


def _table(name: str, columns: list[str]) -> str:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return "Not measured yet."
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    rows = json.loads(path.read_text(encoding="utf-8"))
    lines += ["| " + " | ".join(str(row.get(name, 0)) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def _store(name: str, rows: list[dict[str, Any]]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _new_project(folder: Path) -> Path:
    from tests.pipelines.conftest import copy_project

    copy_project(folder)
    (folder / "src").mkdir()
    return folder


def _copy(project: Path, destination: Path) -> Path:
    return Path(shutil.copytree(project, destination))


def _command(pipeline: str) -> list[str]:
    from tests.pipelines.conftest import SMALL

    parameters = ",".join([*_flat(SMALL), *GIVEN.get(pipeline, [])])
    options = NAMESPACES.get(pipeline, [])
    return [
        "kedro",
        "run",
        "--env=sample",
        f"--pipelines={pipeline}",
        *options,
        "--params",
        parameters,
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> list[str]:
    flat: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append(f"{prefix}{name}={value}")
    return flat


def _run(
    project: Path, pipeline: str, limit: int | None = None, kill_after: float | None = None
) -> tuple[int, float, str]:
    return _execute(project, _command(pipeline), limit, kill_after)


def _execute(
    project: Path, command: list[str], limit: int | None = None, kill_after: float | None = None
) -> tuple[int, float, str]:
    """Run a command in the project; return its status, its peak memory in GB, and its output."""
    program = str(Path(sys.executable).with_name(command[0]))
    log = project / "output.txt"

    def limit_files() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    read, write = os.pipe()  # the output itself must not meet the limit
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program, *command[1:]],
            cwd=project,
            env=os.environ
            | {"PYTHONPATH": str(ROOT / "src"), "DO_NOT_TRACK": "1", "COLUMNS": "1000"},
            stdout=write,
            stderr=write,
            preexec_fn=limit_files,  # noqa: PLW1509 - this script has no threads
        )
        os.close(write)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process.pid, signal.SIGKILL)  # as send_signal would forget one that has ended
        with os.fdopen(read, "rb") as pipe:
            file.write(pipe.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = round(usage.ru_maxrss * 1024 / 1e9, 2)
    return process.returncode, peak, log.read_text(encoding="utf-8", errors="replace")


def _finish(project: Path, pipeline: str) -> None:
    status, _, output = _run(project, pipeline)
    if status:
        raise SystemExit(f"{pipeline} did not end:\n{output[-3000:]}")


def _kill(project: Path, pipeline: str, duration: float, chance: random.Random) -> str:
    status, _, output = _run(project, pipeline, kill_after=chance.uniform(0, duration))
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"{pipeline} ended by itself, before it was killed:\n{output[-3000:]}")
    return "over" if status == 0 else "killed"


def _refuse(project: Path, pipeline: str, duration: float, chance: random.Random) -> str:
    limit = int(10 ** chance.uniform(2, 7))
    status, _, output = _run(project, pipeline, limit=limit)
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    if status and (status != 1 or len(lines) != 1 or "Traceback" in output):
        raise SystemExit(f"{pipeline}, files up to {limit} bytes:\n{output[-3000:]}")
    return "refused" if status else "over"


def _stored(project: Path) -> list[Path]:
    return [
        path
        for path in sorted((project / "data").rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


def _check_all(project: Path) -> None:
    """Read every file that lies under its final name."""
    readers = _readers()
    for path in _stored(project):
        reader = readers.get(path.name) or readers.get(path.suffix)
        if reader is None:
            continue
        try:
            reader(path)
        except Exception as error:
            raise SystemExit(f"{path} is incomplete: {error!r}") from error


def _readers() -> dict[str, Callable[[Path], Any]]:
    import numpy as np
    import onnx
    import pandas as pd
    import torch
    from PIL import Image

    from cifar100_transfer.data.files import load_image_set, load_predictions
    from cifar100_transfer.models import load_classifier
    from cifar100_transfer.sealed import unpack
    from cifar100_transfer.training.checkpoint import _read

    def picture(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    return {
        "classifier.safetensors": load_classifier,
        "predictions.safetensors": load_predictions,
        "validation_predictions.safetensors": load_predictions,
        **{f"{part}_set.safetensors": load_image_set for part in ("train", "validation", "test")},
        ".safetensors": lambda path: unpack(path, "part"),
        "resume.pt": _read,
        ".pt2": torch.export.load,
        ".onnx": onnx.load,
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".csv": pd.read_csv,
        ".gz": pd.read_csv,
        ".png": picture,
        ".npy": lambda path: np.load(path, mmap_mode="r"),
    }


def _digests(project: Path) -> dict[str, str]:
    """Return a digest of the newest version of every artifact that doesn't tell times."""
    newest: dict[str, Path] = {}
    for path in _stored(project):  # sorted, so that the newest version comes last
        if path.name in COMPARED:
            versions = path.parents[1]
            artifact = versions if versions.name == path.name else path
            newest[str(artifact.relative_to(project))] = path
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in newest.items()}


def _compare(found: dict[str, str], wanted: dict[str, str], pipeline: str) -> None:
    if found != wanted:
        other = sorted(
            name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)
        )
        raise SystemExit(f"{pipeline} ended otherwise than if nothing had happened: {other}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("damage")
    command.add_argument("--mutations", type=int, default=1000)
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("interrupt")
    command.add_argument("--seconds", type=float, default=600)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--pipelines", nargs="*", default=[])
    command = commands.add_parser("memory")
    command.add_argument("--raw-data", type=Path, required=True)
    command.add_argument("--weights", type=Path, help="ImageNet weights of ResNet-50")
    command.add_argument("--matching", default="")
    commands.add_parser("tables")
    arguments = parser.parse_args()
    match arguments.command:
        case "damage":
            damage(arguments.mutations, arguments.seed)
        case "interrupt":
            interrupt(arguments.seconds, arguments.seed, arguments.pipelines)
        case "memory":
            weights = arguments.weights and arguments.weights.resolve()
            memory(arguments.raw_data.resolve(), weights, arguments.matching)
    tables()


if __name__ == "__main__":
    main()
