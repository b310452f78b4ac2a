"""What this project adds to the start of Kedro's commands, against an empty Kedro project.

    python benchmarks/startup.py [--rounds 7] [--output docs/results/startup.json]

Two commands, in both projects by turns: `kedro registry list`, and a `kedro run` that has nothing
to do: all outputs of `simple_cnn` exist (made once before, on the embedded data), beside one node
that returns at once in the empty project. Wall time depends on what else the machine does; the CPU
time of the process (user and system) hardly does.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from machine import command_line, describe_machine
from own_data import PROJECT, copy_configuration

KEDRO = [sys.executable, "-m", "kedro"]
QUIET = {**os.environ, "DO_NOT_TRACK": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
RUN = ["run", "--pipelines=simple_cnn", "--env=sample", "--params=simple_cnn.training.epochs=1"]

ONE_NODE = """
from kedro.pipeline import Node, Pipeline


def nothing() -> int:
    return 0


def register_pipelines() -> dict[str, Pipeline]:
    return {"__default__": Pipeline([Node(nothing, None, "zero", name="nothing")])}
"""


def main(rounds: int, output: Path | None) -> None:
    """Print, and store on request, every measurement and what it comes to."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        empty = _empty_project(Path(name))
        configuration = copy_configuration(Path(name), "sample", Path(name) / "data")
        run = [*RUN, f"--conf-source={configuration}"]
        _seconds(run, PROJECT)
        commands = {
            "registry_list": {"empty": (["registry", "list"], empty)},
            "run": {"empty": (["run"], empty)},
        }
        commands["registry_list"]["project"] = (["registry", "list"], PROJECT)
        commands["run"]["project"] = ([*run, "--only-missing-outputs"], PROJECT)
        measured = {
            command: {subject: {"wall": [], "cpu": []} for subject in subjects}
            for command, subjects in commands.items()
        }
        for _ in range(rounds):
            for command, subjects in commands.items():
                for subject, (arguments, folder) in subjects.items():
                    wall, cpu = _seconds(arguments, folder)
                    measured[command][subject]["wall"].append(wall)
                    measured[command][subject]["cpu"].append(cpu)
    outcome = {
        "header": {
            "command": command_line(),
            "what": "seconds of Kedro's commands here and in an empty project",
            **describe_machine(),
            "load_average_at_start": round(load, 1),
            "kedro": version("kedro"),
            "kedro_viz": version("kedro-viz"),
        },
        "summary": {
            clock: {
                "registry_list_ratio": _ratio(measured["registry_list"], clock),
                "run_extra_seconds": _extra(measured["run"], clock),
            }
            for clock in ("wall", "cpu")
        },
        "seconds": measured,
    }
    print(json.dumps(outcome["summary"], indent=2))
    if output:
        output.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")


def _empty_project(folder: Path) -> Path:
    """Make a new Kedro project with one node in it."""
    new = [*KEDRO, "new", "--name=empty", "--tools=none", "--example=no", "--telemetry=no"]
    subprocess.run(new, cwd=folder, env=QUIET, check=True, capture_output=True)
    registry = folder / "empty" / "src" / "empty" / "pipeline_registry.py"
    registry.write_text(ONE_NODE, encoding="utf-8")
    return folder / "empty"


def _seconds(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Return wall and CPU seconds of a command of Kedro's."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [*KEDRO, *arguments], cwd=folder, env=QUIET, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"kedro {' '.join(arguments)} failed in {folder}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def _ratio(command: dict[str, dict[str, list[float]]], clock: str) -> float:
    project, empty = (statistics.median(command[name][clock]) for name in ("project", "empty"))
    return round(project / empty, 2)


def _extra(command: dict[str, dict[str, list[float]]], clock: str) -> float:
    project, empty = (statistics.median(command[name][clock]) for name in ("project", "empty"))
    return round(project - empty, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    main(options.rounds, options.output)
