"""Search spaces as data: what fits a recipe, and what is refused before any work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cifar100_transfer.config import (
    AblationConfig,
    ModelConfig,
    ScreeningConfig,
    SearchConfig,
    SpaceEntry,
    TrainingConfig,
)
from cifar100_transfer.errors import UserError
from cifar100_transfer.tuning.space import (
    Recipe,
    candidates,
    check_ablation,
    check_screening,
    check_search,
    parameter_paths,
)

RECIPE = Recipe(ModelConfig(architecture="simple_cnn"), TrainingConfig())


def search(*entries: dict[str, object], **options: object) -> SearchConfig:
    return SearchConfig.model_validate({"space": list(entries), **options})


def ablation(*changes: dict[str, object], **options: object) -> AblationConfig:
    return AblationConfig.model_validate({"changes": list(changes), **options})


@given(batch_size=st.integers(1, 4096), rate=st.floats(1e-6, 10), dropout=st.floats(0, 0.99))
def test_changes_are_put_where_they_belong_and_nowhere_else(
    batch_size: int, rate: float, dropout: float
) -> None:
    changed = RECIPE.with_changes(
        {
            "training.batch_size": batch_size,
            "training.optimizer.learning_rate": rate,
            "model.dropout": dropout,
        }
    )
    assert changed.training.batch_size == batch_size
    assert changed.training.optimizer.learning_rate == rate
    assert changed.model.dropout == dropout
    back = {
        "training.batch_size": 128,
        "training.optimizer.learning_rate": 1e-3,
        "model.dropout": None,
    }
    assert changed.with_changes(back) == RECIPE


def test_paths_reach_every_parameter_of_a_recipe() -> None:
    paths = parameter_paths()
    assert {"model.architecture", "training.optimizer.weight_decay", "training.seed"} <= set(paths)
    assert "training.optimizer" not in paths


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"parameter": "training.batchsize", "values": [32]}, "did you mean training.batch_size"),
        ({"parameter": "batch_size", "values": [32]}, "did you mean training.batch_size"),
        ({"parameter": "training.batchsize", "low": 1, "high": 2}, "did you mean training.batch"),
        ({"parameter": "training.batch_size", "values": [32, 0]}, "training.batch_size=0: input"),
        ({"parameter": "training.batch_size", "values": [32, "auto"]}, "batch_size=auto makes"),
        ({"parameter": "training.epochs", "values": ["many"]}, "training.epochs='many'"),
        ({"parameter": "model.dropout", "low": 0.1, "high": 1.5}, "model.dropout=1.5"),
        ({"parameter": "training.epochs", "low": 1, "high": 2.5}, "training.epochs=2.5"),
        ({"parameter": "training.optimizer.name", "low": 1, "high": 2}, "is no number"),
        ({"parameter": "model.architecture", "values": ["resnet5O"]}, "resnet50"),
    ],
)
def test_a_candidate_that_no_recipe_takes_is_refused_in_one_line(
    entry: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError) as raised:
        check_search(search(entry, sampler="tpe"), RECIPE)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_switch_is_tried_both_ways_but_is_no_number() -> None:
    check_search(search({"parameter": "model.pretrained", "values": [True, False]}), RECIPE)
    with pytest.raises(UserError, match=r"training\.epochs=True"):
        check_search(search({"parameter": "training.epochs", "values": [True]}), RECIPE)


def test_a_grid_takes_no_range_and_no_parameter_twice() -> None:
    entry = {"parameter": "training.epochs", "low": 1, "high": 3}
    with pytest.raises(UserError, match="sampler=grid takes values only"):
        check_search(search(entry), RECIPE)
    with pytest.raises(UserError, match="more than once"):
        check_search(search(entry, entry, sampler="tpe"), RECIPE)
    check_search(search(entry, sampler="tpe"), RECIPE)


@pytest.mark.parametrize(
    "entry",
    [
        {"values": [1], "low": 1, "high": 2},
        {"low": 1},
        {},
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"values": [1, 1]},
        {"values": []},
    ],
)
def test_an_entry_is_either_a_list_or_a_range(entry: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SpaceEntry.model_validate({"parameter": "training.epochs", **entry})


def test_the_ends_of_a_whole_numbered_range_are_whole() -> None:
    ends = candidates(SpaceEntry(parameter="training.epochs", low=1, high=3))
    assert [type(end) for end in ends] == [int, int]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (ablation({"name": "a", "set": {"model.dropuot": 0.1}}), "did you mean model.dropout"),
        (ablation({"name": "a", "set": {"model.dropout": 2.0}}), "'a': model.dropout=2.0"),
        (ablation({"name": "a", "set": {"training.epochs": 20}}), "'a' changes nothing"),
        (ablation({"name": "base", "set": {"training.epochs": 2}}), "'base' is taken"),
        (ablation({"name": "a", "set": {"training.seed": 2}}), "list seeds under seeds"),
        (
            ablation({"name": "a", "set": {"training.epochs": 2}}, base={"training.epochs": 0}),
            "base: training.epochs=0",
        ),
        (ablation({"name": "a", "set": {"training.epochs": 2}}, seeds=[1, 1]), "more than once"),
        (
            ablation({"name": "a", "set": {"training.batch_size": "auto"}}),
            "changes: 'a': training.batch_size=auto makes trials that can't be compared",
        ),
    ],
)
def test_an_ablation_that_would_say_nothing_is_refused(changed: AblationConfig, said: str) -> None:
    with pytest.raises(UserError) as raised:
        check_ablation(changed, RECIPE)
    assert said in str(raised.value)


CONSISTENT = {"training.augmentation.policy": "augmix", "training.augmentation.augmix_jsd": 12.0}


def test_values_that_need_each_other_are_checked_together() -> None:
    check_ablation(ablation({"name": "a", "set": CONSISTENT}), RECIPE)
    check_ablation(ablation({"name": "a", "set": {"training.epochs": 2}}, base=CONSISTENT), RECIPE)
    alone = {"training.augmentation.augmix_jsd": 12.0, "training.epochs": 2}
    with pytest.raises(UserError, match=r"'a': training\.augmentation\.augmix_jsd=12\.0: .*AugMix"):
        check_ablation(ablation({"name": "a", "set": alone}), RECIPE)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"training.epochs": 2, "model.dropout": 2.0}, "'a': model.dropout=2.0: input should"),
        (
            {"training.epochs": 2, "training.accumulation_steps": 200},
            "'a': training.accumulation_steps=200: value error, a batch has",
        ),
        (
            {"training.epochs": 2, "model.architecture": "resnet5O"},
            "'a': model.architecture: 'resnet5O' is no known",
        ),
    ],
)
def test_of_several_values_the_one_at_fault_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as raised:
        check_ablation(ablation({"name": "a", "set": values}), RECIPE)
    assert said in str(raised.value)


SOME = st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True)


@given(sizes=SOME, parts=SOME)
def test_a_grid_is_refused_for_a_value_that_fits_no_other(
    sizes: list[int], parts: list[int]
) -> None:
    grid = search(
        {"parameter": "training.batch_size", "values": sizes},
        {"parameter": "training.accumulation_steps", "values": parts},
    )
    # A batch has no more parts than images. The recipe's own size of 1 is not tried.
    recipe = RECIPE.with_changes({"training.batch_size": 1})
    if max(parts) <= max(sizes) and min(parts) <= min(sizes):
        check_search(grid, recipe)
    else:
        with pytest.raises(UserError, match=r"space: training\..*: .*a batch has no more parts"):
            check_search(grid, recipe)


def test_a_sampled_space_may_hold_what_only_some_draws_make_valid() -> None:
    policies = {"parameter": "training.augmentation.policy", "values": ["augmix"]}
    losses = {"parameter": "training.augmentation.augmix_jsd", "low": 1, "high": 12}
    check_search(search(policies, losses, sampler="tpe"), RECIPE)


def test_a_size_that_is_still_to_be_measured_makes_no_study() -> None:
    measured = RECIPE.with_changes({"training.batch_size": "auto"})
    said = r"training\.batch_size=auto makes trials that can't be compared: give a number"
    with pytest.raises(UserError, match=f"recipe: {said}"):
        check_search(search({"parameter": "training.epochs", "values": [1]}), measured)
    check_search(search({"parameter": "training.batch_size", "values": [32]}), measured)
    with pytest.raises(UserError, match=f"base: {said}"):
        check_ablation(ablation({"name": "a", "set": {"training.epochs": 2}}), measured)
    with pytest.raises(UserError, match=said):
        check_screening(ScreeningConfig(architectures=("alexnet",), training=measured.training))


def test_screening_knows_its_architectures() -> None:
    check_screening(ScreeningConfig(architectures=("simple_cnn", "alexnet")))
    with pytest.raises(UserError, match=r"architectures: 'alexnett' .* alexnet"):
        check_screening(ScreeningConfig(architectures=("alexnett",)))
    with pytest.raises(UserError, match="more than once"):
        check_screening(ScreeningConfig(architectures=("alexnet", "alexnet")))
