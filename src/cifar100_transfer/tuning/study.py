"""Trials in an Optuna study that several processes may work on and that outlives all of them.

A study lies in a database. To take a trial from it, a process holds the study's lock; while it
works on the trial, it holds the trial's own lock. What is marked as running but not locked was left
by a process that is gone, and is queued again. So no trial runs twice at a time, none is lost, and
a killed process loses the one trial it was at.
"""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import sqlalchemy
import torch
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from cifar100_transfer.config import Changes
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import is_out_of_memory, return_freed_memory
from cifar100_transfer.passwords import hide_passwords

from .locks import FileLocks, Locks, PostgresLocks

logger = logging.getLogger(__name__)

EPOCHS = "training.epochs"
# A trial whose process dies every time, as where the system kills it for its memory, is given up.
MAX_ATTEMPTS = 3
POLL_SECONDS = 1.0
# How long a process waits for another's write to a SQLite database.
SQLITE_TIMEOUT_SECONDS = 60

# Keys of Optuna's user attributes.
_JOB, _ATTEMPT, _REASON = "job", "attempt", "reason"
_REPLACES, _REPEATS = "replaces", "repeats"


@dataclass(frozen=True)
class Plan:
    """What the trials of a study are.

    Attributes:
        name: of the study; equal names mean comparable trials.
        distributions: of the settings that a sampler draws, or that importances are asked of. A
            study keeps to its first ones.
        jobs: the settings of every trial; None: `sampler` draws them. A study may get other jobs
            later: those it knows are not run again.
        trials: how many trials a sampler draws.
        sampler: makes a sampler from the number of trials there are.
        pruner: decides by the reported accuracies which trials to give up.
    """

    name: str
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    jobs: tuple[Changes, ...] | None = None
    trials: int = 0
    sampler: Callable[[int], optuna.samplers.BaseSampler] = optuna.samplers.RandomSampler
    pruner: optuna.pruners.BasePruner = field(default_factory=optuna.pruners.NopPruner)

    def has(self, trial: FrozenTrial | optuna.Trial) -> bool:
        """Whether a trial of the study is one of these."""
        return self.jobs is None or trial.user_attrs.get(_JOB) in self.jobs


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        accuracy: in [0, 1], by which it is compared with the other trials.
        figures: what the table shall say; plain values.
        pruned: whether it was given up before its last epoch.
    """

    accuracy: float
    figures: dict[str, Any]
    pruned: bool = False


Objective = Callable[[optuna.Trial], Outcome]


def run_trials(url: str, plan: Plan, objective: Objective) -> optuna.Study:
    """Work on a study until all its trials are finished, by this process or another.

    Args:
        url: SQLAlchemy's URL of a SQLite file (`sqlite:///PATH`) or a PostgreSQL database
            (`postgresql+psycopg://USER@HOST/DATABASE`). It is made if absent.
        plan: which trials there are.
        objective: runs one trial, and would come to the same if it ran it again: settings that a
            sampler draws once more get what they came to before. A `UserError`, and what torch
            raises where memory is short, make the trial a failed one; the study goes on. Any other
            error ends this call, and the next one tries the trial again.

    Returns:
        The study, with all trials.

    Raises:
        UserError: the database can't be used, or every trial has failed.
    """
    parsed = _parse(url)
    shown = _shown(parsed)
    with _refusals_of(shown):
        study, locks = _open(parsed, plan)
        _log_start(study, plan, shown)
        _work_off(study, plan, locks, objective)
        _check_any_finished(study, plan)
    return study


def settings_of(trial: FrozenTrial | optuna.Trial) -> dict[str, Any]:
    """Return what a trial tries: its job, or what was drawn for it."""
    return trial.user_attrs.get(_JOB) or trial.params


def trials_table(study: optuna.Study, plan: Plan) -> pd.DataFrame:
    """Return one row a trial of the plan, in the order in which they were made.

    Columns: `trial`; `state` (`complete`, `pruned`, `failed`, or `killed`: its process ended, and
    another trial replaces it); one a setting; the outcome's figures by name; where settings were
    drawn again, `repeats`, the number of the trial whose figures these are; `reason` of a failure;
    `replaces`, the number of a killed trial.
    """
    rows = [
        {
            "trial": trial.number,
            "state": state_of(trial),
            **settings_of(trial),
            **_figures(trial),
            _REASON: trial.user_attrs.get(_REASON),
            _REPLACES: trial.user_attrs.get(_REPLACES),
        }
        for trial in _trials(study, plan)
    ]
    return pd.DataFrame(rows)


def _figures(trial: FrozenTrial) -> dict[str, Any]:
    # Sorted, as PostgreSQL gives them in any order.
    return {
        name: value
        for name, value in sorted(trial.user_attrs.items())
        if name not in (_JOB, _ATTEMPT, _REASON, _REPLACES)
    }


def state_of(trial: FrozenTrial) -> str:
    """Return the state of a trial in one word; see `trials_table`."""
    if trial.state == TrialState.FAIL:
        return "failed" if _REASON in trial.user_attrs else "killed"
    return trial.state.name.lower()


@contextmanager
def _refusals_of(shown: str) -> Iterator[None]:
    """Say in one line what a database refuses, at the start or hours later."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(
            f"the studies in {shown} can't be used ({reason}): check address, rights, disk and "
            f"server and run again; trials that were finished are kept"
        ) from error


