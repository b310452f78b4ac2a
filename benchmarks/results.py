"""Results with the command and the machine that made them, and the tables made of them.

    python benchmarks/results.py run simple_cnn --pipelines=simple_cnn --params=raw_data=DIR
    python benchmarks/results.py run NAME_robustness --pipelines=robustness --namespaces=…
    python benchmarks/results.py tables
    python benchmarks/results.py figures

`run` runs `kedro run` with the arguments after the name, and stores what came out in
docs/results/runs/NAME.json: every model's metrics, history, training summary and accuracy on
corrupted images, as far as the run made them; wall time, peak memory, machine and versions.
`tables` writes those figures into README.md and docs/results.md, with those that champion.py and
time_to_75.py stored, and what throughput.py stored into docs/throughput.md, and the trials in
docs/results/*.csv into docs/tuning.md and docs/champion.md. `figures` draws the pictures of
docs/results.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from machine import describe_machine, public_command, run_script
from real_tables import (
    RESULTS,
    RUNS,
    aims_table,
    gpu_table,
    headlines,
    real_table,
    unfinished_table,
)
from report_tables import fill, machine_of, read_stored, throughput_table
from trial_tables import ablation_table, grid_table, recipe_table, screening_table

from cifar100_transfer.errors import UserError

ROOT = Path(__file__).resolve().parent.parent

# What is stored of a model, by the name of its artifact.
ARTIFACTS = {
    "metrics.json": "metrics",
    "training_summary.json": "training",
    "history.csv": "history",
    "robustness_summary.json": "robustness",
}


def run(name: str, arguments: list[str]) -> None:
    """Run `kedro run` and store what it made.

    Raises:
        UserError: the run left no manifest under data/.
    """
    before = _manifests()
    started = time.time()
    kedro = [str(Path(sys.executable).with_name("kedro")), "run", *arguments]
    with subprocess.Popen(kedro, cwd=ROOT) as process:
        if code := process.wait():
            raise subprocess.CalledProcessError(code, kedro)
    record = {
        "command": public_command(["kedro", "run", *arguments]),
        "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 1),
        "peak_memory_gb": round(
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, 3
        ),
        "machine": {**describe_machine(), "kedro": version("kedro")},
        "models": _made_by(_run_of(process.pid, _manifests() - before)),
    }
    RUNS.mkdir(parents=True, exist_ok=True)
    (RUNS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def _manifests() -> set[Path]:
    return set((ROOT / "data").glob("**/08_reporting/runs/[!.]*.json"))


def _run_of(process: int, manifests: Collection[Path]) -> str:
    """Return the name of the run that a process has done; others may have run meanwhile."""
    for file in manifests:
        if read_stored(file)["process"] == process:
            return file.stem
    raise UserError("no manifest of this run came to data/: its results are not stored")


def _made_by(run: str) -> dict[str, Any]:
    """Return the artifacts of a run, by model and kind."""
    made: dict[str, dict[str, Any]] = {}
    for artifact, key in ARTIFACTS.items():
        for file in (ROOT / "data").glob(f"**/08_reporting/*/{artifact}/{run}/{artifact}"):
            made.setdefault(file.parents[2].name, {})[key] = read_stored(file)
    return made


def tables() -> None:
    """Write the stored figures into the pages."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(with_tables(page.read_text(), name))


def figures() -> None:
    """Draw the pictures of docs/results.md."""
    from result_figures import FIGURES  # drawing packages take seconds to import

    for name, draw in FIGURES.items():
        draw().savefig(ROOT / "docs" / "images" / name, dpi=110)


def with_tables(text: str, page: str = "README.md") -> str:
    """Return the text of one of the pages with the stored figures between its markers."""
    return fill(text, "results.py", PAGES[page]())


def _readme_tables() -> dict[str, str]:
    return {"demo": _demo_table(), "results": headlines()}


def _results_tables() -> dict[str, str]:
    return {
        "real": real_table(),
        "gpu": gpu_table(),
        "resnet50_recipe": recipe_table(_trials("resnet50_recipe")),
        "transfer_recipe": recipe_table(_trials("transfer_recipe")),
        "ablation_squeezenet_robust": ablation_table(_trials("ablation_squeezenet_robust")),
    }


def _throughput_tables() -> dict[str, str]:
    found = {}
    for name in ("throughput_simple_cnn", "throughput_resnet50", "throughput_gpu"):
        for result in read_stored(RESULTS / f"{name}.json")["results"]:
            found[f"{name} {result['model']}"] = throughput_table(result)
    return found


def _tuning_tables() -> dict[str, str]:
    epochs, size = "training.epochs", "training.batch_size"
    return {
        **{
            name: ablation_table(_trials(name))
            for name in ("ablation_squeezenet", "ablation_express")
        },
        **{
            name: grid_table(_trials(name), size, epochs)
            for name in ("tuning_sample", "tuning_simple_cnn")
        },
        "screening": screening_table(_trials("screening")),
    }


def _champion_tables() -> dict[str, str]:
    return {
        **{
            name: ablation_table(_trials(name))
            for name in ("ablation_few_images", "ablation_few_images_long")
        },
        "aims": aims_table(),
        "unfinished": unfinished_table(),
    }


def _trials(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


PAGES = {
    "README.md": _readme_tables,
    "docs/results.md": _results_tables,
    "docs/throughput.md": _throughput_tables,
    "docs/tuning.md": _tuning_tables,
    "docs/champion.md": _champion_tables,
}


def _demo_table() -> str:
    record = _load("demo")
    rows = ["| model | train | validation | test |", "| --- | --- | --- | --- |"]
    # Pretraining makes a model, too, which nothing judges.
    judged = {name: model for name, model in record["models"].items() if "metrics" in model}
    order = sorted(judged.items(), key=lambda item: -item[1]["metrics"]["test_accuracy"])
    for name, model in order:
        shares = [model["metrics"][f"{part}_accuracy"] for part in ("train", "validation", "test")]
        rows.append(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    half = max(
        model["metrics"]["test_accuracy_high"] - model["metrics"]["test_accuracy_low"]
        for model in judged.values()
    )
    return "\n".join(
        [
            *rows,
            "",
            f"Top-1 accuracy, 1,000 test images (95 % intervals up to ±{half / 2:.1%}). "
            f"`{record['command']}` took {record['wall_seconds']:.0f} s on {machine_of(record)}.",
        ]
    )


def _load(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RUNS / f"{name}.json").read_text())
    return record


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
    commands.add_parser("figures")
    chosen = parser.parse_args()
    if chosen.command == "run":
        run(chosen.name, chosen.arguments)
    elif chosen.command == "tables":
        tables()
    else:
        figures()


if __name__ == "__main__":
    run_script(main)
