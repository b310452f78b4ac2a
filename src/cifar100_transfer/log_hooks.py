"""What the log says about a run: what took its time, what came out, and what comes next."""

import json
import logging
import math
import shlex
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from omegaconf import OmegaConf

from cifar100_transfer.configuration import Catalog
from cifar100_transfer.datasets import ArtifactDataset, JSONDataset, TableDataset
from cifar100_transfer.nested import leaves
from cifar100_transfer.parameter_checks import CATALOG_PARAMETERS
from cifar100_transfer.passwords import hide_passwords
from cifar100_transfer.pipeline_registry import ENSEMBLE, MODELS

if TYPE_CHECKING:  # a tenth of the time of `kedro registry list`, which needs none
    from kedro.framework.context import KedroContext

logger = logging.getLogger(__name__)

# Nodes that take less pass without a line.
SECONDS_WORTH_A_LINE = 1.0

FIRST_MODEL = next(iter(MODELS))
# What comes after what a run has made, the last step first: an output's name or its end, the
# pipeline to go on with, and whether that one runs for single models. After a study there is none:
# what it recommends stands in files of its own. Nor after a training that was not judged.
NEXT_STEPS: tuple[tuple[str, str | None, bool], ...] = (
    *((f"{study}_summary", None, False) for study in ("search", "ablation", "screening")),
    ("submission", "challenge_score", True),
    ("robustness", "submission", True),
    ("comparison", "robustness", True),
    ("metrics", "comparison", False),
    ("pretraining.classifier", "transfer", False),
    ("classifier", None, False),
)
TAKE_CLASSIFIERS = ("robustness", "submission")
# The groups of parameters that these pipelines share with what comes before them.
GROUPS_TAKEN = {
    **dict.fromkeys(TAKE_CLASSIFIERS, ("compute",)),
    **dict.fromkeys(MODELS, ("split", "compute")),
}
# What a reader will want to open, by the end of its name, and what it is called.
TO_OPEN = {
    "report": "Report",
    "best_recipe": "Best recipe",
    "submission": "Submission",
    "picture_predictions": "Predictions",
    "contact_sheet": "Contact sheet",
    "exported_program": "Program",
    "exported_onnx": "ONNX",
}


