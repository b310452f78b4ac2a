"""Commands in results: others can give them, and no folder of this machine is in them."""

import importlib

import pytest


@pytest.mark.parametrize(
    ("words", "public"),
    [
        (["--data", "/home/me", "--seeds", "0"], "--data DIR --seeds 0"),
        (["--data=/home/me", "--work=b"], "--data=DIR --work=DIR"),
        (
            ["--params=raw_data=/home/me,weights=w.pth,a.b=1"],
            "--params=raw_data=DIR,weights=FILE,a.b=1",
        ),
        (["--params=raw_data=/home/me", "--env=full"], "--params=raw_data=DIR --env=full"),
        (["--params=my_weights=2"], "--params=my_weights=2"),
        (["two words"], "'two words'"),
    ],
)
def test_folders_of_one_machine_are_not_told(words: list[str], public: str) -> None:
    assert importlib.import_module("machine").public_command(words) == public


def test_a_script_is_named_from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["/home/me/benchmarks/startup.py", "--rounds", "7"]
    monkeypatch.setattr("sys.argv", argv)
    said = importlib.import_module("machine").command_line()
    assert said == "python benchmarks/startup.py --rounds 7"
