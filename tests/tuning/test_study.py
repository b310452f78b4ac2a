"""Studies: they resume, survive kills, and several processes share them."""

import gc
import multiprocessing
import os
import resource
import signal
import sqlite3
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from cifar100_transfer.errors import UserError
from cifar100_transfer.tuning import study as study_module
from cifar100_transfer.tuning.locks import FileLocks, Locks, PostgresLocks
from cifar100_transfer.tuning.study import (
    MAX_ATTEMPTS,
    Outcome,
    Plan,
    run_trials,
    seconds_left,
    settings_of,
    trials_table,
)

JOBS = [{"x": number} for number in range(6)]
FOREVER = 60.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database; PostgreSQL's where STUDIES_POSTGRESQL holds the URL of one to write to."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    if "STUDIES_POSTGRESQL" not in os.environ:
        pytest.skip("set STUDIES_POSTGRESQL to the URL of a database to write to")
    return os.environ["STUDIES_POSTGRESQL"]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(f"test-{tmp_path}", jobs=tuple(JOBS))


def square(trial: optuna.Trial) -> Outcome:
    accuracy = settings_of(trial)["x"] ** 2 / 100
    return Outcome(accuracy, {"validation_accuracy": accuracy, "seconds": 0.5})


def test_every_job_runs_once_in_order_and_a_second_run_has_nothing_to_do(
    url: str, plan: Plan
) -> None:
    seen: list[int] = []

    def objective(trial: optuna.Trial) -> Outcome:
        seen.append(settings_of(trial)["x"])
        return square(trial)

    table = trials_table(run_trials(url, plan, objective), plan)
    again = trials_table(run_trials(url, plan, objective), plan)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert table["state"].tolist() == ["complete"] * 6
    assert table["validation_accuracy"].tolist() == [x**2 / 100 for x in seen]
    assert table.equals(again)


def test_the_columns_of_figures_are_in_order_whatever_a_database_gives(plan: Plan) -> None:
    study = optuna.create_study()
    trial = study.ask()
    for name in ("job", "seconds", "accuracy"):
        trial.set_user_attr(name, JOBS[0] if name == "job" else 1.0)
    columns = list(trials_table(study, plan).columns)
    assert columns == ["trial", "state", "x", "accuracy", "seconds", "reason", "replaces"]


@pytest.mark.parametrize(
    "error",
    [UserError("the loss is nan"), torch.OutOfMemoryError("out of memory\nat ..."), MemoryError()],
)
def test_a_failed_trial_is_recorded_and_the_study_goes_on(
    tmp_path: Path, plan: Plan, error: Exception
) -> None:
    def objective(trial: optuna.Trial) -> Outcome:
        if settings_of(trial)["x"] == 2:
            raise error
        return square(trial)

    url = f"sqlite:///{tmp_path}/studies.db"
    table = trials_table(run_trials(url, plan, objective), plan)
    assert Counter(table["state"]) == {"complete": 5, "failed": 1}
    failed = table[table["state"] == "failed"].iloc[0]
    assert failed["x"] == 2
    assert failed["reason"] == (str(error) or "MemoryError").splitlines()[0]
    assert len(trials_table(run_trials(url, plan, objective), plan)) == 6, "it is not tried again"


def test_an_error_of_the_machine_ends_the_call_and_the_next_one_tries_the_trial_again(
    tmp_path: Path, plan: Plan
) -> None:
    def broken(trial: optuna.Trial) -> Outcome:
        if settings_of(trial)["x"] == 2:
            raise RuntimeError("No working C++ compiler found")
        return square(trial)

    url = f"sqlite:///{tmp_path}/studies.db"
    with pytest.raises(RuntimeError, match="compiler"):
        run_trials(url, plan, broken)
    table = trials_table(run_trials(url, plan, square), plan)
    assert Counter(table["state"]) == {"complete": 6, "killed": 1}
    assert set(table[table["state"] == "complete"]["x"]) == {0, 1, 2, 3, 4, 5}


def test_a_database_of_another_optuna_is_refused_in_one_line(tmp_path: Path, plan: Plan) -> None:
    file = tmp_path / "studies.db"
    run_trials(f"sqlite:///{file}", plan, square)
    with closing(sqlite3.connect(file)) as database:
        database.execute("update alembic_version set version_num = 'v9.0.0.a'")
        database.commit()
    with pytest.raises(UserError, match=r"studies\.db are of another Optuna .*same release"):
        run_trials(f"sqlite:///{file}", plan, square)


