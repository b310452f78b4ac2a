"""A search for a better recipe: every combination of a grid, or settings drawn by a sampler."""

import json
import logging
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from cifar100_transfer.config import Changes, Scalar, SearchConfig, SpaceEntry
from cifar100_transfer.manifest import hardware_name
from cifar100_transfer.training import EpochRecord

from .judging import CLEAN, CORRUPTED, judge, judged_by
from .space import SEED, Recipe, candidates, check_search, combinations, is_integer
from .study import Outcome, Plan, run_trials, trials_table
from .trial_data import TrialData

logger = logging.getLogger(__name__)

_PRUNERS: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    # By default it would begin at a hundredth of the first trial's epochs.
    "successive_halving": partial(optuna.pruners.SuccessiveHalvingPruner, min_resource=1),
}


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found.

    Attributes:
        trials: one row a trial; see `trials_table`.
        best: the recipe with the highest accuracy, on the mean over seeds.
        summary: plain values: study, number of trials by state, settings, best, importances.
    """

    trials: pd.DataFrame
    best: Recipe
    summary: dict[str, Any]


def run_search(
    model: str, recipe: Recipe, search: SearchConfig, data: TrialData, url: str
) -> SearchResult:
    """Run a search, or what is left of it, and choose the best recipe.

    Args:
        model: name of the model; a part of the study's name.
        recipe: what the search's settings are put into.
        search: the settings and how they are chosen.
        data: images to train on and to judge by.
        url: database of the study.

    Raises:
        UserError: the space does not fit the recipe, the database can't be used, or every trial
            has failed.
    """
    check_search(search, recipe)
    plan = _plan(model, recipe, search, data)

    def objective(trial: optuna.Trial) -> Outcome:
        changed = recipe.with_changes(trial.params)
        return _train_or_give_up(trial, changed, data, search.corrupted_images)

    study = run_trials(url, plan, objective)
    results = [
        (trial.params, trial.value)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.value is not None
    ]
    settings, accuracies = choose_best(results)
    trials = trials_table(study, plan)
    column = judged_by(search.corrupted_images)
    summary = {
        "study": plan.name,
        "trials": {state: int(n) for state, n in Counter(trials["state"]).items()},
        "settings": [entry.parameter for entry in search.space],
        "best_settings": settings,
        "judged_by": column,
        f"best_{column}": statistics.fmean(accuracies),
        "best_accuracies": accuracies,
        "importances": _importances(study),
    }
    return SearchResult(trials, recipe.with_changes(settings), summary)


def choose_best(results: Iterable[tuple[Changes, float]]) -> tuple[Changes, list[float]]:
    """Return the settings with the highest mean accuracy over seeds, and those accuracies.

    Settings that were tried with fewer seeds than others are left aside: of few draws the best
    is luck more often. Settings that were drawn again with a seed count once. Of equals, the first
    wins.

    Args:
        results: settings and accuracy of every finished trial, at least one.
    """
    groups: dict[str, tuple[Changes, dict[Scalar, float]]] = {}
    for changes, accuracy in results:
        without_seed = {path: value for path, value in changes.items() if path != SEED}
        key = json.dumps(without_seed, sort_keys=True)
        by_seed = groups.setdefault(key, (without_seed, {}))[1]
        by_seed.setdefault(changes.get(SEED), accuracy)
    most = max(len(by_seed) for _, by_seed in groups.values())
    eligible = [
        (settings, list(by_seed.values()))
        for settings, by_seed in groups.values()
        if len(by_seed) == most
    ]
    return max(eligible, key=lambda group: statistics.fmean(group[1]))


def recipe_file(model: str, result: SearchResult) -> str:
    """Write the best recipe as a parameters file for an environment of its own."""
    accuracies = result.summary["best_accuracies"]
    images = "corrupted validation" if result.summary["judged_by"] == CORRUPTED else "validation"
    seeds = f", the mean of {len(accuracies)} trials" if len(accuracies) > 1 else ""
    header = (
        f"# Best of study {result.summary['study']}: {statistics.fmean(accuracies):.2%} on the "
        f"{images} images{seeds}.\n"
        f"# Put this file into conf/NAME/ and run\n"
        f"#   kedro run --pipelines={model} --env=NAME\n"
        f"# After a search with --env=E: put the block into a copy of conf/E, in place of the "
        f"model's.\n"
    )
    block = {model: result.best.as_dict()}
    return header + yaml.safe_dump(block, sort_keys=False, allow_unicode=True)


def _plan(model: str, recipe: Recipe, search: SearchConfig, data: TrialData) -> Plan:
    # A larger number of trials continues a study; anything else starts another.
    settings = search.model_dump(mode="json", exclude={"trials"})
    name = f"{model}.search-{data.identity(search=settings, recipe=recipe.as_dict())}"
    pruner = _PRUNERS[search.pruner]()
    distributions = {entry.parameter: _distribution(entry) for entry in search.space}
    if search.sampler == "grid":
        jobs = tuple(combinations(search.space))
        if "trials" in search.model_fields_set:
            logger.warning(
                "%s.search.trials=%d: without effect, as sampler=grid tries each of its %d "
                "combinations once",
                *(model, search.trials, len(jobs)),
            )
        return Plan(name, distributions, jobs, pruner=pruner)

    def sampler(number: int) -> optuna.samplers.TPESampler:
        return optuna.samplers.TPESampler(seed=(search.seed + 1000 * number) % 2**32)

    return Plan(name, distributions, trials=search.trials, sampler=sampler, pruner=pruner)


def _distribution(entry: SpaceEntry) -> BaseDistribution:
    if entry.values is not None:
        return CategoricalDistribution(entry.values)
    low, high = candidates(entry)
    if is_integer(entry):
        return IntDistribution(low, high, log=entry.log)  # type: ignore[arg-type]
    return FloatDistribution(low, high, log=entry.log)  # type: ignore[arg-type]


def _train_or_give_up(
    trial: optuna.Trial, recipe: Recipe, data: TrialData, corrupted_images: int | None
) -> Outcome:
    records: list[EpochRecord] = []

    def report(record: EpochRecord) -> None:
        records.append(record)
        trial.report(record.validation_accuracy, record.epoch)
        if record.epoch < recipe.training.epochs and trial.should_prune():
            raise optuna.TrialPruned

    try:
        result = data.train(recipe, on_epoch=report)
    except optuna.TrialPruned:
        best = max(records, key=lambda record: record.validation_accuracy)
        figures = {
            CLEAN: best.validation_accuracy,
            "best_epoch": best.epoch,
            "epochs": len(records),
            "train_accuracy": best.train_accuracy,
            "seconds": sum(record.seconds for record in records),
            "hardware": hardware_name(str(data.compute.device)),
        }
        return Outcome(best.validation_accuracy, figures, pruned=True)
    return judge(result, data, corrupted_images)


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return each setting's share of the variance (functional ANOVA; Hutter et al., 2014).

    Empty where accuracies or settings don't vary, so that there is nothing to explain.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
