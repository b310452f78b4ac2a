"""Search, ablation and screening on tiny images, and their figures."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from pydantic import ValidationError

from cifar100_transfer.config import (
    AblationConfig,
    ModelConfig,
    ScreeningConfig,
    SearchConfig,
    SpaceEntry,
    TrainingConfig,
)
from cifar100_transfer.data import ImageSet, stratified_subset
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation.robustness import (
    measure_robustness,
    predictors_of,
)
from cifar100_transfer.manifest import hardware_name
from cifar100_transfer.models import ClassifierSpec, count_flops
from cifar100_transfer.training import Compute, TrainingResult, batch_size
from cifar100_transfer.training.batch_size import images_per_second
from cifar100_transfer.training.steps import Engine
from cifar100_transfer.tuning import figures, screening, search
from cifar100_transfer.tuning.ablation import (
    AblationResult,
    bootstrap_interval,
    paired_differences,
    run_ablation,
    student_interval,
)
from cifar100_transfer.tuning.screening import _spend, run_screening
from cifar100_transfer.tuning.search import choose_best, recipe_file, run_search
from cifar100_transfer.tuning.space import Recipe
from cifar100_transfer.tuning.trial_data import TrialData

RECIPE = Recipe(
    ModelConfig(architecture="simple_cnn"),
    TrainingConfig.model_validate({"epochs": 2, "batch_size": 8, "augmentation": {"flip": False}}),
)
GRID = SearchConfig.model_validate(
    {
        "space": [
            {"parameter": "training.batch_size", "values": [8, 16, 64]},
            {"parameter": "training.seed", "values": [0, 1]},
        ]
    }
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


def is_drawn(figure: Figure) -> bool:
    # Laying a figure out draws all of it; `draw_without_rendering` has been called by now.
    return any(axes.has_data() or axes.texts for axes in figure.axes)


def test_a_grid_tries_every_combination_and_writes_a_recipe_that_trains_the_same(
    data: TrialData, url: str
) -> None:
    result = run_search("m", RECIPE, GRID, data, url)
    assert len(result.trials) == 6
    # A batch larger than the training set is an error of two trials, not of the study.
    assert Counter(result.trials["state"]) == {"complete": 4, "failed": 2}
    assert set(result.trials.query("state == 'failed'")["training.batch_size"]) == {64}
    block = yaml.safe_load(recipe_file("m", result))["m"]
    best = Recipe(
        ModelConfig.model_validate(block["model"]), TrainingConfig.model_validate(block["training"])
    )
    assert best == result.best
    assert best.training.batch_size == result.summary["best_settings"]["training.batch_size"]
    again = data.train(best.with_changes({"training.seed": 1})).best.validation_accuracy
    assert again == result.summary["best_accuracies"][1]
    assert result.summary["settings"] == ["training.batch_size", "training.seed"]
    for drawn in (
        figures.search_history(result.trials, "t"),
        figures.slices(result.trials, result.summary["settings"], "t"),
        figures.parallel_coordinates(result.trials, result.summary["settings"], "t"),
        figures.importances(result.summary["importances"], "t"),
    ):
        assert is_drawn(drawn)


@pytest.mark.parametrize("given", [{}, {"trials": 5}, {"trials": 1, "sampler": "tpe"}])
def test_a_number_of_trials_that_a_grid_does_not_take_is_warned_of(
    data: TrialData, url: str, caplog: pytest.LogCaptureFixture, given: dict[str, Any]
) -> None:
    space = [{"parameter": "training.epochs", "values": [1]}]
    run_search("m", RECIPE, SearchConfig.model_validate({"space": space, **given}), data, url)
    warned = [text for text in caplog.messages if "search.trials" in text]
    said = (
        "m.search.trials=5: without effect, as sampler=grid tries each of its 1 combinations once"
    )
    assert warned == ([said] if given == {"trials": 5} else [])


def test_a_combination_that_no_recipe_takes_fails_alone(data: TrialData, url: str) -> None:
    search = SearchConfig.model_validate(
        {
            "space": [
                {"parameter": "training.batch_size", "values": [2, 8]},
                {"parameter": "training.accumulation_steps", "values": [1, 4]},
            ]
        }
    )
    result = run_search("m", RECIPE.with_changes({"training.epochs": 1}), search, data, url)
    assert Counter(result.trials["state"]) == {"complete": 3, "failed": 1}
    (reason,) = result.trials["reason"].dropna()
    assert "a batch has no more parts than images" in reason


def test_a_search_over_a_switch_is_run_and_drawn(data: TrialData, url: str) -> None:
    switch = "training.augmentation.flip"
    search = SearchConfig.model_validate(
        {"space": [{"parameter": switch, "values": [True, False]}]}
    )
    result = run_search("m", RECIPE, search, data, url)
    assert set(result.trials[switch]) == {True, False}
    assert result.summary["best_settings"][switch] in (True, False)
    assert is_drawn(figures.slices(result.trials, result.summary["settings"], "t"))
    assert is_drawn(figures.parallel_coordinates(result.trials, result.summary["settings"], "t"))


def test_another_recipe_or_other_images_start_another_study(data: TrialData, url: str) -> None:
    search = SearchConfig.model_validate(
        {"space": [{"parameter": "training.epochs", "values": [1]}]}
    )
    changed = RECIPE.with_changes({"training.label_smoothing": 0.1})
    fewer = replace(data, train_set=data.train_set.subset(torch.arange(24)))
    names = {
        run_search("m", recipe, search, images, url).summary["study"]
        for recipe, images in ((RECIPE, data), (changed, data), (RECIPE, fewer), (RECIPE, data))
    }
    assert len(names) == 3
    narrow = replace(data, compute=Compute(precision=torch.bfloat16))
    assert run_search("m", RECIPE, search, narrow, url).summary["study"] not in names


def test_a_sampled_search_draws_within_its_space_goes_on_and_repeats_itself(
    data: TrialData, tmp_path: Path
) -> None:
    def sampled(trials: int) -> SearchConfig:
        return SearchConfig.model_validate(
            {
                "sampler": "tpe",
                "trials": trials,
                "space": [
                    {
                        "parameter": "training.optimizer.learning_rate",
                        "low": 1e-4,
                        "high": 1e-1,
                        "log": True,
                    },
                    {"parameter": "training.epochs", "low": 1, "high": 3},
                    {"parameter": "training.optimizer.name", "values": ["adam", "sgd"]},
                ],
            }
        )

    first, second = (f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "second"))
    run_search("m", RECIPE, sampled(2), data, first)
    table = run_search("m", RECIPE, sampled(4), data, first).trials
    at_once = run_search("m", RECIPE, sampled(4), data, second).trials
    drawn = ["training.optimizer.learning_rate", "training.epochs", "training.optimizer.name"]
    assert table[[*drawn, "validation_accuracy"]].equals(at_once[[*drawn, "validation_accuracy"]])
    assert table[drawn[0]].between(1e-4, 1e-1).all()
    assert table[drawn[0]].nunique() == 4
    assert table[drawn[1]].isin([1, 2, 3]).all()
    assert is_drawn(figures.parallel_coordinates(table, drawn, "t"))
    assert is_drawn(figures.slices(table, drawn, "t"))


def test_a_sampler_takes_every_seed_that_is_allowed(data: TrialData, url: str) -> None:
    entry = {"parameter": "training.batch_size", "values": [8, 16]}
    sampled = {"sampler": "tpe", "trials": 2, "space": [entry]}
    search = SearchConfig.model_validate({**sampled, "seed": 2**32 - 1})
    assert run_search("m", RECIPE, search, data, url).summary["trials"] == {"complete": 2}
    with pytest.raises(ValidationError, match="seed"):
        SearchConfig.model_validate({**sampled, "seed": 2**32})


@pytest.mark.parametrize("pruner", ["median", "successive_halving"])
def test_a_hopeless_trial_is_given_up(data: TrialData, url: str, pruner: str) -> None:
    rates = [0.01, 0.011, 0.012, 0.013, 0.014, 1e-30, 1e-31, 1e-32]
    search = SearchConfig.model_validate(
        {
            "pruner": pruner,
            "space": [{"parameter": "training.optimizer.learning_rate", "values": rates}],
        }
    )
    recipe = RECIPE.with_changes({"training.epochs": 6, "training.optimizer.name": "adamw"})
    result = run_search("m", recipe, search, data, url)
    pruned = result.trials.query("state == 'pruned'")
    # Successive halving gives up decent trials too: it keeps a quarter.
    assert set(pruned["training.optimizer.learning_rate"]) >= {1e-30, 1e-31, 1e-32}
    assert (pruned["epochs"] < 6).all()
    assert set(pruned["hardware"]) == {hardware_name("cpu")}
    assert result.best.training.optimizer.learning_rate in rates[:5]


def test_successive_halving_judges_after_the_first_epoch_of_long_trainings() -> None:
    """Optuna alone would begin at a hundredth of the epochs of the first trial."""
    study = optuna.create_study(
        direction="maximize", pruner=search._PRUNERS["successive_halving"]()
    )
    better, worse = study.ask(), study.ask()
    for epoch in range(1, 401):
        better.report(0.9, epoch)
        better.should_prune()
    study.tell(better, 0.9)
    worse.report(0.8, 1)
    assert worse.should_prune()


def test_candidates_are_checked_before_any_trial(data: TrialData, url: str) -> None:
    search = SearchConfig.model_validate(
        {"space": [{"parameter": "training.epochs", "values": [1, 0]}]}
    )
    with pytest.raises(UserError, match=r"training\.epochs=0"):
        run_search("m", RECIPE, search, data, url)
    assert not Path(url.removeprefix("sqlite:///")).exists()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.floats(0, 1)), min_size=1).map(
        lambda rows: {(name, seed): (name, seed, value) for name, seed, value in rows}.values()
    )
)
def test_the_best_settings_have_the_highest_mean_of_those_with_all_seeds(
    rows: list[tuple[str, int, float]],
) -> None:
    results = [({"x": name, "training.seed": seed}, value) for name, seed, value in rows]
    settings_, accuracies = choose_best(results)
    table = pd.DataFrame(rows, columns=["x", "seed", "value"]).groupby("x")["value"]
    means = table.mean()[table.size() == table.size().max()]
    assert means[settings_["x"]] == pytest.approx(means.max())
    assert sorted(accuracies) == sorted(table.get_group(settings_["x"]))
    assert "training.seed" not in settings_


def test_settings_that_were_drawn_again_were_not_tried_with_more_seeds() -> None:
    results = [({"x": "b"}, 0.1), ({"x": "a"}, 0.2), ({"x": "b"}, 0.1)]
    assert choose_best(results) == ({"x": "a"}, [0.2])
    seeded = [({"x": name, "training.seed": 0}, value) for name, value in (("b", 0.1), ("a", 0.2))]
    assert choose_best([*seeded, seeded[0]]) == ({"x": "a"}, [0.2])


def two_batch_sizes(trials: int) -> SearchConfig:
    """So few settings that TPE draws them again and again."""
    space = [{"parameter": "training.batch_size", "values": [8, 16]}]
    return SearchConfig.model_validate({"sampler": "tpe", "trials": trials, "space": space})


def test_settings_that_are_drawn_again_are_not_trained_again(
    data: TrialData, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = TrialData.train

    def count(images: TrialData, recipe: Recipe, **options: Any) -> TrainingResult:
        trained.append(recipe.training.images_per_step)
        return train(images, recipe, **options)

    monkeypatch.setattr(TrialData, "train", count)
    table = run_search("m", RECIPE, two_batch_sizes(trials=6), data, url).trials
    assert sorted(trained) == [8, 16]
    assert table["state"].tolist() == ["complete"] * 6
    repeated = table[table["repeats"].notna()]
    assert len(repeated) == 4
    figures_ = ["training.batch_size", "validation_accuracy", "best_epoch", "seconds"]
    originals = table.loc[repeated["repeats"].astype(int), figures_]
    assert (repeated[figures_].to_numpy() == originals.to_numpy()).all()


def test_settings_that_failed_are_not_trained_again_when_they_are_drawn_again(
    data: TrialData, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = TrialData.train

    def fail_with_large_batches(
        images: TrialData, recipe: Recipe, **options: Any
    ) -> TrainingResult:
        trained.append(recipe.training.images_per_step)
        if recipe.training.images_per_step > 8:
            raise UserError("too little memory")
        return train(images, recipe, **options)

    monkeypatch.setattr(TrialData, "train", fail_with_large_batches)
    table = run_search("m", RECIPE, two_batch_sizes(trials=8), data, url).trials
    assert sorted(trained) == [8, 16]
    failed = table[table["state"] == "failed"]
    assert len(failed) > 1
    assert set(failed["reason"]) == {"too little memory"}
    assert failed["repeats"].notna().sum() == len(failed) - 1


def test_an_ablation_pairs_every_change_with_the_base_by_seed(data: TrialData, url: str) -> None:
    ablation = AblationConfig.model_validate(
        {
            "base": {"training.epochs": 1},
            "changes": [
                {"name": "slow", "set": {"training.optimizer.learning_rate": 1e-30}},
                {"name": "too large", "set": {"training.batch_size": 64}},
            ],
            "seeds": [3, 4],
        }
    )
    result = run_ablation("m", RECIPE, ablation, data, url)
    assert result.table["change"].tolist() == ["base", "slow", "too large"]
    assert result.table["seeds"].tolist() == [2, 2, 0]
    assert set(result.trials["hardware"].dropna()) == {hardware_name("cpu")}
    accuracies = {
        (change, seed): data.train(
            RECIPE.with_changes(
                {"training.epochs": 1, "training.seed": seed, "training.optimizer.learning_rate": r}
            )
        ).best.validation_accuracy
        for change, r in (("base", 1e-3), ("slow", 1e-30))
        for seed in (3, 4)
    }
    differences = [accuracies["slow", seed] - accuracies["base", seed] for seed in (3, 4)]
    assert result.table.loc[1, "difference"] == pytest.approx(np.mean(differences))
    assert is_drawn(figures.ablation(result.table, "t"))


def test_an_ablation_is_drawn_without_figures_that_it_lacks() -> None:
    trials = pd.DataFrame(
        {
            "change": ["base", "one", "two"],
            "seed": 0,
            "state": ["failed", "complete", "failed"],
            "validation_accuracy": [np.nan, 0.5, np.nan],
            "seconds": [np.nan, 1.0, np.nan],
        }
    )

    def texts(states: list[str]) -> str:
        known = trials.assign(state=states)
        table = paired_differences(known, ["base", "one", "two"], "validation_accuracy")
        figure = figures.ablation(table, "t")
        return " ".join(text.get_text() for text in figure.findobj(Text))

    assert "No trial of the base came to an end" in texts(["failed", "complete", "failed"])
    trials["validation_accuracy"] = [0.4, 0.5, np.nan]
    assert "nan" not in texts(["complete", "complete", "failed"])


def test_a_seed_or_a_change_that_is_added_trains_nothing_again(data: TrialData, url: str) -> None:
    def ablate(seeds: list[int], rates: dict[str, float]) -> AblationResult:
        changes = [
            {"name": name, "set": {"training.optimizer.learning_rate": rate}}
            for name, rate in rates.items()
        ]
        ablation = AblationConfig.model_validate({"changes": changes, "seeds": seeds})
        return run_ablation("m", RECIPE.with_changes({"training.epochs": 1}), ablation, data, url)

    first = ablate([0], {"slow": 1e-5})
    more = ablate([0, 1], {"slow": 1e-5, "fast": 0.1})
    assert more.summary["study"] == first.summary["study"]
    assert more.trials["trial"].tolist() == [0, 1, 2, 3, 4, 5]
    assert more.trials.iloc[:2]["seconds"].tolist() == first.trials["seconds"].tolist()
    assert more.table["seeds"].tolist() == [2, 2, 2]

    # Under an old name another value is another trial, and what is not asked for any more is left.
    other = ablate([1], {"slow": 1e-6})
    assert other.trials["trial"].tolist() == [3, 6]
    assert other.trials["seed"].tolist() == [1, 1]
    assert other.trials["set"].tolist() == ["{}", '{"training.optimizer.learning_rate": 1e-06}']


def test_an_architecture_that_is_added_screens_nothing_again(data: TrialData, url: str) -> None:
    training = TrainingConfig(epochs=1, batch_size=16)
    screen = partial(ScreeningConfig, training=training)
    first = run_screening(screen(architectures=("simple_cnn",)), data, url)
    both = run_screening(screen(architectures=("simple_cnn", "wrn_10_1")), data, url)
    assert both.summary["study"] == first.summary["study"]
    assert both.trials["architecture"].tolist() == ["simple_cnn", "wrn_10_1"]
    assert both.trials.iloc[0]["seconds"] == first.trials.iloc[0]["seconds"]


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.floats(-1, 1))
def test_intervals_hold_the_mean_and_move_with_the_data(values: list[float], shift: float) -> None:
    differences = np.array(values)
    low, high = student_interval(differences)
    mean = differences.mean()
    assert low <= mean + 1e-12
    assert mean <= high + 1e-12
    assert student_interval(differences + shift) == pytest.approx(
        (low + shift, high + shift), abs=1e-9
    )


def test_intervals_are_those_of_the_textbook() -> None:
    # Student's (1908) sleep data, whose interval every textbook prints: 0.70 to 2.46 hours.
    extra = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert student_interval(extra) == pytest.approx((0.7001, 2.4599), abs=1e-4)
    low, high = bootstrap_interval(extra)
    assert extra.min() <= low < extra.mean() < high <= extra.max()
    assert high - low < 2.4599 - 0.7001
    assert all(math.isnan(end) for end in student_interval(extra[:1]))
    assert all(math.isnan(end) for end in bootstrap_interval(extra[:1]))


def test_a_pair_with_a_failed_half_is_left_out() -> None:
    trials = pd.DataFrame(
        [
            *[("base", s, "complete", 0.5 + s / 10, 10.0 + s) for s in range(3)],
            ("a", 0, "complete", 0.6, 15.0),
            ("a", 1, "failed", np.nan, np.nan),
            ("a", 2, "complete", 0.6, 24.0),
        ],
        columns=["change", "seed", "state", "validation_accuracy", "seconds"],
    )
    row = paired_differences(trials, ["base", "a"]).iloc[1]
    assert row["seeds"] == 2
    assert row["difference"] == pytest.approx((0.1 - 0.1) / 2)
    assert row["relative_time"] == pytest.approx((1.5 + 2.0) / 2)


def test_times_are_of_pairs_on_the_same_hardware() -> None:
    rows = [
        *(("base", seed, "complete", 0.5, 10.0, "fast") for seed in (0, 1)),
        ("a", 0, "complete", 0.5, 12.0, "fast"),
        *((name, 1, "complete", 0.5, 99.0, "slow") for name in ("a", "b")),
    ]
    columns = ["change", "seed", "state", "validation_accuracy", "seconds", "hardware"]
    table = paired_differences(pd.DataFrame(rows, columns=columns), ["base", "a", "b"])
    assert table["seeds"].tolist() == [2, 2, 1]
    assert table["relative_time"].tolist()[:2] == pytest.approx([1.0, 1.2])
    assert math.isnan(table["relative_time"].iloc[2])


def test_screening_says_why_a_network_takes_no_image(
    data: TrialData, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("too small, whatever their size")

    monkeypatch.setattr("cifar100_transfer.tuning.screening.build_classifier", refuse)
    screening = ScreeningConfig(architectures=("simple_cnn",), training=TrainingConfig(epochs=1))
    with pytest.raises(UserError, match="too small, whatever their size"):
        run_screening(screening, data, url)


def test_screening_resizes_for_networks_that_need_it_and_keeps_to_the_epochs(
    data: TrialData, url: str
) -> None:
    screening = ScreeningConfig(
        architectures=("simple_cnn", "squeezenet1_1"),
        training=TrainingConfig(epochs=1, batch_size=16),
    )
    result = run_screening(screening, data, url)
    assert result.summary["image_size"] == 8
    table = result.trials.set_index("architecture")
    assert table["state"].tolist() == ["complete"] * 2
    # SqueezeNet's first layers leave nothing of 8 pixels.
    assert table["image_size"].to_dict() == {"simple_cnn": 8, "squeezenet1_1": 64}
    assert table["epochs"].tolist() == [1, 1]
    assert table["train_images"].tolist() == [32, 32]
    assert table.loc["simple_cnn", "parameters"] == 3 * 32 * 9 + 32 + 32 * 4 * 4 * 4 + 4
    assert is_drawn(figures.screening(table.reset_index(), 8, "t"))


def test_trials_are_judged_on_corrupted_validation_images_where_that_is_asked(
    data: TrialData, url: str
) -> None:
    rates = [1e-3, 1e-30]
    search = SearchConfig.model_validate(
        {
            "space": [{"parameter": "training.optimizer.learning_rate", "values": rates}],
            "corrupted_images": 8,
        }
    )
    result = run_search("m", RECIPE, search, data, url)
    judges = stratified_subset(data.validation_set, 8, 0)
    expected = {}
    for rate in rates:
        recipe = RECIPE.with_changes({"training.optimizer.learning_rate": rate})
        predictors = predictors_of(data.train(recipe).classifier, ["plain"], None)
        expected[rate] = measure_robustness(predictors, judges, "validation", 0)["accuracy"].mean()
    rows = result.trials.set_index("training.optimizer.learning_rate")
    assert rows["corrupted_accuracy"].to_dict() == pytest.approx(expected)
    assert (rows["corrupted_accuracy"] != rows["validation_accuracy"]).all()
    best = max(rates, key=lambda rate: expected[rate])
    assert result.summary["best_settings"] == {"training.optimizer.learning_rate": best}
    assert result.summary["judged_by"] == "corrupted_accuracy"
    assert result.summary["best_corrupted_accuracy"] == pytest.approx(expected[best])
    assert "on the corrupted validation images" in recipe_file("m", result)

    change = {"name": "slow", "set": {"training.optimizer.learning_rate": 1e-30}}
    ablation = AblationConfig.model_validate(
        {"changes": [change], "seeds": [0], "corrupted_images": 8}
    )
    ablated = run_ablation("m", RECIPE, ablation, data, url)
    difference = expected[1e-30] - expected[1e-3]
    assert ablated.table.loc[1, "difference"] == pytest.approx(difference)
    column = "corrupted_accuracy"
    for figure in (
        figures.search_history(result.trials, "t", column),
        figures.slices(result.trials, result.summary["settings"], "t", column),
        figures.parallel_coordinates(result.trials, result.summary["settings"], "t", column),
        figures.ablation(ablated.table, "t", column),
    ):
        labels = [axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
        assert "accuracy on corrupted validation images" in " ".join(labels)
        assert is_drawn(figure)


def test_the_history_counts_trials_without_a_judgement() -> None:
    trials = pd.DataFrame(
        {
            "trial": [0, 1, 2],
            "state": ["complete", "pruned", "failed"],
            "validation_accuracy": [0.5, 0.2, np.nan],
            "corrupted_accuracy": [0.4, np.nan, np.nan],
        }
    )

    def text(column: str) -> str:
        figure = figures.search_history(trials, "t", column)
        return " ".join(t.get_text() for t in figure.findobj(Text))

    assert "without a judgement, not shown: 1." in text("validation_accuracy")
    assert "without a judgement, not shown: 2." in text("corrupted_accuracy")


def test_names_of_architectures_that_are_alike_stand_apart() -> None:
    table = pd.DataFrame(
        {
            "state": "complete",
            "architecture": ["first_network", "second_network", "third_network"],
            "validation_accuracy": [0.5, 0.501, 0.3],
            "parameters": [1e6, 1.01e6, 5e7],
            "images_per_second": [500, 501, 100],
            "image_size": 32,
        }
    )
    figure = figures.screening(table, 32, "t")
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 3
        assert not any(box.count_overlaps(boxes[:number]) for number, box in enumerate(boxes))


def test_networks_that_saw_resized_images_are_marked_though_no_other_finished() -> None:
    table = pd.DataFrame(
        {
            "state": "complete",
            "architecture": ["alexnet", "inception_v3"],
            "validation_accuracy": [0.5, 0.4],
            "parameters": [5e7, 2e7],
            "images_per_second": [500, 100],
            "image_size": [64, 96],
        }
    )
    texts = {text.get_text() for text in figures.screening(table, 32, "t").findobj(Text)}
    assert {"alexnet (64)", "inception_v3 (96)"} <= texts


def test_a_budget_of_time_is_spent_and_hardly_overspent(data: TrialData, url: str) -> None:
    screening = ScreeningConfig(
        architectures=("simple_cnn",),
        seconds=0.3,
        training=TrainingConfig(batch_size=8),
    )
    row = run_screening(screening, data, url).trials.iloc[0]
    # Other work on the machine moves both the measurement and the training: no tight bound holds.
    assert 0.03 < row["seconds"] < 3
    assert row["epochs"] > 1


def test_a_budget_counts_the_steps_that_train_all_layers(
    data: TrialData, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A measurement of the first epochs, whose layers are frozen, would promise twice the images.
    measured: list[float | None] = []
    epochs: list[int] = []

    def one_step(engine: Engine, epoch: int) -> tuple[float, float]:
        epochs.append(epoch)
        return train_epoch(engine, epoch)

    def measure(*arguments: Any) -> float | None:
        measured.append(images_per_second(*arguments))
        return 80.0

    train_epoch = batch_size.train_epoch
    monkeypatch.setattr(batch_size, "train_epoch", one_step)
    monkeypatch.setattr(screening, "images_per_second", measure)
    config = ScreeningConfig(
        architectures=("simple_cnn",),
        seconds=1.0,
        training=TrainingConfig(batch_size=8, epochs=9, frozen_epochs=1),
    )
    row = run_screening(config, data, url).trials.iloc[0]
    assert measured[0]
    assert set(epochs) == {9}
    assert 80 - 8 * row["epochs"] < row["epochs"] * row["train_images"] <= 80


def test_too_little_memory_for_a_step_is_the_reason_of_the_failure(
    data: TrialData, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "images_per_second", lambda *_: None)
    config = ScreeningConfig(
        architectures=("simple_cnn",), seconds=1.0, training=TrainingConfig(batch_size=8)
    )
    with pytest.raises(UserError, match="too little memory for a step"):
        run_screening(config, data, url)


@pytest.mark.parametrize(
    ("architecture", "published"), [("resnet18", 1.814), ("squeezenet1_1", 0.349)]
)
def test_operations_are_twice_the_multiply_adds_that_torchvision_publishes(
    architecture: str, published: float
) -> None:
    spec = ClassifierSpec(
        architecture=architecture,
        class_names=tuple(map(str, range(1000))),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        image_size=224,
    )
    assert count_flops(spec) / 2e9 == pytest.approx(published, rel=0.01)


def test_figures_of_nothing_say_so() -> None:
    empty = pd.DataFrame([{"trial": 0, "state": "failed", "validation_accuracy": np.nan, "x": 1}])
    assert is_drawn(figures.search_history(empty, "t"))
    assert is_drawn(figures.slices(empty, ["x"], "t"))
    assert is_drawn(figures.parallel_coordinates(empty, ["x"], "t"))
    assert is_drawn(figures.importances({}, "t"))


def test_all_that_trials_are_trained_and_judged_by_is_part_of_the_study(data: TrialData) -> None:
    def mirrored(images: ImageSet) -> ImageSet:
        return images.with_images(images.images.flip(-1))

    def relabelled(images: ImageSet) -> ImageSet:
        return replace(images, labels=images.labels.flip(0))

    changes: list[dict[str, Any]] = [
        *({"train_set": change(data.train_set)} for change in (mirrored, relabelled)),
        *({"validation_set": change(data.validation_set)} for change in (mirrored, relabelled)),
        *({"pretrained_weights": {"a": torch.full((1,), value)}} for value in (1.0, 2.0)),
        {"normalization": {**data.normalization, "mean": [0.123] * 3}},
        {"normalization": {**data.normalization, "std": [0.123] * 3}},
    ]
    identities = {replace(data, **change).identity() for change in [{}, *changes]}
    assert len(identities) == 1 + len(changes)


def test_a_screening_by_time_is_another_one_on_another_device(
    data: TrialData, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {}
    for seconds in (None, 5.0):
        screening = ScreeningConfig(
            architectures=("simple_cnn",),
            training=TrainingConfig(epochs=1, batch_size=16),
            seconds=seconds,
        )
        for threads in (1, 2):
            monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            summary = run_screening(screening, data, url).summary
            names[seconds, threads] = summary["study"]
    assert names[None, 1] == names[None, 2]
    assert names[5.0, 1] != names[5.0, 2]


def test_another_seed_draws_other_settings(data: TrialData, url: str) -> None:
    rate = {"parameter": "training.optimizer.learning_rate", "low": 1e-4, "high": 0.1}
    drawn = [
        run_search(
            "m",
            RECIPE.with_changes({"training.epochs": 1}),
            SearchConfig.model_validate(
                {"sampler": "tpe", "trials": 1, "space": [rate], "seed": seed}
            ),
            data,
            url,
        )
        .trials[rate["parameter"]]
        .tolist()
        for seed in (0, 1)
    ]
    assert drawn[0] != drawn[1]


def test_a_trial_that_has_come_to_its_end_is_not_given_up(data: TrialData) -> None:
    hopeless: Any = SimpleNamespace(report=lambda *_: None, should_prune=lambda: True)
    short = RECIPE.with_changes({"training.epochs": 1})
    assert not search._train_or_give_up(hopeless, short, data, None).pruned
    assert search._train_or_give_up(hopeless, RECIPE, data, None).pruned


@pytest.mark.parametrize("images", [8, 30, 50, 64, 100])
def test_a_budget_of_images_is_spread_over_epochs(data, images: int) -> None:
    spread, part = _spend(RECIPE, data, images)
    spent = spread.training.epochs * len(part.train_set)
    assert images - spread.training.epochs * 8 < spent <= images  # whole batches of 8


@pytest.mark.parametrize("parameter", ["training.batch_size", "training.optimizer.learning_rate"])
def test_ranges_are_drawn_by_order_of_magnitude_where_asked(parameter: str) -> None:
    entry = SpaceEntry(parameter=parameter, low=1, high=100, log=True)
    assert search._distribution(entry).log