def test_a_trial_that_was_given_up_is_not_compared_in_the_log(
    tmp_path: Path, plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def objective(trial: optuna.Trial) -> Outcome:
        given_up = settings_of(trial)["x"] in (0, 2)
        return Outcome(0.55, {}, pruned=True) if given_up else Outcome(0.31, {})

    run_trials(f"sqlite:///{tmp_path}/studies.db", plan, objective)
    lines = [line for line in caplog.messages if " trials: " in line]
    assert "x=0: given up; best none yet;" in lines[0]
    assert "x=1: 31.00 %; best 31.00 %;" in lines[1]
    assert "x=2: given up; best 31.00 %;" in lines[2]


def test_memory_is_given_back_after_every_trial(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr(study_module, "return_freed_memory", lambda: events.append("given back"))

    def objective(trial: optuna.Trial) -> Outcome:
        events.append("trial")
        if settings_of(trial)["x"] == 2:
            raise MemoryError
        return square(trial)

    run_trials(f"sqlite:///{tmp_path}/studies.db", plan, objective)
    assert events == ["trial", "given back"] * 6


def test_a_failed_trial_leaves_nothing_in_memory(tmp_path: Path, plan: Plan) -> None:
    class Network:
        pass

    held: list[weakref.ref[Network]] = []

    def objective(trial: optuna.Trial) -> Outcome:
        if settings_of(trial)["x"] == 2:
            network = Network()
            held.append(weakref.ref(network))
            refusal = MemoryError()  # refers to this frame as soon as it is raised, and this to it
            raise refusal
        assert not held or held[0]() is None
        return square(trial)

    gc.disable()
    try:
        run_trials(f"sqlite:///{tmp_path}/studies.db", plan, objective)
    finally:
        gc.enable()
    assert held


def test_a_study_of_failures_says_why(tmp_path: Path, plan: Plan) -> None:
    def objective(trial: optuna.Trial) -> Outcome:
        raise UserError("too small")

    with pytest.raises(UserError, match=r"not one of the 6 trials .* too small"):
        run_trials(f"sqlite:///{tmp_path}/studies.db", plan, objective)


def test_a_bug_and_an_interrupt_stop_the_study_and_its_trial_is_queued_again(
    tmp_path: Path, plan: Plan
) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"

    def interrupted(trial: optuna.Trial) -> Outcome:
        if settings_of(trial)["x"] == 3:
            raise KeyboardInterrupt
        return square(trial)

    with pytest.raises(KeyboardInterrupt):
        run_trials(url, plan, interrupted)
    table = trials_table(run_trials(url, plan, square), plan)
    assert Counter(table["state"]) == {"complete": 6, "killed": 1}
    assert table.query("state == 'killed'")["x"].tolist() == [3]
    assert table.query("replaces == replaces")["replaces"].tolist() == [3]


def test_a_trial_that_kills_its_process_every_time_is_given_up(tmp_path: Path, plan: Plan) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    tries = 0

    def deadly(trial: optuna.Trial) -> Outcome:
        nonlocal tries
        if settings_of(trial)["x"] == 0:
            tries += 1
            raise KeyboardInterrupt
        return square(trial)

    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            run_trials(url, plan, deadly)
    table = trials_table(run_trials(url, plan, deadly), plan)
    assert tries == MAX_ATTEMPTS
    assert Counter(table["state"]) == {"complete": 5, "killed": MAX_ATTEMPTS}


def test_a_process_killed_while_it_queues_a_job_leaves_nothing_out(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    enqueue = optuna.Study.enqueue_trial

    def interrupted(study: optuna.Study, job: dict[str, int], **options: object) -> None:
        if job["x"] == 4:
            raise KeyboardInterrupt
        enqueue(study, job, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_trials(url, plan, square)
    assert sorted(trials_table(run_trials(url, plan, square), plan)["x"]) == [0, 1, 2, 3, 4, 5]


def test_other_jobs_go_on_with_the_study_and_leave_its_former_ones(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    ran: list[int] = []

    def objective(trial: optuna.Trial) -> Outcome:
        ran.append(settings_of(trial)["x"])
        return square(trial)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    # Two jobs are done; the third is queued, and its process killed before it is taken.
    run_trials(url, Plan(plan.name, jobs=({"x": 0}, {"x": 1})), objective)
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "ask", killed)
        with pytest.raises(KeyboardInterrupt):
            run_trials(url, plan, objective)
    fewer_and_new = Plan(plan.name, jobs=({"x": 1}, {"x": 7}))
    table = trials_table(run_trials(url, fewer_and_new, objective), fewer_and_new)
    assert ran == [0, 1, 7]
    assert table["x"].tolist() == [1, 7]
    table = trials_table(run_trials(url, plan, objective), plan)
    assert sorted(ran) == [0, 1, 2, 3, 4, 5, 7]
    assert sorted(table.query("state == 'complete'")["x"]) == [0, 1, 2, 3, 4, 5]


def test_a_process_does_not_wait_for_the_trials_of_other_jobs(tmp_path: Path, plan: Plan) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    log.touch()
    other = context.Process(target=_work, args=(url, Plan(plan.name, jobs=({"x": 9},)), log, 9))
    other.start()
    try:
        _wait_for(lambda: "start 9" in log.read_text())
        assert len(trials_table(run_trials(url, plan, square), plan)) == 6
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


def _work(url: str, plan: Plan, log: Path, hangs_at: int | None) -> None:
    def objective(trial: optuna.Trial) -> Outcome:
        with log.open("a") as file:
            file.write(f"start {settings_of(trial)['x']}\n")
        time.sleep(FOREVER if settings_of(trial)["x"] == hangs_at else 0.05)
        with log.open("a") as file:
            file.write(f"end {settings_of(trial)['x']}\n")
        return square(trial)

    run_trials(url, plan, objective)


def test_two_processes_share_a_study_and_one_is_killed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "POLL_SECONDS", 0.1)
    plan = Plan(f"shared-{tmp_path}", jobs=tuple({"x": number} for number in range(16)))
    log = tmp_path / "log"
    log.touch()
    # Children inherit the imports; the trials here use neither threads nor a GPU.
    context = multiprocessing.get_context("fork")
    # Whichever takes trial 0 hangs there; the other does all else and then waits.
    workers = [context.Process(target=_work, args=(url, plan, log, 0)), None]
    workers[0].start()
    _wait_for(lambda: "start 0\n" in log.read_text())
    workers[1] = context.Process(target=_work, args=(url, plan, log, None))
    workers[1].start()
    _wait_for(lambda: log.read_text().count("end") == 15)
    time.sleep(0.3)
    assert log.read_text().count("start 0\n") == 1, "a living process lost its trial"
    assert workers[1].is_alive(), "nobody would notice the other's death"
    os.kill(workers[0].pid, signal.SIGKILL)
    workers[1].join(timeout=30)
    workers[0].join(timeout=5)
    assert workers[1].exitcode == 0
    lines = Counter(log.read_text().splitlines())
    assert {lines[f"end {x}"] for x in range(16)} == {1}
    assert lines["start 0"] == 2
    assert {lines[f"start {x}"] for x in range(1, 16)} == {1}
    table = trials_table(run_trials(url, plan, square), plan)
    assert Counter(table["state"]) == {"complete": 16, "killed": 1}


def test_processes_that_start_together_divide_the_trials(url: str, tmp_path: Path) -> None:
    plan = Plan(f"divided-{tmp_path}", jobs=tuple({"x": number} for number in range(24)))
    log = tmp_path / "log"
    log.touch()
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(url, plan, log, None)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    lines = log.read_text().splitlines()
    assert sorted(lines) == sorted(f"{what} {x}" for x in range(24) for what in ("start", "end"))


def test_a_trial_that_ends_while_it_is_looked_at_is_no_orphan(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    try_hold = FileLocks.try_hold
    ended = []

    @contextmanager
    def just_after_its_end(locks: FileLocks, name: str) -> Iterator[bool]:
        # Another process ends the trial after it was read as running, and releases its lock.
        study = optuna.load_study(study_name=plan.name, storage=url)
        if study.trials[0].state == TrialState.RUNNING:
            study.tell(0, 0.5)
            ended.append(name)
        with try_hold(locks, name) as free:
            yield free

    def interrupted(trial: optuna.Trial) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(url, plan, interrupted)
    monkeypatch.setattr(FileLocks, "try_hold", just_after_its_end)
    table = trials_table(run_trials(url, plan, square), plan)
    assert len(ended) == 1
    assert table["state"].tolist() == ["complete"] * 6


def _wait_for(condition: object, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_a_lock_has_one_holder_at_a_time(url: str, tmp_path: Path) -> None:
    import sqlalchemy

    locks: Locks = (
        FileLocks(tmp_path) if url.startswith("sqlite") else PostgresLocks(sqlalchemy.make_url(url))
    )
    with locks.hold("a"), locks.try_hold("a") as again, locks.try_hold("b") as other:
        assert (again, other) == (False, True)
    with locks.try_hold("a") as free:
        assert free


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("studies.db", "no address of a database"),
        ("mysql://host/db", "no address of a database"),
        ("sqlite://", "in memory can't be resumed"),
        ("postgresql+psycopg://user:secret@127.0.0.1:1/none", "can't be used|pip install"),
        ("postgresql+psycopg://user@127.0.0.1:1/no?password=secret", "can't be used|pip install"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_user_error_without_its_password(
    plan: Plan, url: str, said: str
) -> None:
    with pytest.raises(UserError, match=said) as raised:
        run_trials(url, plan, square)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_database_that_fails_during_a_trial_is_one_line_and_the_study_goes_on_later(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "SQLITE_TIMEOUT_SECONDS", 0.1)
    file = tmp_path / "studies.db"
    with closing(sqlite3.connect(file)) as other:

        def locked(trial: optuna.Trial) -> Outcome:
            if settings_of(trial)["x"] == 2:
                other.execute("BEGIN EXCLUSIVE")
            return square(trial)

        with pytest.raises(UserError, match=rf"{file} can't be used \(.*is locked\)") as raised:
            run_trials(f"sqlite:///{file}", plan, locked)
    assert "\n" not in str(raised.value)
    table = trials_table(run_trials(f"sqlite:///{file}", plan, square), plan)
    assert Counter(table["state"]) == {"complete": 6, "killed": 1}


def test_a_trial_that_another_process_took_over_does_not_end_this_one(
    tmp_path: Path, plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    # As after a restart of the server, which forgets who held the trial's lock.
    url = f"sqlite:///{tmp_path}/studies.db"
    taken: list[int] = []

    def objective(trial: optuna.Trial) -> Outcome:
        if not taken:
            taken.append(trial.number)
            other = optuna.load_study(study_name=plan.name, storage=url)
            other.tell(trial.number, state=TrialState.FAIL)
        return square(trial)

    table = trials_table(run_trials(url, plan, objective), plan)
    assert Counter(table["state"]) == {"complete": 6, "killed": 1}
    assert "took this one for gone" in caplog.text


def test_settings_that_were_given_up_are_not_tried_again(tmp_path: Path) -> None:
    tried: list[int] = []

    def objective(trial: optuna.Trial) -> Outcome:
        tried.append(trial.params["x"])
        trial.report(0.25, 1)
        return Outcome(0.25, {"seconds": 1.0}, pruned=trial.params["x"] == 1)

    distributions = {"x": CategoricalDistribution([0, 1])}
    plan = Plan("drawn", distributions, trials=12, sampler=optuna.samplers.RandomSampler)
    table = trials_table(run_trials(f"sqlite:///{tmp_path}/studies.db", plan, objective), plan)
    assert sorted(tried) == [0, 1]
    assert set(zip(table["x"], table["state"], strict=True)) == {(0, "complete"), (1, "pruned")}


def test_a_full_disk_during_a_trial_is_one_line(tmp_path: Path, plan: Plan) -> None:
    file = tmp_path / "studies.db"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(trial: optuna.Trial) -> Outcome:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size // 2, hard))
        return square(trial)

    try:
        with pytest.raises(UserError, match=rf"{file} can't be used \(.*disk I/O error\)"):
            run_trials(f"sqlite:///{file}", plan, filling)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_time_left_counts_epochs_and_shares_them_among_processes() -> None:
    def trial(number: int, state: TrialState, epochs: int) -> optuna.trial.FrozenTrial:
        start = datetime(2024, 1, 1)
        finished = state == TrialState.COMPLETE
        return optuna.trial.FrozenTrial(
            number=number,
            state=state,
            value=0.5 if finished else None,
            datetime_start=start,
            datetime_complete=start + timedelta(seconds=10 * epochs) if finished else None,
            params={},
            distributions={},
            user_attrs={"job": {"training.epochs": epochs}},
            system_attrs={},
            intermediate_values={},
            trial_id=number,
        )

    done = [trial(0, TrialState.COMPLETE, 1), trial(1, TrialState.COMPLETE, 3)]
    waiting = [trial(2, TrialState.WAITING, 2), trial(3, TrialState.WAITING, 4)]
    assert seconds_left([*done, *waiting], undrawn=0) == pytest.approx(60)
    assert seconds_left([*done, *waiting], undrawn=1) == pytest.approx(80)
    running = trial(4, TrialState.RUNNING, 2)
    assert seconds_left([*done, *waiting, running], undrawn=0) == pytest.approx(70 / 2)
    assert seconds_left([*done, *waiting], jobs=[{"training.epochs": 5}]) == pytest.approx(110)
    assert seconds_left(waiting, undrawn=3) == 0
