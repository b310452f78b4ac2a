"""Kill a training again and again: does what resumes end as what was never killed?

    python benchmarks/kill_and_resume.py --kills 20
    python benchmarks/kill_and_resume.py --env base --params raw_data=DIR

Every `kedro run` is a process of its own, forked from one that has imported what takes long to.
Everything happens in a temporary data root. One run is left in peace. Then every round starts the
same `kedro run` anew, kills it with SIGKILL, starts it again and lets it finish; classifier and
history (but for the columns of times) must then have the SHA-256 of the undisturbed run. Every
other kill comes at a random moment of the training, the others while a file is being written: as
soon as a randomly chosen one of the temporary files shows up from which resume points and artifacts
are renamed. Exits with 1 if a round ended differently.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import yaml
from machine import describe_machine

FORKS = multiprocessing.get_context("forkserver")
SLOW_IMPORTS = [
    "torch",
    "torchvision",
    "pandas",
    "sklearn.model_selection",
    "seaborn",
    "kedro.framework.cli",
]
PROJECT = Path(__file__).resolve().parents[1]
TIMES = ["seconds", "images_per_second"]
POLL_SECONDS = 0.0005
GOING_ON = re.compile(r"Going\s+on\s+after\s+epoch\s+(\d+)")


@dataclass(frozen=True)
class Run:
    """One command and the folder it works in.

    Attributes:
        arguments: of `kedro`.
        root: its data root.
        model: name of the model that it trains.
    """

    arguments: list[str]
    root: Path
    model: str

    @property
    def resume_point(self) -> Path:
        """The file that a killed training leaves."""
        return self.root / "06_models" / self.model / "resume" / "resume.pt"

    def clear(self) -> None:
        """Remove all that runs made, but not the raw data."""
        for folder in self.root.glob("0[2-8]_*"):
            shutil.rmtree(folder)

    def start(self, log: Path) -> BaseProcess:
        """Start the run; what it says goes to a file."""
        process = FORKS.Process(target=kedro, args=(self.arguments, log))
        process.start()
        return process

    def finish(self, log: Path) -> None:
        """Run to the end."""
        process = self.start(log)
        process.join()
        self.check(process, log)

    def check(self, process: BaseProcess, log: Path) -> None:
        """Exit with what the run said if it failed."""
        if process.exitcode:
            raise SystemExit(f"kedro {shlex.join(self.arguments)} failed:\n{log.read_text()}")

    def digests(self) -> tuple[str, str]:
        """Return the SHA-256 of the newest classifier, and of the history without times."""
        classifier = newest(self.root / "06_models" / self.model / "classifier.safetensors")
        history = pd.read_csv(newest(self.root / "08_reporting" / self.model / "history.csv"))
        text = history.drop(columns=TIMES).to_csv(index=False)
        return (
            hashlib.sha256(classifier.read_bytes()).hexdigest(),
            hashlib.sha256(text.encode()).hexdigest(),
        )


@dataclass(frozen=True)
class Outcome:
    """One round.

    Attributes:
        moment: what was waited for.
        seconds: from the start of the run to the kill.
        writing: the temporary files that the kill left behind.
        went_on_after: the epoch after which the second run went on; 0 if it began anew.
        same_classifier: whether its classifier is the undisturbed run's to the bit.
        same_history: whether its history is, without times.
    """

    moment: str
    seconds: float
    writing: list[str]
    went_on_after: int
    same_classifier: bool
    same_history: bool

    @property
    def same(self) -> bool:
        """Whether the round ended as the undisturbed run."""
        return self.same_classifier and self.same_history


def kedro(arguments: list[str], log: Path) -> None:
    """Be the command `kedro`, in the project's folder."""
    with log.open("wb") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    os.chdir(PROJECT)
    sys.argv = ["kedro", *arguments]
    main_of_kedro = importlib.import_module("kedro.framework.cli").main
    main_of_kedro()


def newest(folder: Path) -> Path:
    """Return the newest version of a versioned artifact."""
    return max(folder.glob(f"*/{folder.name}"))


def temporary_files(root: Path) -> set[Path]:
    """Return files that are being written and not yet renamed."""
    return {path for stage in root.glob("0[2-8]_*") for path in stage.rglob(".*")}


def kill_at(run: Run, log: Path, is_time: Callable[[], bool]) -> float | None:
    """Start a run and kill it when it is time; return the seconds until then.

    Returns:
        None if the run ended before.
    """
    start = time.monotonic()
    process = run.start(log)
    while not is_time():
        if not process.is_alive():
            run.check(process, log)
            return None
        time.sleep(POLL_SECONDS)
    process.kill()
    process.join()
    return time.monotonic() - start


