"""What the log says about a run."""

import logging
import math
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from cifar100_transfer import log_hooks
from cifar100_transfer.datasets import (
    CIFAR10Dataset,
    CIFAR100Dataset,
    TableDataset,
    TextDataset,
)
from cifar100_transfer.pipeline_registry import MODELS, register_pipelines

REGISTERED = register_pipelines()


def given(**run_params: Any) -> dict[str, Any]:
    return {"env": None, "runtime_params": {}, **run_params}


@pytest.mark.parametrize(
    ("pipeline", "command"),
    [
        ("ingestion", "kedro run --pipelines=simple_cnn"),
        ("pretraining", None),
        ("resnet50", "kedro run --pipelines=comparison"),
        (
            "__default__",
            "kedro run --pipelines=robustness --namespaces=resnet50,simple_cnn,transfer",
        ),
        ("comparison", None),
        ("ensemble", "kedro run --pipelines=comparison"),
        ("challenge_score", None),
        ("tuning", None),
        ("ablation", None),
        ("screening", None),
    ],
)
def test_the_next_command_goes_on_from_what_was_made(pipeline: str, command: str | None) -> None:
    outputs = REGISTERED[pipeline].all_outputs()
    assert log_hooks.next_command(outputs, given()) == command


@pytest.mark.parametrize(
    ("env", "model"),
    [
        (None, "simple_cnn"),
        ("sample", "simple_cnn"),
        ("local", "simple_cnn"),
        ("squeezenet", "transfer"),
        ("held_out", "express"),
        ("few_images", "champion"),
    ],
)
def test_images_are_there_for_the_model_of_their_environment(env: str | None, model: str) -> None:
    found = log_hooks.model_of(Path("conf") / (env or "base") / "parameters_training.yml")
    outputs = REGISTERED["ingestion"].all_outputs()
    command = log_hooks.next_command(outputs, given(env=env), model=found)
    assert command == f"kedro run --pipelines={model}" + (f" --env={env}" if env else "")
    assert log_hooks.model_of(Path("conf.tar.gz/base/parameters_training.yml")) == "simple_cnn"


@pytest.mark.parametrize(
    ("pipeline", "following"), [("robustness", "submission"), ("submission", "challenge_score")]
)
@pytest.mark.parametrize("model", ["resnet50", "ensemble"])
def test_what_was_done_for_one_model_goes_on_for_it(
    pipeline: str, following: str, model: str
) -> None:
    outputs = REGISTERED[pipeline].filter(node_namespaces=[model]).all_outputs()
    command = f"kedro run --pipelines={following} --namespaces={model}"
    assert log_hooks.next_command(outputs, given()) == command


def test_the_next_command_keeps_model_environment_and_the_place_of_the_data() -> None:
    one = REGISTERED["robustness"].filter(node_namespaces=["transfer"])
    parameters = {"raw_data": "/images", "robustness": {"images": 5}}
    assert log_hooks.next_command(
        one.all_outputs(), given(env="sample", runtime_params=parameters)
    ) == (
        "kedro run --pipelines=submission --namespaces=transfer --env=sample "
        "--params=raw_data=/images"
    )


@pytest.mark.parametrize(
    ("raw", "hint"), [(CIFAR100Dataset, True), (CIFAR10Dataset, False), (None, False)]
)
def test_the_challenge_is_not_for_other_data(
    capsys: pytest.CaptureFixture[str], raw: type[CIFAR100Dataset] | None, hint: bool
) -> None:
    judging = REGISTERED["robustness"].filter(node_namespaces=["express"])
    catalog = DataCatalog({"cifar100_raw": raw(filepath="nowhere")} if raw else {})
    log_hooks.SummaryHooks().after_pipeline_run(given(), judging, catalog)
    assert ("Next: kedro run --pipelines=submission" in capsys.readouterr().out) == hint
    assert log_hooks.next_command(REGISTERED["express"].all_outputs(), given(), challenge=False)


def test_what_is_to_be_opened_is_made_by_some_pipeline() -> None:
    made = {name.rpartition(".")[2] for one in REGISTERED.values() for name in one.all_outputs()}
    assert set(log_hooks.TO_OPEN) <= made


def test_the_embedded_transfer_starts_from_what_pretraining_has_made() -> None:
    outputs = REGISTERED["pretraining"].all_outputs()
    command = "kedro run --pipelines=transfer --env=sample"
    assert log_hooks.next_command(outputs, given(env="sample")) == command


def test_the_hint_is_for_the_environment_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    hooks = log_hooks.SummaryHooks()
    context: Any = SimpleNamespace(config_loader=SimpleNamespace(conf_source="conf"), env="full")
    hooks.after_context_created(context)
    hooks.before_pipeline_run()
    hooks.after_pipeline_run(given(env="full"), REGISTERED["ingestion"], DataCatalog({}))
    assert "Next: kedro run --pipelines=express --env=full" in capsys.readouterr().out


def test_the_next_command_takes_the_same_versions() -> None:
    judging = REGISTERED["robustness"].filter(node_namespaces=["express"])
    versions = {"express.classifier": "2026", "validation_set": "2025"}
    command = log_hooks.next_command(judging.all_outputs(), given(load_versions=versions))
    start = "kedro run --pipelines=submission --namespaces=express"
    assert command == f"{start} --load-versions=express.classifier:2026"
    submitting = REGISTERED["submission"].filter(node_namespaces=["express"])
    following = log_hooks.next_command(submitting.all_outputs(), given(load_versions=versions))
    assert "load-versions" not in str(following)


