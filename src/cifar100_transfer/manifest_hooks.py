"""What is written down about a run, and warnings where it re-uses what others made."""

import atexit
import logging
import os
import time
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from cifar100_transfer import manifest
from cifar100_transfer.config import ComputeConfig
from cifar100_transfer.configuration import Catalog
from cifar100_transfer.datasets import ArtifactDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.hooks import ErrorHooks, PreflightHooks, inputs_of
from cifar100_transfer.passwords import hide_passwords

logger = logging.getLogger(__name__)

MANIFESTS = "run_manifests"


class ManifestHooks:
    """Writes down what a run was, and warns where it re-uses what other parameters made."""

    def __init__(self, preflight: PreflightHooks) -> None:
        self._preflight = preflight
        self._manifest: dict[str, Any] = {}
        self._catalog: Catalog | None = None
        self._started: dict[str, float] = {}

    @hook_impl(wrapper=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Catalog
    ) -> Generator[None, Any, Any]:
        """Store what is known before the first node, so that a killed run leaves a trace too."""
        self._interrupted()  # one of this process that was
        self._manifest = {}
        self._begin, self._since = time.perf_counter(), time.time()
        self._preflight.before_preparing = partial(self._open, run_params, pipeline, catalog)
        try:
            outcome = yield  # to the other hooks: the run may be refused, or absent inputs be made
        except Exception as error:
            if self._manifest:
                self._note_prepared()
                self.on_pipeline_error(error, catalog)
            raise
        try:
            if run_params.get("only_missing_outputs"):
                for warning in stale_outputs(pipeline, catalog):
                    logger.warning(warning)
            self._open(run_params, pipeline, catalog)
        except Exception as error:
            self._manifest = {}  # of a run that never began
            ErrorHooks().on_pipeline_error(error)
            raise
        return outcome

    def _open(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Catalog) -> None:
        """Store a manifest that says `running`; it is stored again as the run goes on."""
        self._parts = [*(part for _, part in self._preflight.prepared), pipeline]
        parameters = {
            name.removeprefix("params:"): catalog.load(name)
            for name in sorted(inputs_of(self._parts))
            if name.startswith("params:")
        }
        self._catalog = catalog
        self._manifest = {
            "run": run_params["run_id"],
            "status": "running",
            "started": datetime.fromtimestamp(self._since, UTC).isoformat(timespec="seconds"),
            "command": {
                key: hide_passwords(value)
                for key, value in run_params.items()
                if value and key not in ("run_id", "project_path", "runner")
            },
            "process": os.getpid(),
            "git": manifest.describe_code(Path(run_params["project_path"])),
            "parameters": manifest.describe_parameters(parameters),
            "packages": manifest.describe_packages(),
            "machine": manifest.describe_machine(_device(parameters)),
            "data": {},
            "seconds": None,
            "preparation_seconds": round(time.perf_counter() - self._begin, 3),
            "nodes": {},
        }
        self._note_prepared()
        self._store(catalog)
        atexit.unregister(self._interrupted)
        atexit.register(self._interrupted)  # no hook hears of Ctrl-C

    def _note_prepared(self) -> None:
        prepared = self._preflight.prepared
        self._manifest["prepared"] = list(dict.fromkeys(name for name, _ in prepared))
        self._manifest["made"] = sorted(
            {name for _, part in prepared for name in part.all_outputs()}
        )

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Start a node's clock."""
        self._started[node.name] = time.perf_counter()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Stop a node's clock."""
        seconds = time.perf_counter() - self._started.pop(node.name)
        self._manifest["nodes"][node.name] = round(seconds, 3)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Note what was made."""
        self._manifest["made"].append(dataset_name)

    @hook_impl(trylast=True)
    def after_pipeline_run(self, catalog: Catalog) -> None:
        """Store the whole manifest, with checksums of the data that came in."""
        # Nodes that ran in processes of their own have not told this one what they saved.
        outputs = {name for part in self._parts for name in part.all_outputs()}
        run = self._manifest["run"]
        saved = {name for name in outputs if _is_of_run(catalog.get(name), run, self._since)}
        made = self._manifest["made"]
        made += sorted(saved - set(made))
        self._manifest["data"] = _checksums(self._parts, catalog)
        try:
            self._finish("finished", catalog)
        except Exception as error:
            ErrorHooks().on_pipeline_error(error)
            raise

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception, catalog: Catalog) -> None:
        """Store how far the run came."""
        self._manifest["error"] = f"{type(error).__name__}: {error}"
        self._try_to_finish("failed", catalog)

    def _interrupted(self) -> None:
        """Store how far a run came that went on when it ended with the process, or the next began.

        Processes that a run has started end without it.
        """
        atexit.unregister(self._interrupted)
        if self._catalog is not None and self._manifest.get("status") == "running":
            logger.info("Interrupted: the same command goes on from what is stored")
            self._try_to_finish("interrupted", self._catalog)

    def _try_to_finish(self, status: str, catalog: Catalog) -> None:
        try:
            self._finish(status, catalog)
        except Exception as refusal:
            # On a full disk, say, where it must not hide what stopped the run.
            logger.warning("The manifest of this run can't be stored: %s", refusal.__cause__)

    def _finish(self, status: str, catalog: Catalog) -> None:
        self._manifest["status"] = status
        self._manifest["seconds"] = round(time.perf_counter() - self._begin, 3)
        self._store(catalog)

    def _store(self, catalog: Catalog) -> None:
        manifests = catalog.get(MANIFESTS)
        if manifests is not None:  # a catalog of one's own may have none
            manifests.save(self._manifest)


def stale_outputs(pipeline: Pipeline, catalog: Catalog) -> list[str]:
    """Say which stored outputs were made with other parameters than their nodes would take now.

    Kedro's `--only-missing-outputs` looks at nothing but whether an output exists.
    """
    manifests = catalog.load(MANIFESTS) if catalog.get(MANIFESTS) is not None else {}
    warnings = []
    for node in pipeline.nodes:
        names = [name for name in node.inputs if name.startswith("params:")]
        now = manifest.describe_parameters(
            {name.removeprefix("params:"): catalog.load(name) for name in names}
        )
        for output in node.outputs:
            makers = [run for run, made in manifests.items() if output in made.get("made", ())]
            if not makers or not catalog.exists(output):
                continue
            before = manifests[makers[-1]].get("parameters", {})
            changed = manifest.changed_parameters(before, now)
            if changed:
                warnings.append(
                    f"--only-missing-outputs re-uses '{output}' of run {makers[-1]}, though "
                    f"{', '.join(changed)}: run without it to make it anew"
                )
    return warnings


def _device(parameters: Mapping[str, Any]) -> str | None:
    compute = parameters.get("compute")
    if not isinstance(compute, ComputeConfig):
        return None
    from cifar100_transfer.models import choose_device

    return str(choose_device(compute.device))


def _checksums(parts: Sequence[Pipeline], catalog: Catalog) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of the files of every stored input, by dataset and file name.

    Image sets that were made count as inputs: every ingestion replaces them, and of pictures of
    one's own they are all that says which images a run had.
    """
    names = inputs_of(parts)
    names |= {name for part in parts for name in part.all_outputs() if _is_image_set(catalog, name)}
    found = {
        name: _checksums_of(name, catalog.get(name))
        for name in sorted(names)
        if not _is_absent(catalog.get(name))
    }
    return {name: sums for name, sums in found.items() if sums}


