"""Every environment in conf/ holds parameters that a run would accept."""

from pathlib import Path

import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from cifar100_transfer.pipeline_registry import MODELS
from cifar100_transfer.tuning.space import (
    BATCH_SIZE,
    Recipe,
    candidates,
    check_ablation,
    check_screening,
    check_search,
    combinations,
)

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = sorted({file.parent.name for file in ROOT.glob("conf/*/*.yml")} - {"local"})


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_recipes_and_what_is_tried_on_them_are_valid(env: str) -> None:
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env=env) as session:
        # They are loaded as the typed models, each checked by itself.
        parameters = session.load_context().params
    for name in MODELS:
        block = parameters[name]
        recipe = Recipe(block["model"], block["training"])
        # A model of one's own may do without them (docs/add_a_model.md).
        if "search" in block:
            check_search(block["search"], recipe)
        if "ablation" in block:
            check_ablation(block["ablation"], recipe)
    check_screening(parameters["screening"])


def test_no_grid_of_base_warns_of_a_number_of_trials_that_nobody_gave() -> None:
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env="base") as session:
        parameters = session.load_context().params
    for name in MODELS:
        search = parameters[name].get("search")
        assert (
            search is None or search.sampler == "tpe" or "trials" not in search.model_fields_set
        ), name


def test_recipes_for_folders_fit_pictures_of_any_size() -> None:
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env="folder") as session:
        parameters = session.load_context().params
    images = 10_000 * 3 * 128 * 128  # bytes, as in docs/add_data.md
    for name in MODELS:
        training = parameters[name]["training"]
        assert not training.progressive_sizes, name
        assert training.augmentation.corruption_copies * images <= 2e9, name


def test_searches_for_folders_are_for_some_hundred_pictures() -> None:
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env="folder") as session:
        parameters = session.load_context().params
    # A model of one's own need not stand there (docs/add_a_model.md).
    for name in yaml.safe_load((ROOT / "conf/folder/parameters_tuning.yml").read_text()):
        space = parameters[name]["search"].space
        assert len(list(combinations(space))) <= 6, name
        # Of two hundred pictures, a fifth each for test and validation, 128 are left.
        sizes = [candidates(entry) for entry in space if entry.parameter == BATCH_SIZE]
        assert all(isinstance(size, int) and size <= 64 for values in sizes for size in values), (
            name
        )