def _open(url: sqlalchemy.URL, plan: Plan) -> tuple[optuna.Study, Locks]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        locks = _locks(url)
        # Optuna's making of tables can't be done by two at a time.
        with locks.hold("storage"):
            storage = optuna.storages.RDBStorage(
                url.render_as_string(hide_password=False), engine_kwargs=_engine_options(url)
            )
            study = optuna.create_study(
                storage=storage,
                study_name=plan.name,
                direction="maximize",
                load_if_exists=True,
                pruner=plan.pruner,
            )
    except RuntimeError as error:
        if "schema" not in str(error):
            raise
        raise UserError(
            f"the studies in {_shown(url)} are of another Optuna ({str(error).splitlines()[0]}): "
            f"install the same release on all machines, or name another database with "
            f"--params=studies=URL"
        ) from error
    except ImportError as error:
        raise UserError(
            f"{_shown(url)} needs a driver that is not installed ({error}): "
            f"pip install 'cifar100-transfer[postgresql]'"
        ) from error
    return study, locks


def _shown(url: sqlalchemy.URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return str(hide_passwords(url.render_as_string(hide_password=True)))


def _parse(url: str) -> sqlalchemy.URL:
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(
            "studies: this is no address of a database: give sqlite:///FILE or "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )
    return parsed


def _locks(url: sqlalchemy.URL) -> Locks:
    if url.get_backend_name() == "postgresql":
        return PostgresLocks(url)
    if not url.database or url.database == ":memory:":
        raise UserError("studies: a study in memory can't be resumed: give sqlite:///FILE")
    file = Path(url.database)
    return FileLocks(file.with_name(f"{file.name}.locks"))


def _engine_options(url: sqlalchemy.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": SQLITE_TIMEOUT_SECONDS}}
    # Hours lie between two trials; a connection may be gone by then.
    return {"pool_pre_ping": True}


def _trials(study: optuna.Study, plan: Plan) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if plan.has(trial)]


def _work_off(study: optuna.Study, plan: Plan, locks: Locks, objective: Objective) -> None:
    waiting_told = False
    while True:
        with ExitStack() as held:
            with locks.hold(plan.name):
                _requeue_orphans(study, plan, locks)
                trial = _take(study, plan)
                if trial:
                    held.enter_context(locks.hold(_lock_name(plan, trial.number)))
            if trial:
                _run(study, plan, trial, objective)
                continue
        running = [t for t in _trials(study, plan) if t.state == TrialState.RUNNING]
        if not running:
            break
        if not waiting_told:
            logger.info("Waiting for %d trials that other processes are at", len(running))
            waiting_told = True
        time.sleep(POLL_SECONDS)


def _requeue_orphans(study: optuna.Study, plan: Plan, locks: Locks) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        with locks.try_hold(_lock_name(plan, trial.number)) as free:
            # Its process may have finished it and let go of it since the trials were read.
            if free and study.trials[trial.number].state == TrialState.RUNNING:
                study.tell(trial.number, state=TrialState.FAIL)
    # From the database alone, so that it doesn't matter where a process is killed.
    trials = _trials(study, plan)
    replaced = _replaced(trials)
    for trial in trials:
        attempt = trial.user_attrs.get(_ATTEMPT, 1)
        if state_of(trial) == "killed" and trial.number not in replaced and attempt < MAX_ATTEMPTS:
            logger.info("The process of trial %d is gone: the trial is queued again", trial.number)
            job = trial.user_attrs.get(_JOB)
            again = {_REPLACES: trial.number, _ATTEMPT: attempt + 1} | ({_JOB: job} if job else {})
            study.enqueue_trial(settings_of(trial), user_attrs=again)


def _replaced(trials: list[FrozenTrial]) -> set[int]:
    return {t.user_attrs[_REPLACES] for t in trials if _REPLACES in t.user_attrs}


def _lock_name(plan: Plan, number: int) -> str:
    return f"{plan.name}-trial-{number}"


def _take(study: optuna.Study, plan: Plan) -> optuna.Trial | None:
    """Take a trial from the queue, the next job, or draw one; the study's lock must be held."""
    while True:
        trials = study.get_trials(deepcopy=False)
        if not _waiting(trials):
            if jobs := _untried(trials, plan):
                study.enqueue_trial(jobs[0], user_attrs={_JOB: jobs[0]})
            elif _undrawn(trials, plan) == 0:
                return None
        # The number of trials is part of the seed, so that processes don't draw the same settings.
        study.sampler = plan.sampler(len(trials))
        trial = study.ask(dict(plan.distributions))
        if plan.has(trial):
            return trial
        # Queued for other jobs than these, by a process that was killed.
        study.tell(trial, state=TrialState.FAIL)


def _waiting(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.WAITING]


def _untried(trials: list[FrozenTrial], plan: Plan) -> list[Changes]:
    tried = [trial.user_attrs.get(_JOB) for trial in trials]
    return [job for job in plan.jobs or () if job not in tried]


def _undrawn(trials: list[FrozenTrial], plan: Plan) -> int:
    if plan.jobs is not None:
        return 0
    return max(0, plan.trials - (len(trials) - len(_replaced(trials))))


def _run(study: optuna.Study, plan: Plan, trial: optuna.Trial, objective: Objective) -> None:
    try:
        _run_held(study, plan, trial, objective)
    except optuna.exceptions.UpdateFinishedTrialError:
        # A database server that is started anew forgets who held the lock.
        logger.warning(
            "Trial %d: another process took this one for gone and has queued the trial again: what "
            "it came to here is dropped",
            trial.number,
        )
    _return_memory()


def _run_held(study: optuna.Study, plan: Plan, trial: optuna.Trial, objective: Objective) -> None:
    failed = False
    try:
        outcome = _known_outcome(study, trial) or objective(trial)
    except (UserError, MemoryError, RuntimeError) as error:
        if not isinstance(error, UserError) and not is_out_of_memory(error):
            raise  # of the machine or a mistake in code: once mended, the trial has a chance
        failed = True
        reason = (str(error) or type(error).__name__).splitlines()[0]
        trial.set_user_attr(_REASON, reason)
        study.tell(trial, state=TrialState.FAIL)
        logger.warning("Trial %d (%s) has failed: %s", trial.number, _settings(trial), reason)
    else:
        for name, value in outcome.figures.items():
            trial.set_user_attr(name, value)
        if outcome.pruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, outcome.accuracy)
        _log_progress(study, plan, trial, outcome)
    if failed:
        # What the error's traceback held, which can be had only after its clause; always, it would
        # cost more than a small trial.
        gc.collect()


