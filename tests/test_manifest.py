"""What is written down about a run, and the warning where outputs are stale."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from cifar100_transfer import manifest, manifest_hooks
from cifar100_transfer.config import ComputeConfig, SplitConfig
from cifar100_transfer.datasets import JSONDataset, RunManifestsDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.hooks import PreflightHooks
from cifar100_transfer.manifest_hooks import ManifestHooks, stale_outputs


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


def test_code_is_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert manifest.describe_code(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message=first")
    clean = manifest.describe_code(tmp_path)
    assert clean is not None
    assert len(clean["commit"]) == 40
    assert not clean["dirty"]
    (tmp_path / "file").write_text("2")
    assert manifest.describe_code(tmp_path) == {**clean, "dirty": True}


def test_asking_git_leaves_its_index_alone(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message=first")
    os.utime(tmp_path / "file", (0, 0))  # so that `status` would refresh what it knows of it
    before = (tmp_path / ".git" / "index").read_bytes()
    described = manifest.describe_code(tmp_path)
    assert described is not None
    assert not described["dirty"]
    assert (tmp_path / ".git" / "index").read_bytes() == before


def test_code_is_unknown_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert manifest.describe_code(tmp_path) is None


def test_parameters_are_flat_and_plain() -> None:
    assert manifest.describe_parameters({"split": SplitConfig(seed=3), "x": {"y": [1]}}) == {
        "split.validation_share": 0.2,
        "split.train_images": None,
        "split.seed": 3,
        "x.y": [1],
    }


def test_only_parameters_that_both_runs_know_can_have_changed() -> None:
    before, now = {"a": 1, "b": 2, "gone": 0}, {"a": 1, "b": 3, "new": 0}
    assert manifest.changed_parameters(before, now) == ["b=3 (was 2)"]


def test_machine_and_packages_are_named() -> None:
    machine = manifest.describe_machine("cpu")
    assert machine["device"] == "cpu"
    assert machine["cores"] >= 1
    assert machine["processor"] is not None
    assert {"torch", "kedro"} <= set(manifest.describe_packages())


def double(source: dict[str, int], split: SplitConfig) -> dict[str, int]:
    return {"value": source["value"] * (2 + split.seed)}


def fails(_source: dict[str, int]) -> None:
    raise RuntimeError("the power failed")


def refuse_to_store(*_: object) -> None:
    raise UserError("no space")


class Project:
    """A catalog of three files and a pipeline of one node, run as Kedro runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source.json"
        JSONDataset(filepath=str(self.source)).save({"value": 1})

    def run(self, run_id: str, seed: int = 0, only_missing: bool = False, **nodes: Any) -> Any:
        node = nodes.get("node") or Node(
            double, ["source", "params:split"], "doubled", name="double"
        )
        pipeline = Pipeline([node])
        catalog = DataCatalog(
            {
                "source": JSONDataset(filepath=str(self.source)),
                "doubled": JSONDataset(filepath=str(self.folder / "doubled.json")),
                "run_manifests": RunManifestsDataset(filepath=str(self.folder / "runs")),
                "params:split": MemoryDataset(SplitConfig(seed=seed)),
                "params:compute": MemoryDataset(ComputeConfig(device="cpu")),
            }
        )
        hooks = _create_hook_manager()
        hooks.register(nodes.get("hooks") or ManifestHooks(PreflightHooks()))
        settings = {
            "run_id": run_id,
            "project_path": str(self.folder),
            "pipeline_names": ["mine"],
            "only_missing_outputs": only_missing,
            "runtime_params": nodes.get("runtime_params"),
        }
        hooks.hook.before_pipeline_run(run_params=settings, pipeline=pipeline, catalog=catalog)
        try:
            SequentialRunner().run(
                pipeline, catalog, hooks, run_id, only_missing_outputs=only_missing
            )
        except RuntimeError as error:
            hooks.hook.on_pipeline_error(
                error=error, run_params=settings, pipeline=pipeline, catalog=catalog
            )
        else:
            hooks.hook.after_pipeline_run(
                run_params=settings, run_result={}, pipeline=pipeline, catalog=catalog
            )
        return catalog.load("run_manifests")[run_id], pipeline, catalog


