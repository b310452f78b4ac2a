"""What the user of a script can mend is said in one line."""

import json
import runpy
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    "command",
    [
        "augmentation picture --data DIR",
        "champion run --data DIR",
        "champion run --set training.nowhere=3",
        "champion run --set training.epochs=nowhere",
        "champion run --env nowhere",
        "corruptions statistics --data DIR",
        "kill_and_resume --data DIR",
        "robust_training --data DIR",
        "time_to_75 --data DIR",
        "time_to_75 --data DIR --set training.nowhere=3",
        "throughput --device nowhere",
        "training_options --networks nowhere --output DIR/file",
        "evaluation 1 nowhere",
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar-100-python.tar.gz").write_text("no archive")  # or it would be fetched
    script, *arguments = command.replace("DIR", str(tmp_path)).split()
    monkeypatch.setattr("sys.argv", [script, *arguments])
    with pytest.raises(SystemExit) as refusal:
        runpy.run_path(str(ROOT / "benchmarks" / f"{script}.py"), run_name="__main__")
    message = refusal.value.code
    assert isinstance(message, str)
    assert len(message.splitlines()) == 1
    assert ("nowhere" if "nowhere" in command else "cifar-100-python.tar.gz") in message


def test_the_script_that_times_the_evaluation_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its arguments for the nodes are checked by nothing else."""
    monkeypatch.setattr("sys.argv", ["evaluation", "100"])
    runpy.run_path(str(ROOT / "benchmarks" / "evaluation.py"), run_name="__main__")
    seconds = json.loads(capsys.readouterr().out)["evidence_seconds"]
    assert {"metrics", "class_activation", "together"} <= set(seconds)
