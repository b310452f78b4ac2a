"""Pretrained weights are looked at before the first node, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset

from cifar100_transfer.config import AblationConfig, ModelConfig, SearchConfig
from cifar100_transfer.datasets import PublishedWeightsDataset, WeightsDataset
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import build_network
from cifar100_transfer.pipeline_registry import register_pipelines
from cifar100_transfer.weights_checks import check_fit, leave_out_unused

REGISTERED = register_pipelines()
FROZEN = {"training.frozen_epochs": 1}
WEIGHTS = {"model.pretrained": True}


def search(parameter: str, value: Any) -> SearchConfig:
    space = [{"parameter": parameter, "values": [value]}]
    return SearchConfig.model_validate({"space": space})


def ablation(base: dict[str, Any], change: dict[str, Any]) -> AblationConfig:
    changes = [{"name": "one", "set": change}]
    return AblationConfig.model_validate({"base": base, "changes": changes})


def catalog_of(weights: Any, model: ModelConfig, **parameters: Any) -> DataCatalog:
    """Return a catalog with all that a node takes; what is not given has a value of no interest."""
    names = ("params:compute", "params:transfer.training")
    values = {f"params:transfer.{name}": value for name, value in parameters.items()}
    catalog = DataCatalog({"pretrained_weights": weights})
    everything = {**dict.fromkeys(names, "any"), "params:transfer.model": model, **values}
    for name, value in everything.items():
        catalog[name] = value
    return catalog


@pytest.mark.parametrize(
    ("pipeline", "pretrained", "parameters", "expected"),
    [
        ("transfer", True, {}, False),
        ("transfer", False, {}, True),
        ("tuning", True, {"search": search("training.epochs", 2)}, False),
        ("tuning", False, {"search": search("training.epochs", 2)}, True),
        ("tuning", False, {"search": search("model.pretrained", True)}, False),
        ("ablation", False, {"ablation": ablation({}, FROZEN)}, True),
        ("ablation", False, {"ablation": ablation({}, WEIGHTS)}, False),
        ("ablation", False, {"ablation": ablation(WEIGHTS, FROZEN)}, False),
    ],
)
@pytest.mark.parametrize("kind", [WeightsDataset, PublishedWeightsDataset])
def test_weights_are_left_out_where_no_recipe_starts_from_them(
    tmp_path: Path,
    kind: type,
    pipeline: str,
    pretrained: bool,
    parameters: dict[str, Any],
    expected: bool,
) -> None:
    file = str(tmp_path / "none.pth")
    weights = (
        WeightsDataset(filepath=file)
        if kind is WeightsDataset
        else PublishedWeightsDataset(weights=file)
    )
    model = ModelConfig(architecture="squeezenet1_1", pretrained=pretrained)
    catalog = catalog_of(weights, model, **parameters)
    leave_out_unused(REGISTERED[pipeline].filter(node_namespaces=["transfer"]), catalog)
    if expected:
        assert catalog.load("pretrained_weights") == {}
        assert kind is PublishedWeightsDataset or weights.exists(), "nothing is to be made"
        assert weights.checksums() == {}
    else:
        with pytest.raises(Exception, match=r"none\.pth"):
            catalog.load("pretrained_weights")


def fit(architecture: str, weights: dict[str, torch.Tensor], pretrained: bool = True) -> None:
    model = ModelConfig(architecture=architecture, pretrained=pretrained)
    check_fit(REGISTERED["transfer"], catalog_of(MemoryDataset(weights), model))


def test_weights_that_fit_pass_and_others_are_named_with_the_parameter() -> None:
    weights = build_network("squeezenet1_1", 7, (32, 32)).state_dict()
    fit("squeezenet1_1", weights)
    fit("shufflenet_v2_x0_5", weights, pretrained=False)
    message = r"^transfer\.model\.architecture=shufflenet_v2_x0_5: pretrained_weights does not fit"
    with pytest.raises(UserError, match=message):
        fit("shufflenet_v2_x0_5", weights)


def test_a_pipeline_without_weights_is_left_alone() -> None:
    leave_out_unused(REGISTERED["simple_cnn"], DataCatalog())
    catalog = DataCatalog()
    catalog["params:simple_cnn.model"] = ModelConfig(architecture="simple_cnn")
    check_fit(REGISTERED["simple_cnn"], catalog)


def test_a_model_that_is_given_no_weights_can_not_start_from_them() -> None:
    catalog = DataCatalog()
    catalog["params:resnet50.model"] = ModelConfig(architecture="resnet18", pretrained=True)
    with pytest.raises(
        UserError, match=r"^resnet50\.model\.pretrained=true, but resnet50 takes no"
    ):
        check_fit(REGISTERED["resnet50"], catalog)


@pytest.mark.parametrize(
    ("pipeline", "kind", "study"),
    [
        ("tuning", "search", search("model.pretrained", True)),
        ("ablation", "ablation", ablation({}, WEIGHTS)),
        ("ablation", "ablation", ablation(WEIGHTS, FROZEN)),
    ],
)
def test_a_study_of_a_model_that_is_given_no_weights_can_not_ask_for_them(
    pipeline: str, kind: str, study: SearchConfig | AblationConfig
) -> None:
    catalog = DataCatalog()
    catalog["params:resnet50.model"] = ModelConfig(architecture="resnet18")
    catalog[f"params:resnet50.{kind}"] = study
    message = rf"^resnet50\.{kind}: model\.pretrained=true, but resnet50 takes no weights"
    with pytest.raises(UserError, match=message):
        check_fit(REGISTERED[pipeline].filter(node_namespaces=["resnet50"]), catalog)