def _known_outcome(study: optuna.Study, trial: optuna.Trial) -> Outcome | None:
    """Return what the very same settings, seed included, came to before.

    Raises:
        UserError: they failed.
    """
    settings = settings_of(trial)
    for earlier in study.get_trials(deepcopy=False):
        reason = earlier.user_attrs.get(_REASON)
        if settings_of(earlier) != settings or (earlier.value is None and reason is None):
            continue
        logger.info("Trial %d repeats trial %d: not trained again", trial.number, earlier.number)
        if earlier.value is None:
            trial.set_user_attr(_REPEATS, earlier.number)
            raise UserError(reason)
        figures = _figures(earlier) | {_REPEATS: earlier.number}
        return Outcome(earlier.value, figures, earlier.state == TrialState.PRUNED)
    return None


def _return_memory() -> None:
    """Leave nothing of a training to the next one, whose network may need other blocks."""
    return_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _settings(trial: optuna.Trial) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings_of(trial).items())


def _check_any_finished(study: optuna.Study, plan: Plan) -> None:
    trials = _trials(study, plan)
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        reasons = [t.user_attrs[_REASON] for t in trials if _REASON in t.user_attrs]
        reason = reasons[-1] if reasons else "their processes were killed"
        raise UserError(f"not one of the {len(trials)} trials came to an end; the last: {reason}")


