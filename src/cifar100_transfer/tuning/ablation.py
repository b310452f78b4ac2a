"""What each of several changes to a recipe is worth, other things being equal."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
import scipy.stats

from cifar100_transfer.config import AblationConfig, Changes

from .judging import CLEAN, judge, judged_by
from .space import BASE, SEED, Recipe, check_ablation
from .study import Outcome, Plan, run_trials, settings_of, trials_table
from .trial_data import TrialData

CONFIDENCE = 0.95
BOOTSTRAP_RESAMPLES = 9999


@dataclass(frozen=True, eq=False)
class AblationResult:
    """What an ablation found.

    Attributes:
        trials: one row a trial; see `trials_table`.
        table: one row a change; see `paired_differences`.
        summary: plain values.
    """

    trials: pd.DataFrame
    table: pd.DataFrame
    summary: dict[str, Any]


def run_ablation(
    model: str, recipe: Recipe, ablation: AblationConfig, data: TrialData, url: str
) -> AblationResult:
    """Train base and changes with every seed, or what is left of it, and compare them.

    Args:
        model: name of the model; a part of the study's name.
        recipe: the model's recipe, of which `ablation.base` makes the base.
        ablation: the changes and the seeds.
        data: images to train on and to judge by.
        url: database of the study.

    Raises:
        UserError: a change does not fit the recipe, the database can't be used, or every trial has
            failed.
    """
    check_ablation(ablation, recipe)
    base = recipe.with_changes(ablation.base)
    changes: dict[str, Changes] = {BASE: {}, **{c.name: c.set for c in ablation.changes}}
    # All changes with one seed come before the next seed, so that a study cut short can be read.
    # What a change sets is part of its jobs: under an old name, other values are other trials.
    jobs: list[Changes] = [
        {"change": name, "set": json.dumps(values, sort_keys=True), "seed": seed}
        for seed in ablation.seeds
        for name, values in changes.items()
    ]
    # Not of changes and seeds: what is added to them goes on with the same study.
    identity = data.identity(recipe=base.as_dict(), corrupted_images=ablation.corrupted_images)
    plan = Plan(f"{model}.ablation-{identity}", jobs=tuple(jobs))

    def objective(trial: optuna.Trial) -> Outcome:
        job = settings_of(trial)
        changed = changes[job["change"]] | {SEED: job["seed"]}
        return judge(data.train(base.with_changes(changed)), data, ablation.corrupted_images)

    trials = trials_table(run_trials(url, plan, objective), plan)
    column = judged_by(ablation.corrupted_images)
    table = paired_differences(trials, list(changes), column)
    summary = {"study": plan.name, "base": base.as_dict(), "judged_by": column}
    return AblationResult(trials, table, summary)


def paired_differences(
    trials: pd.DataFrame, changes: list[str], accuracy: str = CLEAN
) -> pd.DataFrame:
    """Compare every change with the base, seed by seed.

    Equal seeds mean equal order and initial weights, so much of the chance cancels out. Student's
    interval takes the differences to be normal; the bootstrap's (percentile) does not, but is too
    narrow with few seeds, as it can't reach beyond the differences it has seen.

    Args:
        trials: rows with `change`, `seed`, `state`, `accuracy`'s column, `seconds` of training, and
            the `hardware` that it was on, which trials of earlier releases lack.
        changes: names in the order of the rows; the first is the base.
        accuracy: the column that is compared.

    Returns:
        Columns `change`, `seeds` (pairs that both ended), `accuracy`'s (mean over them),
        `difference` (mean over pairs, in accuracy), `t_low`, `t_high`, `bootstrap_low`,
        `bootstrap_high` (95 % intervals; NaN for fewer than two pairs and for the base),
        `relative_time` (of training, over the base's with the same seed: median over pairs on
        the same hardware; NaN if there is none).
    """
    complete = trials[trials["state"] == "complete"]
    named = complete.get("hardware", pd.Series("", complete.index)).fillna("")
    hardware = complete.assign(hardware=named).pivot_table("hardware", "seed", "change", "first")
    by_seed, seconds = (
        complete.pivot_table(column, "seed", "change") for column in (accuracy, "seconds")
    )
    rows = []
    for name in changes:
        pairs = by_seed.reindex(columns=[name, changes[0]]).dropna()
        times = seconds.reindex(columns=[name, changes[0]])
        used = hardware.reindex(columns=[name, changes[0]])
        times = times[used.iloc[:, 0] == used.iloc[:, 1]]
        differences = (pairs.iloc[:, 0] - pairs.iloc[:, 1]).to_numpy()
        t_low, t_high = student_interval(differences)
        low, high = bootstrap_interval(differences)
        rows.append(
            {
                "change": name,
                "seeds": len(pairs),
                accuracy: pairs.iloc[:, 0].mean(),
                "difference": differences.mean() if len(pairs) else np.nan,
                "t_low": t_low,
                "t_high": t_high,
                "bootstrap_low": low,
                "bootstrap_high": high,
                "relative_time": (times.iloc[:, 0] / times.iloc[:, 1]).median(),
            }
        )
    table = pd.DataFrame(rows)
    table.loc[0, ["t_low", "t_high", "bootstrap_low", "bootstrap_high"]] = np.nan
    return table


def student_interval(differences: np.ndarray) -> tuple[float, float]:
    """Return Student's 95 % interval of a mean; NaN for fewer than two values."""
    if len(differences) < 2:
        return np.nan, np.nan
    margin = scipy.stats.sem(differences) * scipy.stats.t.ppf(
        (1 + CONFIDENCE) / 2, len(differences) - 1
    )
    return float(differences.mean() - margin), float(differences.mean() + margin)


def bootstrap_interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the percentile bootstrap's 95 % interval of a mean; NaN for fewer than two values."""
    if len(differences) < 2:
        return np.nan, np.nan
    result = scipy.stats.bootstrap(
        (differences,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=BOOTSTRAP_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