def test_the_next_command_can_be_pasted_and_repeats_no_password() -> None:
    parameters = {"raw_data": "/my data/$x", "studies": "postgresql://user:secret@host/db"}
    command = log_hooks.next_command(
        REGISTERED["ingestion"].all_outputs(), given(runtime_params=parameters)
    )
    assert command is not None
    assert shlex.split(command)[2:] == [
        "--pipelines=simple_cnn",
        "--params=raw_data=/my data/$x,studies=postgresql://user:***@host/db",
    ]


def test_the_next_command_divides_the_images_alike_and_computes_at_the_same_place() -> None:
    parameters = {
        "split": {"validation_share": 0.02, "train_images": None},
        "compute": {"precision": "auto"},
        "simple_cnn": {"training": {"epochs": 1}},
    }
    expected = {
        "ingestion": "split.validation_share=0.02,split.train_images=null,compute.precision=auto",
        "comparison": "compute.precision=auto",
        "simple_cnn": "",  # a comparison, which does neither
    }
    for pipeline, kept in expected.items():
        outputs = REGISTERED[pipeline].all_outputs()
        command = log_hooks.next_command(outputs, given(runtime_params=parameters), ("express",))
        assert command is not None
        assert command.partition("--params=")[2] == kept
    for pipeline, groups in log_hooks.GROUPS_TAKEN.items():
        takes = REGISTERED[pipeline].inputs()
        assert {f"params:{name}" for name in ("split", "compute")} & takes == {
            f"params:{name}" for name in groups
        }


def test_the_next_command_names_the_folder_of_the_configuration() -> None:
    command = click.Command("run", params=[click.Option(["--conf-source"])])
    with click.Context(command, info_name="kedro run") as context:
        context.params["conf_source"] = "/my conf"
        following = log_hooks.next_command(REGISTERED["ingestion"].all_outputs(), given())
    assert following == "kedro run '--conf-source=/my conf' --pipelines=simple_cnn"


def test_the_next_pipelines_exist() -> None:
    for _, pipeline, for_models in log_hooks.NEXT_STEPS:
        if pipeline is None:
            continue
        namespaces = {node.namespace for node in REGISTERED[pipeline].nodes}
        assert not for_models or set(MODELS) <= namespaces


def test_a_comparison_ends_with_its_table_and_where_the_page_lies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("twice", "1", 0.9, 0.5, 0.45), ("once", "3", 0.4, 0.3, 0.25)]
    rows.append(("twice", "2", math.nan, 0.2, 0.1))
    columns = ["model", "run", "train_accuracy", "validation_accuracy", "test_accuracy"]
    entries = {
        "comparison": TableDataset(filepath=str(tmp_path / "comparison.csv")),
        "report": TextDataset(filepath=str(tmp_path / "report.html")),
    }
    entries["comparison"].save(pd.DataFrame(rows, columns=columns))
    entries["report"].save("<p>")
    pipeline = Pipeline(
        [
            Node(abs, "a", "comparison", name="compare_models"),
            Node(abs, "a", "report", name="write_report"),
        ]
    )
    with caplog.at_level(logging.INFO):
        log_hooks.SummaryHooks().after_pipeline_run({}, pipeline, DataCatalog(entries))

    assert caplog.messages[1] == f"Stored in {tmp_path}"
    assert [line.split() for line in caplog.messages[2].splitlines()[1:]] == [
        ["model", "train", "validation", "test"],
        ["twice", "1", "90.0%", "50.0%", "45.0%"],
        ["once", "40.0%", "30.0%", "25.0%"],
        ["twice", "2", "\N{EN DASH}", "20.0%", "10.0%"],
    ]
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {tmp_path / 'report.html'}"


def test_a_comparison_by_itself_goes_on_with_the_models_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = TableDataset(filepath=str(tmp_path / "comparison.csv"))
    rows = {"model": ["express", "unknown"], "run": ["1", "2"]}
    table.save(pd.DataFrame(rows | dict.fromkeys(("train_accuracy", "validation_accuracy"), 0.5)))
    table.save(table.load().assign(test_accuracy=0.5))
    pipeline = Pipeline([Node(abs, "a", "comparison", name="compare_models")])
    run_params = given(env="sample")
    log_hooks.SummaryHooks().after_pipeline_run(
        run_params, pipeline, DataCatalog({"comparison": table})
    )
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "Next: kedro run --pipelines=robustness --namespaces=express --env=sample"


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 0), (2.5, 1)])
def test_only_long_nodes_get_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float, lines: int
) -> None:
    clock = iter([10.0, 10.0 + seconds])
    monkeypatch.setattr(log_hooks.time, "perf_counter", lambda: next(clock))
    hooks, node = log_hooks.TimingHooks(), Node(abs, "a", "b", name="slow_node")
    with caplog.at_level(logging.INFO):
        hooks.before_node_run(node)
        hooks.after_node_run(node)
    assert [record.getMessage() for record in caplog.records] == ["slow_node: 2.5 s"] * lines


@pytest.mark.parametrize("env", ["sample", None])
def test_nothing_goes_on_from_a_training_that_was_not_judged(env: str | None) -> None:
    outputs = REGISTERED["simple_cnn"].to_outputs("simple_cnn.classifier").all_outputs()
    assert log_hooks.next_command(outputs, given(env=env)) is None