def test_a_run_leaves_a_manifest(tmp_path: Path) -> None:
    written, _, _ = Project(tmp_path).run("1")

    assert written["run"] == "1"
    assert written["status"] == "finished"
    assert written["command"] == {"pipeline_names": ["mine"]}
    assert written["git"] is None
    assert written["parameters"] == {
        "split.validation_share": 0.2,
        "split.train_images": None,
        "split.seed": 0,
    }
    assert written["made"] == ["doubled"]
    assert set(written["nodes"]) == {"double"}
    assert written["seconds"] >= written["nodes"]["double"] >= 0
    digest = hashlib.sha256((tmp_path / "source.json").read_bytes()).hexdigest()
    assert written["data"] == {"source": {"source.json": digest}}


def test_a_run_that_was_interrupted_says_so_when_its_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(manifest_hooks.atexit, "register", at_exit.append)

    def press_control_c(_source: dict[str, int]) -> None:
        raise KeyboardInterrupt

    Project(tmp_path).run("1")
    with pytest.raises(KeyboardInterrupt):
        Project(tmp_path).run("2", node=Node(press_control_c, "source", "doubled"))
    caplog.set_level("INFO")
    for end in at_exit:
        end()
    assert caplog.messages == ["Interrupted: the same command goes on from what is stored"]
    written = [json.loads((tmp_path / "runs" / f"{run}.json").read_text()) for run in (1, 2)]
    assert [one["status"] for one in written] == ["finished", "interrupted"]
    assert written[1]["seconds"] > 0


def test_a_run_that_could_not_begin_leaves_the_next_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, hooks = Project(tmp_path), ManifestHooks(PreflightHooks())
    with monkeypatch.context() as patch:
        patch.setattr(RunManifestsDataset, "save", refuse_to_store)
        with pytest.raises(UserError, match="no space"):
            project.run("1", hooks=hooks)
    written, _, _ = project.run("2", hooks=hooks)
    assert written["status"] == "finished"
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["2.json"]


def test_no_password_is_written_down(tmp_path: Path) -> None:
    given = {"studies": "postgresql://user:secret@host/db"}
    written, _, _ = Project(tmp_path).run("1", runtime_params=given)
    assert written["command"]["runtime_params"] == {"studies": "postgresql://user:***@host/db"}


def test_the_device_is_named_where_something_computes(tmp_path: Path) -> None:
    node = Node(lambda source, _: source, ["source", "params:compute"], "doubled", name="copy")
    written, _, _ = Project(tmp_path).run("1", node=node)
    assert written["machine"]["device"] == "cpu"


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_damaged_manifest_of_another_run_ends_in_one_line_or_is_passed_over(
    tmp_path: Path, content: str
) -> None:
    Project(tmp_path).run("1")
    (tmp_path / "runs" / "0.json").write_text(content)
    if content == "{}":
        Project(tmp_path).run("2", only_missing=True)
        return
    with pytest.raises(UserError, match=r"0\.json"):
        Project(tmp_path).run("2", only_missing=True)


def test_a_failed_run_leaves_a_manifest_too(tmp_path: Path) -> None:
    node = Node(fails, "source", None, name="fails")
    written, _, _ = Project(tmp_path).run("1", node=node)

    assert written["status"] == "failed"
    assert written["error"] == "RuntimeError: the power failed"


def test_re_used_outputs_of_other_parameters_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = Project(tmp_path)
    project.run("1")
    project.run("2", only_missing=True)
    assert "re-uses" not in caplog.text

    project.run("3", seed=5, only_missing=True)

    assert "re-uses 'doubled' of run 1, though split.seed=5 (was 0)" in caplog.text
    _, pipeline, catalog = project.run("4", seed=5)
    assert stale_outputs(pipeline, catalog) == []
    (tmp_path / "doubled.json").unlink()
    _, pipeline, catalog = project.run("5", seed=6, only_missing=True)
    assert caplog.text.count("re-uses") == 1, "a missing output is made anew"
