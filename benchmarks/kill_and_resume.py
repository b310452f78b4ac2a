"""Kill a training again and again: does what resumes end as what was never killed?

    python benchmarks/kill_and_resume.py --kills 20
    python benchmarks/kill_and_resume.py --data DIR --until-trained --minutes 30 --output FILE

Every `kedro run` is a process of its own, forked from one that has imported what takes long to.
Everything happens in a temporary data root. One run is left in peace. Then every round starts the
same `kedro run` anew, kills it with SIGKILL, starts it again and lets it finish; classifier and
history (but for the columns of times) must then have the SHA-256 of the undisturbed run. Kills take
turns: at a random moment of the training; while a resume point is being written; while a result is.
The latter two come as soon as a randomly chosen one of the temporary files shows up from which
resume points and results are renamed.

Every round is stored in the output as it ends. A script that was stopped, or that `--minutes` has
ended, goes on with the rounds that are stored there if its undisturbed run ends as theirs did.
Exits with 1 if a round ended differently.
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
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
from machine import command_line, describe_machine, run_script
from own_data import PROJECT, copy_configuration
from torchvision.transforms.functional import to_pil_image

from cifar100_transfer.data.cifar100 import SIDE, read_cifar100

FORKS = multiprocessing.get_context("forkserver")
SLOW_IMPORTS = [
    "torch",
    "torchvision",
    "pandas",
    "sklearn.model_selection",
    "seaborn",
    "kedro.framework.cli",
]
TIMES = ["seconds", "images_per_second"]
# A resume point of SimpleCNN is written and flushed within a few milliseconds.
POLL_SECONDS = 0.0002
GOING_ON = re.compile(r"Going\s+on\s+after\s+epoch\s+(\d+)")
MOMENTS = ("at random", "saving a resume point", "saving a result")
# Of `--data`: few, so that twenty rounds take minutes; training, validation and test share them.
PICTURES_PER_CLASS = 25


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


def unfinished_resume_points(run: Run) -> set[str]:
    """Return the names of resume points that are being written and not yet renamed."""
    # One folder alone, so that a look takes less time than a save.
    return hidden(run.resume_point.parent.glob(".*"))


def unfinished_results(run: Run) -> set[str]:
    """Return the names of all else that is being written and not yet renamed."""
    files = (path for stage in run.root.glob("0[2-8]_*") for path in stage.rglob(".*"))
    return hidden(path for path in files if path.parent != run.resume_point.parent)


def hidden(paths: Iterable[Path]) -> set[str]:
    """Return the names of the files; none if a folder went while they were looked for."""
    with contextlib.suppress(FileNotFoundError):
        return {path.name for path in paths}
    return set()


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


def during_a_save(look: Callable[[], set[str]], saves: int) -> Callable[[], bool]:
    """Say when a random one of the files that `look` finds is being written."""
    wanted = random.randint(1, saves)
    seen: set[str] = set()

    def is_time() -> bool:
        new = look() - seen
        seen.update(new)
        return bool(new) and len(seen) >= wanted

    return is_time


@dataclass(frozen=True)
class Undisturbed:
    """What a run does that nobody kills.

    Attributes:
        seconds: from the first resume point to the last.
        resume_points: how many were seen being written.
        results: how many other files were.
    """

    seconds: float
    resume_points: int
    results: int


def observe(run: Run, log: Path) -> Undisturbed:
    """Run undisturbed."""
    process = run.start(log)
    resume_points: set[str] = set()
    results: set[str] = set()
    changes: list[float] = []
    while process.is_alive():
        resume_points |= unfinished_resume_points(run)
        results |= unfinished_results(run)
        with contextlib.suppress(FileNotFoundError):
            changes.append(run.resume_point.stat().st_mtime)
        time.sleep(POLL_SECONDS)
    run.check(process, log)
    # What was too quick to be seen is still there to be hit.
    return Undisturbed(changes[-1] - changes[0], max(1, len(resume_points)), max(1, len(results)))


def choose(moment: str, run: Run, usual: Undisturbed) -> Callable[[], bool]:
    """Draw a moment of a kind."""
    if moment == "saving a resume point":
        return during_a_save(lambda: unfinished_resume_points(run), usual.resume_points)
    if moment == "saving a result":
        return during_a_save(lambda: unfinished_results(run), usual.results)
    return at_random_moment(run, usual.seconds)


def kill_and_resume(
    run: Run, log: Path, moment: str, usual: Undisturbed, expected: tuple[str, str]
) -> Outcome | None:
    """Go through one round; None if the run ended before it could be killed."""
    run.clear()
    seconds = kill_at(run, log, choose(moment, run, usual))
    if seconds is None:
        return None
    writing = sorted(unfinished_resume_points(run) | unfinished_results(run))
    run.finish(log)
    found = GOING_ON.search(log.read_text())
    digests = run.digests()
    return Outcome(
        moment=moment,
        seconds=round(seconds, 2),
        writing=writing,
        went_on_after=int(found[1]) if found else 0,
        same_classifier=digests[0] == expected[0],
        same_history=digests[1] == expected[1],
    )


def main() -> None:
    """Kill, resume, compare; print a table and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start none after that")
    parser.add_argument("--model", default="simple_cnn", help="registered pipeline and namespace")
    parser.add_argument("--env", default="sample")
    parser.add_argument("--params", default="", help="as for kedro run")
    parser.add_argument(
        "--data", type=Path, help="holds cifar-100-python/; a twentieth of its images is trained on"
    )
    parser.add_argument("--until-trained", action="store_true", help="don't evaluate what is made")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--output", type=Path, help="JSON file to write, or to go on with")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    FORKS.set_forkserver_preload(SLOW_IMPORTS)

    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Path(folder), options)
        log = Path(folder, "log")
        usual = observe(run, log)
        expected = run.digests()
        print(f"undisturbed: {usual.seconds:.1f} s from the first resume point to the last")
        print(f"classifier {expected[0]}\nhistory    {expected[1]}\n")
        print("| kill | moment | after | left half-written | went on after | same result |")
        print("| --: | --- | --: | --- | --: | --- |")
        outcomes = stored(options.output, expected)
        for number, outcome in enumerate(outcomes, 1):
            print(row(number, outcome))
        random.seed(f"{options.seed} {len(outcomes)}")
        while len(outcomes) < options.kills and time.monotonic() < end:
            moment = MOMENTS[len(outcomes) % len(MOMENTS)]
            outcome = kill_and_resume(run, log, moment, usual, expected)
            if outcome is None:
                continue  # the run was quicker this time
            outcomes.append(outcome)
            if options.output:
                store(options.output, expected, outcomes)
            print(row(len(outcomes), outcome), flush=True)
    same = sum(outcome.same for outcome in outcomes)
    print(f"\n{same} of {len(outcomes)} resumed runs ended as the undisturbed one")
    sys.exit(same < len(outcomes))


