"""Results with the command and the machine that made them, and the tables made of them.

    python benchmarks/results.py run simple_cnn --pipelines=simple_cnn --params=raw_data=DIR
    python benchmarks/results.py run NAME_robustness --pipelines=robustness --namespaces=…
    python benchmarks/results.py tables

`run` runs `kedro run` with the arguments after the name, and stores what came out in
docs/results/runs/NAME.json: every model's metrics, history, training summary and accuracy on
corrupted images, as far as the run made them; wall time, peak memory, machine and versions.
`tables` writes those figures into README.md, with those that champion.py and time_to_75.py stored,
and what throughput.py stored into docs/throughput.md, and the trials in docs/results/*.csv into
docs/tuning.md and docs/champion.md.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from champion import read_recipe
from machine import describe_machine, public_command, run_script
from report_tables import fill, spread, throughput_table
from trial_tables import ablation_table, grid_table, screening_table

from cifar100_transfer.errors import UserError
from cifar100_transfer.nested import leaves

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
RUNS = RESULTS / "runs"

# What is stored of a model, by the name of its artifact.
ARTIFACTS = {
    "metrics.json": "metrics",
    "training_summary.json": "training",
    "history.csv": "history",
    "robustness_summary.json": "robustness",
}
JUDGED = ("robustness", "views")
"""Runs of the pipeline `robustness`, by what follows NAME_: the usual methods, and six views."""
DASH = "\N{EN DASH}"


class Row(NamedTuple):
    """One row of the table of results on the real data.

    Attributes:
        title: of the row.
        name: of its files in RUNS: NAME.json, further seeds in NAME_seed1.json and so on, and
            NAME_robustness.json, NAME_views.json.
        model: in those files.
        report: what the seed report got on test images, in percent; empty: it has no such model.
        public: the best public figure for such a network, in percent, and where it is from.
    """

    title: str
    name: str
    model: str
    report: str = ""
    public: str = ""


ROWS = (
    Row("SimpleCNN", "simple_cnn", "simple_cnn", "37.26"),
    Row("SimpleCNN in bfloat16", "simple_cnn_bf16", "simple_cnn"),
    Row(
        "ResNet-50 from scratch, the report's recipe",
        "resnet50",
        "resnet50",
        "37.12",
        "77.39 ([200 epochs](https://github.com/weiaicunzai/pytorch-cifar100), on GPUs)",
    ),
    Row(
        "ResNet-50 from scratch, the report's recipe, in bfloat16",
        "resnet50_bf16",
        "resnet50",
        "37.12",
    ),
    Row(
        "SqueezeNet 1.1, ImageNet weights, the report's recipe for transfer at 64 pixels",
        "squeezenet_report",
        "transfer",
    ),
    Row("The same at 32 pixels, as the report's", "squeezenet_report_32", "transfer"),
    Row("SqueezeNet 1.1, ImageNet weights", "squeezenet", "transfer"),
    Row(
        "SqueezeNet 1.1, ImageNet weights, robust recipe (track `open`)",
        "squeezenet_robust",
        "transfer",
    ),
    Row("SqueezeNet 1.1, random weights", "squeezenet_scratch", "transfer"),
    Row("`express`, from scratch", "express_12", "express"),
    Row("`express`, its longer recipe", "express", "express"),
    Row(
        "`express`, its longer recipe with AugMix (track `held_out`)",
        "express_held_out",
        "express",
    ),
    Row(
        "`express`, robust recipe (track `open`)",
        "express_robust",
        "express",
        public="74.25 corrupted ([ResNet-152](https://github.com/chenyu020816/dl4ds_midterm))",
    ),
)


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
    return set((ROOT / "data").glob("**/08_reporting/runs/*.json"))


def _run_of(process: int, manifests: Collection[Path]) -> str:
    """Return the name of the run that a process has done; others may have run meanwhile."""
    for file in manifests:
        if _read(file)["process"] == process:
            return file.stem
    raise UserError("no manifest of this run came to data/: its results are not stored")


def _made_by(run: str) -> dict[str, Any]:
    """Return the artifacts of a run, by model and kind."""
    made: dict[str, dict[str, Any]] = {}
    for artifact, key in ARTIFACTS.items():
        for file in (ROOT / "data").glob(f"**/08_reporting/*/{artifact}/{run}/{artifact}"):
            made.setdefault(file.parents[2].name, {})[key] = _read(file)
    return made


def _read(file: Path) -> Any:
    """Read a JSON file, or the columns of a table of numbers."""
    text = file.read_text()
    if file.suffix == ".json":
        return json.loads(text)
    names, *rows = csv.reader(text.splitlines())
    columns = zip(*([round(float(cell), 6) for cell in row] for row in rows), strict=True)
    return dict(zip(names, map(list, columns), strict=True))


def tables() -> None:
    """Write the stored figures into the pages."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(with_tables(page.read_text(), name))