def _checksums_of(name: str, dataset: Any) -> dict[str, str]:
    """Return the checksums of a dataset; none, and a warning, if its files are others by now.

    The run has done its work: what became of its inputs since must not make it a failed one.
    """
    try:
        sums: dict[str, str] = getattr(dataset, "checksums", dict)()
    except (UserError, OSError) as error:
        logger.warning("The manifest of this run has no checksum of '%s': %s", name, error)
        return {}
    return sums


def _is_absent(dataset: Any) -> bool:
    """Whether it is not stored: an input of nodes that were left out, as their results are."""
    return isinstance(dataset, ArtifactDataset) and not dataset.exists()


def _is_of_run(dataset: Any, run: str, since: float) -> bool:
    """Whether a run that began at a time of the system's clock has stored a dataset."""
    if not isinstance(dataset, ArtifactDataset) or not dataset.exists():
        return False
    if dataset.is_versioned:
        return dataset.has_version(run)
    try:
        return dataset.load_path().stat().st_mtime >= since
    except (UserError, OSError):  # replaced by another run, or gone, since
        return False


def _is_image_set(catalog: Catalog, name: str) -> bool:
    # Imported here: commands that run nothing need not wait for torch.
    from cifar100_transfer.datasets import ImageSetDataset

    return isinstance(catalog.get(name), ImageSetDataset)