def at_random_moment(run: Run, training_seconds: float) -> Callable[[], bool]:
    """Say when a random time has passed since the first resume point."""
    delay = random.uniform(0, training_seconds)
    first_seen: list[float] = []

    def is_time() -> bool:
        if not first_seen and run.resume_point.exists():
            first_seen.append(time.monotonic())
        return bool(first_seen) and time.monotonic() - first_seen[0] >= delay

    return is_time


def during_a_save(run: Run, saves: int) -> Callable[[], bool]:
    """Say when a random one of a run's files is being written."""
    wanted = random.randint(1, saves)
    seen: set[Path] = set()

    def is_time() -> bool:
        new = temporary_files(run.root) - seen
        seen.update(new)
        return bool(new) and len(seen) >= wanted

    return is_time


def observe(run: Run, log: Path) -> tuple[float, int]:
    """Run undisturbed.

    Returns:
        Seconds from the first resume point to the last, and how many files were seen being written.
    """
    process = run.start(log)
    seen: set[Path] = set()
    changes: list[float] = []
    while process.is_alive():
        seen |= temporary_files(run.root)
        with contextlib.suppress(FileNotFoundError):
            changes.append(run.resume_point.stat().st_mtime)
        time.sleep(POLL_SECONDS)
    run.check(process, log)
    return changes[-1] - changes[0], len(seen)


def main() -> None:
    """Kill, resume, compare; print a table and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="simple_cnn", help="registered pipeline and namespace")
    parser.add_argument("--env", default="sample")
    parser.add_argument("--params", default="", help="as for kedro run")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    random.seed(options.seed)
    FORKS.set_forkserver_preload(SLOW_IMPORTS)

    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        run = prepare(temporary, options.env, options.model, options.params)
        log = temporary / "log"
        training_seconds, saves = observe(run, log)
        expected = run.digests()
        print(f"undisturbed: {training_seconds:.1f} s from the first resume point to the last")
        print(f"classifier {expected[0]}\nhistory    {expected[1]}\n")
        print("| kill | moment | after | left half-written | went on after | same result |")
        print("| --: | --- | --: | --- | --: | --- |")
        outcomes: list[Outcome] = []
        while len(outcomes) < options.kills:
            run.clear()
            saving = len(outcomes) % 2 == 1
            is_time = (
                during_a_save(run, saves) if saving else at_random_moment(run, training_seconds)
            )
            seconds = kill_at(run, log, is_time)
            if seconds is None:
                continue  # the run was quicker this time
            writing = sorted(path.name for path in temporary_files(run.root))
            run.finish(log)
            found = GOING_ON.search(log.read_text())
            digests = run.digests()
            outcome = Outcome(
                moment="during a save" if saving else "at random",
                seconds=round(seconds, 2),
                writing=writing,
                went_on_after=int(found[1]) if found else 0,
                same_classifier=digests[0] == expected[0],
                same_history=digests[1] == expected[1],
            )
            outcomes.append(outcome)
            if options.output:
                store(options.output, expected, outcomes)
            print(
                f"| {len(outcomes)} | {outcome.moment} | {outcome.seconds:.2f} s | "
                f"{', '.join(writing)} | {outcome.went_on_after} | "
                f"{'yes' if outcome.same else 'NO'} |",
                flush=True,
            )
    same = sum(outcome.same for outcome in outcomes)
    print(f"\n{same} of {len(outcomes)} resumed runs ended as the undisturbed one")
    sys.exit(same < len(outcomes))


def store(file: Path, expected: tuple[str, str], outcomes: list[Outcome]) -> None:
    """Write what was found so far."""
    header = {
        "command": f"python {shlex.join(sys.argv)}",
        "classifier_sha256": expected[0],
        "history_sha256": expected[1],
        "identical": sum(outcome.same for outcome in outcomes),
        **describe_machine(),
    }
    content = {"header": header, "kills": [asdict(outcome) for outcome in outcomes]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")


def prepare(temporary: Path, environment: str, model: str, params: str) -> Run:
    """Copy the configuration, with a data root of its own, and say how to run it."""
    configuration = temporary / "conf"
    shutil.copytree(PROJECT / "conf", configuration)
    root = temporary / "data"
    file = configuration / environment / "globals.yml"
    values = yaml.safe_load(file.read_text()) if file.exists() else {}
    file.write_text(yaml.safe_dump(values | {"data_root": str(root)}))
    arguments = ["run", f"--pipelines={model}", f"--env={environment}"]
    arguments += [f"--conf-source={configuration}"]
    arguments += [f"--params={params}"] if params else []
    return Run(arguments, root, model)


if __name__ == "__main__":
    main()