def row(number: int, outcome: Outcome) -> str:
    """Return a round as a row of the table."""
    return (
        f"| {number} | {outcome.moment} | {outcome.seconds:.2f} s | {', '.join(outcome.writing)} | "
        f"{outcome.went_on_after} | {'yes' if outcome.same else 'NO'} |"
    )


def stored(file: Path | None, expected: tuple[str, str]) -> list[Outcome]:
    """Return the rounds that a stopped script left in a file, if it compared with the same run."""
    if file is None or not file.exists():
        return []
    content = json.loads(file.read_text())
    header = content["header"]
    if (header["classifier_sha256"], header["history_sha256"]) != expected:
        print(f"{file} is of another run: it is written anew\n")
        return []
    return [Outcome(**outcome) for outcome in content["kills"]]


def store(file: Path, expected: tuple[str, str], outcomes: list[Outcome]) -> None:
    """Write what was found so far."""
    header = {
        "command": command_line(),
        "classifier_sha256": expected[0],
        "history_sha256": expected[1],
        "identical": sum(outcome.same for outcome in outcomes),
        **describe_machine(),
    }
    content = {"header": header, "kills": [asdict(outcome) for outcome in outcomes]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")


def prepare(temporary: Path, options: argparse.Namespace) -> Run:
    """Copy the configuration, with a data root of its own, and say how to run it."""
    environment, params = options.env, options.params
    if options.data:
        environment = "folder"
        pictures = f"raw_data={write_pictures(options.data, temporary)},image_size={SIDE}"
        params = f"{pictures},{params}" if params else pictures
    root = temporary / "data"
    configuration = copy_configuration(temporary, environment, root)
    model = options.model
    arguments = ["run", f"--pipelines={model}", f"--env={environment}"]
    arguments += [f"--conf-source={configuration}"]
    arguments += [f"--params={params}"] if params else []
    if options.until_trained:
        arguments += [f"--to-outputs={model}.classifier,{model}.learning_curves"]
    return Run(arguments, root, model)


def write_pictures(data: Path, temporary: Path) -> Path:
    """Write the first training images of every class as pictures, in a folder a class."""
    images, _ = read_cifar100(data)
    pictures = temporary / "pictures"
    for label, name in enumerate(images.class_names):
        folder = pictures / "train" / name
        folder.mkdir(parents=True)
        chosen = images.images[images.labels == label][:PICTURES_PER_CLASS]
        for index, image in enumerate(chosen):
            to_pil_image(image).save(folder / f"{index}.png")
    return pictures


if __name__ == "__main__":
    run_script(main)
