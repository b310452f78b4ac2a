"""kedro-viz draws layers only if data never flows back into an earlier one."""

from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from cifar100_transfer.pipeline_registry import register_pipelines
from tests.pipelines.conftest import ROOT

LAYERS = ("raw", "model_input", "models", "model_output", "reporting")


def test_data_never_flows_into_an_earlier_layer(project: Path) -> None:
    bootstrap_project(ROOT)
    with KedroSession.create(
        project_path=project, env="sample", conf_source=str(project / "conf")
    ) as session:
        catalog = session.load_context().catalog

    def layers(names: Any) -> list[int]:
        found = (getattr(catalog.get(name), "metadata", None) or {} for name in names)
        return [
            LAYERS.index(entry["kedro-viz"]["layer"]) for entry in found if "kedro-viz" in entry
        ]

    nodes = {node for pipeline in register_pipelines().values() for node in pipeline.nodes}
    backwards = [
        node.name
        for node in nodes
        if max(layers(node.inputs), default=0) > min(layers(node.outputs), default=len(LAYERS))
    ]
    assert sorted(backwards) == []