def _log_start(study: optuna.Study, plan: Plan, shown: str) -> None:
    trials = _trials(study, plan)
    done = sum(trial.state.is_finished() for trial in trials) - len(_replaced(trials))
    total = len(plan.jobs) if plan.jobs is not None else plan.trials
    logger.info("Study %s in %s: %d of %d trials are done", plan.name, shown, done, total)


def _log_progress(study: optuna.Study, plan: Plan, trial: optuna.Trial, outcome: Outcome) -> None:
    trials = _trials(study, plan)
    finished = sum(t.state.is_finished() for t in trials) - len(_replaced(trials))
    jobs, undrawn = _untried(trials, plan), _undrawn(trials, plan)
    left = len(jobs) + undrawn + sum(not t.state.is_finished() for t in trials)
    complete = [t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    logger.info(
        "%d of %d trials: %s: %s; best %s; about %s left",
        finished,
        finished + left,
        _settings(trial),
        # Its accuracy may be of other images than those that finished trials are judged by.
        "given up" if outcome.pruned else f"{100 * outcome.accuracy:.2f} %",
        f"{100 * max(complete):.2f} %" if complete else "none yet",
        timedelta(seconds=round(seconds_left(trials, undrawn, jobs))),
    )


def seconds_left(
    trials: list[FrozenTrial], undrawn: int = 0, jobs: Sequence[Changes] = ()
) -> float:
    """Estimate the seconds until all trials are finished, if no process joins or leaves.

    The time of a trial is taken to grow with its epochs, where those are a setting.

    Args:
        trials: all trials there are, at least one of them finished.
        undrawn: number of trials that are still to be drawn.
        jobs: settings of trials that are still to be made.
    """
    done = [t for t in trials if t.duration and state_of(t) in ("complete", "pruned")]
    if not done:
        return 0.0
    work = sum(_work(settings_of(trial)) for trial in done)
    per_work = sum(t.duration.total_seconds() for t in done if t.duration) / work
    queued = [settings_of(trial) for trial in _waiting(trials)]
    ahead = sum(_work(settings) for settings in (*queued, *jobs)) + undrawn * work / len(done)
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    # Trials of other processes are on average halfway, and those processes share what is ahead.
    ahead += sum(_work(settings_of(trial)) for trial in running) / 2
    return per_work * ahead / (len(running) + 1)


def _work(settings: Mapping[str, Any]) -> float:
    return float(settings.get(EPOCHS, 1))
