"""What a command asks for is there, or said in one line before anything runs."""

from typing import Any

import pytest

from cifar100_transfer.errors import UserError
from cifar100_transfer.pipeline_registry import register_pipelines
from cifar100_transfer.selection_checks import select

REGISTERED = register_pipelines()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"pipeline": "transfer", "pipelines": None}, ["transfer"]),
        ({"pipelines": ["ingestion", "transfer"]}, ["ingestion", "transfer"]),
        ({"pipeline": ["ingestion"]}, ["ingestion"]),  # kedro catalog describe-datasets
        ({}, ["__default__"]),
    ],
)
def test_the_pipelines_of_a_command_are_found(options: dict[str, Any], names: list[str]) -> None:
    expected = {node for name in names for node in REGISTERED[name].nodes}
    assert set(select(options, REGISTERED)) == expected


def test_namespaces_leave_the_nodes_in_them() -> None:
    options = {"pipelines": ["robustness"], "namespaces": ["transfer"]}
    nodes = select(options, REGISTERED)
    assert nodes
    assert {node.namespace for node in nodes} == {"transfer"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pipelines": ["ingestoin"]}, "--pipelines: no pipeline is called 'ingestoin'; choose in"),
        (
            {"pipelines": ["submission"], "namespaces": ["transfr"]},
            "--namespaces: no namespace of submission is called 'transfr'; choose transfer",
        ),
        ({"namespaces": ["champion"]}, "of the default is called 'champion'; choose resnet50, si"),
        ({"pipelines": ["ingestion"], "namespaces": ["x"]}, "namespace of ingestion is called 'x'"),
        ({"node_names": ["transfer.tran"]}, "--nodes: no node .* or transfer.train_classifier"),
        ({"from_nodes": ["x"]}, "--from-nodes: no node of the default"),
        ({"to_nodes": ["x"]}, "--to-nodes: no node of the default"),
        ({"tags": ["x"]}, "--tags: no tag of the default is called 'x'; choose comp"),
        ({"from_inputs": ["train_st"]}, "--from-inputs: no dataset .* choose train_set"),
        ({"to_outputs": ["x"]}, "--to-outputs: no dataset of the default"),
        (
            {"load_versions": {"transfer.clasifier": "2026"}},
            "--load-versions: no dataset is called 'transfer.clasifier'; choose transfer.classif",
        ),
    ],
)
def test_what_is_not_there_is_named_with_what_is(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        select(options, REGISTERED)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"namespaces": ["simple_cnn"], "tags": ["ingestion"]},
            "--namespaces and --tags together leave no node of the default to run",
        ),
        (
            {"from_nodes": ["simple_cnn.compute_metrics"], "to_nodes": ["split_images"]},
            "--from-nodes and --to-nodes together leave no node of the default to run",
        ),
    ],
)
def test_options_that_leave_nothing_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        select(options, REGISTERED)


def test_what_is_there_passes() -> None:
    select(
        {
            "namespaces": ["transfer"],
            "node_names": ["transfer.train_classifier"],
            "to_outputs": ["transfer.metrics"],
            # Of another pipeline than is run, but of the catalog.
            "load_versions": {"express.classifier": "2026"},
        },
        REGISTERED,
    )
