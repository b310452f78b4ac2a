"""Results with the command and the machine that made them, and the tables made of them.

    python benchmarks/results.py run simple_cnn --pipelines=simple_cnn --params=raw_data=DIR
    python benchmarks/results.py tables

`run` runs `kedro run` with the arguments after the name, and stores what came out in
docs/results/runs/NAME.json: every judged model's metrics and training summary, wall time, peak
memory, machine and versions. `tables` writes those figures into README.md.
"""

import argparse
import json
import re
import resource
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import describe_machine

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "docs" / "results" / "runs"

# Folders on one machine mean nothing on another.
PLACEHOLDERS = (
    (re.compile(r"raw_data=[^,]+"), "raw_data=DIR"),
    (re.compile(r"weights=[^,]+"), "weights=FILE"),
)

# (row, file in RUNS, model in it, what the seed report got on validation and test images)
REAL_ROWS = (
    ("SimpleCNN", "simple_cnn", "simple_cnn", "33.61, 37.26"),
    ("ResNet-50 from scratch", "resnet50", "resnet50", "34.68, 37.12"),
    ("SqueezeNet 1.1, ImageNet weights", "squeezenet", "transfer", ""),
    ("SqueezeNet 1.1, random weights", "squeezenet_scratch", "transfer", ""),
)


def run(name: str, arguments: list[str]) -> None:
    """Run `kedro run` and store what it made."""
    started = time.time()
    kedro = [str(Path(sys.executable).with_name("kedro")), "run", *arguments]
    subprocess.run(kedro, cwd=ROOT, check=True)
    record = {
        "command": _public(shlex.join(["kedro", "run", *arguments])),
        "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 1),
        "peak_memory_gb": round(
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, 3
        ),
        "machine": {**describe_machine(), "kedro": version("kedro")},
        "models": _judged_since(started),
    }
    RUNS.mkdir(parents=True, exist_ok=True)
    (RUNS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def _public(command: str) -> str:
    for pattern, placeholder in PLACEHOLDERS:
        command = pattern.sub(placeholder, command)
    return command


def _judged_since(started: float) -> dict[str, Any]:
    judged = {}
    for file in (ROOT / "data").glob("**/08_reporting/*/metrics.json/*/metrics.json"):
        if file.stat().st_mtime < started:
            continue
        summary = file.parents[2] / "training_summary.json" / file.parent.name
        judged[file.parents[2].name] = {
            "metrics": json.loads(file.read_text()),
            "training": json.loads((summary / "training_summary.json").read_text()),
        }
    return judged


def tables() -> None:
    """Write the stored figures into README.md, between its markers."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    for marker, table in (("demo", _demo_table()), ("real", _real_table())):
        begin, end = f"<!-- {marker}: benchmarks/results.py -->", f"<!-- /{marker} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    readme.write_text(text)


def _demo_table() -> str:
    record = _load("demo")
    rows = ["| model | train | validation | test |", "| --- | --- | --- | --- |"]
    models = record["models"].items()
    for name, model in sorted(models, key=lambda item: -item[1]["metrics"]["test_accuracy"]):
        shares = [model["metrics"][f"{part}_accuracy"] for part in ("train", "validation", "test")]
        rows.append(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    half = max(
        model["metrics"]["test_accuracy_high"] - model["metrics"]["test_accuracy_low"]
        for model in record["models"].values()
    )
    return "\n".join(
        [
            *rows,
            "",
            f"Top-1 accuracy, 1,000 test images (95 % intervals up to ±{half / 2:.1%}). "
            f"`{record['command']}` took {record['wall_seconds']:.0f} s on {_machine(record)}.",
        ]
    )


def _real_table() -> str:
    rows = [
        "| model | report: val, test | val | test (95 % interval) | top-5 | training | run |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    commands = []
    for title, name, model, report in REAL_ROWS:
        if not (RUNS / f"{name}.json").exists():
            continue
        record = _load(name)
        metrics, training = (record["models"][model][part] for part in ("metrics", "training"))
        low, high = (100 * metrics[f"test_accuracy_{side}"] for side in ("low", "high"))
        rows.append(
            f"| {title} | {report or '-'} | {100 * metrics['validation_accuracy']:.2f} "
            f"| **{100 * metrics['test_accuracy']:.2f}** ({low:.1f} to {high:.1f}) "
            f"| {100 * metrics['test_top5_accuracy']:.1f} "
            f"| {training['epochs']} epochs, {training['images_per_second']:,.0f} images/s "
            f"| {_minutes(record['wall_seconds'])}, {record['peak_memory_gb']:.1f} GB |"
        )
        commands.append(f"- {title}: `{record['command']}` ({record['date']}, {_machine(record)})")
    return "\n".join([*rows, "", "Accuracies in percent, one seed each:", "", *commands])


def _load(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RUNS / f"{name}.json").read_text())
    return record


def _machine(record: dict[str, Any]) -> str:
    about = record["machine"]
    return f"{about['cores']} cores of an {about['processor']}, torch {about['torch']}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("name")
    runner.add_argument("arguments", nargs=argparse.REMAINDER)
    commands.add_parser("tables")
    chosen = parser.parse_args()
    if chosen.command == "run":
        run(chosen.name, chosen.arguments)
    else:
        tables()


if __name__ == "__main__":
    main()