class TimingHooks:
    """Logs the time of every node that took long enough to wonder about."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Remember when the node started."""
        self._started[node.name] = time.perf_counter()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Log how long the node took, loading and saving apart."""
        seconds = time.perf_counter() - self._started.pop(node.name)
        if seconds >= SECONDS_WORTH_A_LINE:
            logger.info("%s: %.1f s", node.name, seconds)


class SummaryHooks:
    """Says at the end of a run what came out, where it lies, and what to try next."""

    def __init__(self) -> None:
        self._started = 0.0
        self._recipes = Path()
        self._model = FIRST_MODEL

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Remember where the environment's recipes are; what is wrong there others say."""
        source = Path(context.config_loader.conf_source)
        self._recipes = source / (context.env or "base") / "parameters_training.yml"

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Remember when the run started, and which model the environment is for."""
        self._started = time.perf_counter()
        self._model = model_of(self._recipes)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Catalog
    ) -> None:
        """Say the time, the folders written to, every judged model's accuracy, the next command.

        Paths and commands are printed, not logged: the log breaks lines at the terminal's width,
        and half of a command is another command.
        """
        seconds = time.perf_counter() - self._started
        skipped = ", those with results skipped," if run_params.get("only_missing_outputs") else ""
        count = len(pipeline.nodes)
        nodes = "node" if count == 1 else "nodes"
        logger.info("%d %s%s in %.1f s", count, nodes, skipped, seconds)
        outputs = sorted(pipeline.all_outputs())
        stored = {name: catalog.get(name) for name in outputs}
        folders = {entry.folder for entry in stored.values() if isinstance(entry, ArtifactDataset)}
        if folders:
            logger.info("Stored in %s", ", ".join(map(str, map(_relative, _outermost(folders)))))
        judged = _judged(stored)
        if judged:
            logger.info("Top-1 accuracy\n%s", _accuracy_table(judged))
        for name, entry in stored.items():
            title = TO_OPEN.get(name.rpartition(".")[2])
            if title and isinstance(entry, ArtifactDataset) and entry.exists():
                click.echo(f"{title}: {_relative(entry.load_path())}")
        compared = [row["model"] for row in judged] if "comparison" in stored else []
        command = next_command(outputs, run_params, compared, _has_challenge(catalog), self._model)
        if command:
            click.echo(f"Next: {command}")


def model_of(recipes: Path) -> str:
    """Return the model whose recipe an environment changes first, or the first of all.

    Args:
        recipes: the environment's file of them; if there is none, it changes none.
    """
    changed: Iterable[Any] = OmegaConf.load(recipes) if recipes.is_file() else ()
    return next((name for name in changed if name in MODELS), FIRST_MODEL)


def next_command(
    outputs: Collection[str],
    run_params: Mapping[str, Any],
    compared: Collection[str] = (),
    challenge: bool = True,
    model: str = FIRST_MODEL,
) -> str | None:
    """Return the command that goes on from what a run has made; `None` after the last step.

    Args:
        outputs: names of all datasets that the run has made.
        run_params: Kedro's record of the run. Its environment, and where its data lies, are kept;
            passwords are not.
        compared: models that a comparison, which makes nothing of theirs, has found.
        challenge: whether there are challenge files for the data.
        model: is trained next where nothing but its images is made.
    """
    named = {*compared, *(name.partition(".")[0] for name in outputs)}
    models = sorted(named & {*MODELS, ENSEMBLE})
    ends = {*outputs, *(name.rpartition(".")[2] for name in outputs)}
    environment = run_params.get("env")
    for made, pipeline, for_models in (*NEXT_STEPS, ("train_set", model, False)):
        if made not in ends or (for_models and not models):
            continue
        # Elsewhere than in `sample`, `transfer` starts from published weights.
        if pipeline is None or (made == "pretraining.classifier" and environment != "sample"):
            return None
        if pipeline == "submission" and not challenge:
            return None
        options = [f"--pipelines={pipeline}"]
        if for_models:
            options.append(f"--namespaces={','.join(models)}")
        if environment:
            options.append(f"--env={environment}")
        judged = {f"{model}.classifier" for model in models} if pipeline in TAKE_CLASSIFIERS else ()
        versions = (run_params.get("load_versions") or {}).items()
        if same := [f"{name}:{version}" for name, version in versions if name in judged]:
            options.append(f"--load-versions={','.join(same)}")
        kept = _kept(run_params.get("runtime_params") or {}, GROUPS_TAKEN.get(pipeline, ()))
        if kept:
            options.append(f"--params={','.join(kept)}")
        return " ".join([_command(), *map(shlex.quote, options)])
    return None


def _kept(given: Mapping[str, Any], taken: Collection[str]) -> list[str]:
    """Return what the next command should be given, too: data, its division, and where to compute.

    Without `split` it would divide the images anew, and train on others than this run has stored.
    """
    named = [(name, given[name]) for name in CATALOG_PARAMETERS if name in given]
    groups = {name: given[name] for name in taken if name in given}
    values = [(name, json.dumps(value).strip('"')) for name, value in leaves(groups)]
    return [f"{name}={hide_passwords(value)}" for name, value in [*named, *values]]


def _has_challenge(catalog: Catalog) -> bool:
    """Whether the raw data is CIFAR-100, or the sample in its place."""
    from cifar100_transfer.datasets import CIFAR100Dataset, SampleDataset  # after a run: loaded

    return isinstance(catalog.get("cifar100_raw"), CIFAR100Dataset | SampleDataset)


def _command() -> str:
    """Return how runs are started here: through Kedro, or, without a clone, by the package."""
    given = click.get_current_context(silent=True)
    if given is None:
        return "kedro run"
    source = given.params.get("conf_source")
    start = "kedro run" if "kedro" in given.command_path else given.command_path
    return f"{start} {shlex.quote(f'--conf-source={source}')}" if source else start


def _judged(stored: Mapping[str, Any]) -> list[dict[Any, Any]]:
    """Return the metrics of every judged or compared model, with its name in `model`."""
    # A catalog of one's own may keep metrics elsewhere.
    judged: list[dict[Any, Any]] = [
        {"model": name.removesuffix(".metrics"), **entry.load()}
        for name, entry in stored.items()
        if name.endswith(".metrics") and isinstance(entry, JSONDataset)
    ]
    comparison = stored.get("comparison")
    if isinstance(comparison, TableDataset):
        judged = comparison.load().to_dict("records")
    return judged


def _accuracy_table(judged: list[dict[Any, Any]]) -> str:
    """Return one line a judged or compared model."""
    runs = Counter(row["model"] for row in judged)
    names = [
        f"{row['model']} {row['run']}" if runs[row["model"]] > 1 else row["model"] for row in judged
    ]
    width = max([16, *(len(name) + 2 for name in names)])
    lines = [
        f"{name:<{width}}{_share(row['train_accuracy']):>8}{row['validation_accuracy']:>12.1%}"
        f"{row['test_accuracy']:>8.1%}"
        for name, row in zip(names, judged, strict=True)
    ]
    header = f"{'model':<{width}}{'train':>8}{'validation':>12}{'test':>8}"
    return "\n".join([header, *lines])


def _share(accuracy: float | None) -> str:
    """Write an accuracy in percent; of training images an ensemble has none."""
    known = accuracy is not None and not math.isnan(accuracy)
    return f"{accuracy:.1%}" if known else "\N{EN DASH}"


def _outermost(folders: Collection[Path]) -> list[Path]:
    """Return the folders that lie in no other of them."""
    return sorted(folder for folder in folders if not set(folder.parents) & set(folders))


def _relative(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