def with_tables(text: str, page: str = "README.md") -> str:
    """Return the text of one of the pages with the stored figures between its markers."""
    return fill(text, "results.py", PAGES[page]())


def _readme_tables() -> dict[str, str]:
    return {"demo": _demo_table(), "real": _real_table(), "gpu": _gpu_table()}


def _throughput_tables() -> dict[str, str]:
    found = {}
    for name in ("throughput_simple_cnn", "throughput_resnet50", "throughput_gpu"):
        for result in _read(RESULTS / f"{name}.json")["results"]:
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
    return {"ablation_few_images": ablation_table(_trials("ablation_few_images"))}


def _trials(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


PAGES = {
    "README.md": _readme_tables,
    "docs/throughput.md": _throughput_tables,
    "docs/tuning.md": _tuning_tables,
    "docs/champion.md": _champion_tables,
}


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
    lines = [
        "| model | report | best public | ours: test | top-5 | corrupted | adapted | views "
        "| training | run |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    commands = []
    for row in ROWS:
        records = _records(row.name)
        if not records:
            continue
        lines.append(_real_row(row, records))
        commands += [
            f"- {row.title}: `{runs[0]['command']}` ({', '.join(_circumstances(runs, row.model))})"
            for runs in (records, *(_records(f"{row.name}_{kind}") for kind in JUDGED))
            if runs
        ]
    return "\n".join(
        [
            *lines,
            "",
            "Accuracies on the 10,000 test images in percent: one seed with its 95 % interval, or "
            "the mean ± standard deviation of several (of fewer where their number stands beside "
            "it). *Corrupted*: mean over nineteen corruptions "
            "at five severities; *adapted*: the same with batch-norm statistics re-estimated on "
            "each of them (transductive); *views*: the mean over six mirrored and shifted views of "
            "each corrupted image. Of several seeds, time and images/s are those of the first, "
            "the peak memory is that of the last. Commands:",
            "",
            *commands,
        ]
    )


def _gpu_table() -> str:
    champions = [
        record for record in _read(RESULTS / "champion.json").values() if record["track"] == "open"
    ]
    race = _read(RESULTS / "time_to_75.json")
    machine, images = champions[0]["machine"], champions[0]["images"]
    return "\n".join(
        [
            "| model | clean | corrupted | adapted | training |",
            "| --- | --- | --- | --- | --- |",
            *(row for record in champions for row in _champion_rows(record)),
            *_race_rows(race),
            "",
            f"On one {machine['gpu']}, torch {machine['torch']}, in percent, mean ± standard "
            f"deviation over several seeds. *Clean*: all {images['clean']:,} test images; "
            f"*corrupted* and *adapted*: as above, of {images['distorted']:,} test images, after "
            "training on other images under the same nineteen corruptions (track `open`). "
            "Commands:",
            "",
            *(f"- `{_champion_command(record)}` ({record['date']})" for record in champions),
            f"- `{race['command']}`",
        ]
    )


def _champion_rows(record: dict[str, Any]) -> list[str]:
    seconds = [training["wall_seconds"] for training in record["trainings"]]
    seeds, mean = len(seconds), statistics.mean(seconds)
    cost = f"{record['recipe']['training']['epochs']} epochs, {mean:.0f} s each"
    title = f"`champion` ({seeds} seed{'s' if seeds > 1 else ''})"
    judged = [(title, record["members"], cost)]
    if record["ensemble"]:
        spent = f"{seeds} of them, {sum(seconds) / 60:.1f} min"
        judged.append((f"Ensemble of these {seeds}", [record["ensemble"]], spent))
    rows = []
    for name, members, spent in judged:
        for views, plain, adapted in (
            ("", "plain", "batch_norm"),
            (", mean over six views", "tta", "batch_norm_tta"),
        ):
            figures = [(plain, "clean"), (plain, "corrupted"), (adapted, "corrupted")]
            cells = [
                spread([100 * one[method][kind] for one in members]) for method, kind in figures
            ]
            rows.append(f"| {name}{views} | {' | '.join(cells)} | {spent} |")
    return rows


def _champion_command(record: dict[str, Any]) -> str:
    """Return the command that trains by this recipe today, whatever the recipe is by now."""
    model, training = read_recipe("base", [])
    now = dict(leaves({"model": model.model_dump(), "training": training.model_dump(mode="json")}))
    changed = [
        f"{name}={value}"
        for name, value in leaves(record["recipe"])
        if name != "training.seed" and now[name] != value
    ]
    return " ".join([record["command"], *(["--set", *changed] if changed else [])])


def _race_rows(record: dict[str, Any]) -> list[str]:
    summary, epochs = record["summary"], record["recipe"]["training"]["epochs"]
    training = summary["mean_seconds"]
    rows = []
    for way, title, seconds in (
        ("plain", "", training),
        (
            "views",
            ", mean over six views, its time included",
            training + summary["mean_views_seconds"],
        ),
    ):
        accuracy = spread([100 * run[f"{way}_accuracy"] for run in record["runs"]])
        rows.append(
            f"| `express`, {epochs} epochs ({summary['runs']} seeds){title} "
            f"| {accuracy} | {DASH} | {DASH} | {seconds:.1f} s in all |"
        )
    return rows


def _real_row(row: Row, records: list[dict[str, Any]]) -> str:
    models = [record["models"][row.model] for record in records]
    training, first, last = models[0]["training"], records[0], records[-1]
    methods = [
        record["models"][row.model]["robustness"]["methods"]
        for kind in JUDGED
        for record in _records(f"{row.name}_{kind}")
    ]
    cells = [
        row.title,
        row.report or DASH,
        row.public or DASH,
        f"**{_test_accuracy([model['metrics'] for model in models])}**",
        spread([100 * model["metrics"]["test_top5_accuracy"] for model in models], 1),
        *(_corrupted(methods, method, len(models)) for method in ("plain", "batch_norm", "tta")),
        f"{training['epochs']} epochs, {training['images_per_second']:,.0f} images/s",
        f"{first['wall_seconds'] / 60:.1f} min, {last['peak_memory_gb']:.1f} GB",
    ]
    return "| " + " | ".join(cells) + " |"


def _test_accuracy(metrics: list[dict[str, float]]) -> str:
    accuracies = [100 * values["test_accuracy"] for values in metrics]
    mean = spread(accuracies)
    if len(accuracies) > 1:
        return f"{mean} ({len(accuracies)} seeds)"
    low, high = (100 * metrics[0][f"test_accuracy_{side}"] for side in ("low", "high"))
    return f"{mean} ({low:.1f} to {high:.1f})"


def _corrupted(measured: list[dict[str, Any]], method: str, seeds: int) -> str:
    """Return a method's accuracy on corrupted test images; say of how many seeds if not of all."""
    values = [
        100 * methods[method]["test"]["mean_corruption_accuracy"]
        for methods in measured
        if method in methods
    ]
    if not values:
        return DASH
    few = "" if len(values) == seeds else f" ({len(values)} seed{'s' if len(values) > 1 else ''})"
    return spread(values, 1) + few


def _records(name: str) -> list[dict[str, Any]]:
    """Return the runs NAME, NAME_seed1, NAME_seed2, …, as far as they are stored."""
    files = [RUNS / f"{name}.json", *sorted(RUNS.glob(f"{name}_seed*.json"))]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def _circumstances(runs: list[dict[str, Any]], model: str) -> list[str]:
    """Say when and where the first of some runs was made, how many there are, and on what."""
    robustness = runs[0]["models"][model].get("robustness")
    return [
        runs[0]["date"],
        _machine(runs[0]),
        *([f"{len(runs)} seeds"] if len(runs) > 1 else []),
        *([f"{robustness['test_images']:,} test images"] if robustness else []),
    ]


def _load(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RUNS / f"{name}.json").read_text())
    return record


def _machine(record: dict[str, Any]) -> str:
    about = record["machine"]
    threads = about.get("threads", about["cores"])
    share = f"{threads} of " if threads < about["cores"] else ""
    return f"{share}{about['cores']} cores of an {about['processor']}, torch {about['torch']}"


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
    run_script(main)
