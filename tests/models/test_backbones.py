"""Networks by name: heads, dropout, pretrained weights, and what is refused.

Networks on the meta device have shapes but no values, so all of them can be built quickly.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import (
    architectures,
    backbones,
    build_network,
    check_architecture,
    check_backbone,
    check_zero_init,
    load_backbone,
)
from cifar100_transfer.models.backbones import _set_dropout, head_name

SMALL = [
    "simple_cnn",
    "express",
    "express_small",
    "wrn_10_1",
    "squeezenet1_1",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "mobilenet_v3_small",
    "regnet_y_400mf",
]


def on_meta(architecture: str, dropout: float | None = None) -> nn.Module:
    # Without a step through the network: that one is tested where it matters.
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifar100_transfer.models.backbones._check_image_size", lambda *_: None)
        return build_network(architecture, 7, (224, 224), dropout)


# RegNet's plan of widths is computed with tensors, which have no values here.
@pytest.mark.parametrize(
    "architecture", [name for name in architectures() if not name.startswith("regnet")]
)
def test_every_head_makes_the_logits(architecture: str) -> None:
    network = on_meta(architecture)
    head = network.get_submodule(head_name(network))
    outputs = head.out_features if isinstance(head, nn.Linear) else head.out_channels
    assert outputs == 7


@pytest.mark.parametrize("architecture", ["resnet18", "resnext50_32x4d", "wide_resnet50_2"])
def test_blocks_of_resnets_can_start_as_the_identity(architecture: str) -> None:
    check_zero_init(architecture)


@pytest.mark.parametrize("architecture", ["simple_cnn", "wrn_16_4", "regnet_y_400mf", "vgg11"])
def test_other_networks_have_no_such_blocks(architecture: str) -> None:
    with pytest.raises(UserError, match=f"^{architecture} is no ResNet"):
        check_zero_init(architecture)


@pytest.mark.parametrize("architecture", SMALL)
def test_small_networks_take_small_images(architecture: str) -> None:
    network = build_network(architecture, 7, (32, 32))
    assert network.training
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(architecture: str) -> None:
    network = on_meta(architecture)
    logits = network.train()(torch.zeros(2, 3, 299, 299, device="meta"))
    assert isinstance(logits, torch.Tensor)


def test_transformers_are_no_convolutional_networks() -> None:
    names = architectures()
    assert names == sorted(names)
    assert {"simple_cnn", "resnet50", "convnext_tiny"} <= set(names)
    assert not {"vit_b_16", "swin_t", "swin_v2_b", "maxvit_t"} & set(names)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet5", "resnet50"), ("ResNet18", "resnet18"), ("", "simple_cnn")]
)
def test_unknown_architectures_list_near_names(name: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}' is no known architecture: .*{near}"):
        check_architecture(name)
    with pytest.raises(UserError, match=near):
        build_network(name, 7, (32, 32))


@pytest.mark.parametrize("architecture", ["alexnet", "inception_v3", "simple_cnn"])
def test_images_that_are_too_small_are_refused(architecture: str) -> None:
    size = 1 if architecture == "simple_cnn" else 16
    with pytest.raises(UserError, match=rf"{architecture} can't take images of {size} x {size}"):
        build_network(architecture, 7, (size, size))


@pytest.mark.parametrize(
    "architecture",
    [
        "alexnet",
        "densenet121",
        "efficientnet_b0",
        "googlenet",
        "inception_v3",
        "mobilenet_v2",
        "resnet18",
        "simple_cnn",
        "squeezenet1_1",
        "vgg11",
    ],
)
def test_dropout_stands_directly_before_the_head(architecture: str) -> None:
    network = on_meta(architecture, dropout=0.35)
    assert list(network.state_dict()) == list(on_meta(architecture).state_dict())
    parent, _, last = head_name(network).rpartition(".")
    children = dict(network.get_submodule(parent).named_children())
    before = list(children.values())[: list(children).index(last)]
    head = children[last]
    if isinstance(before[-1], nn.Dropout):
        assert before[-1].p == 0.35
        assert not hasattr(head, "dropout")
    else:
        assert head.dropout == 0.35


def test_dropout_drops_features_of_the_head_in_training_only() -> None:
    torch.manual_seed(0)
    network = build_network("simple_cnn", 1, (64, 64), dropout=0.25)
    # With unit weights and features the head counts how many features are left, scaled up.
    nn.init.ones_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    features = torch.ones(1, network.head.in_features)
    assert network.eval().head(features).item() == network.head.in_features
    kept = network.train().head(features).item() * 0.75 / network.head.in_features
    assert kept == pytest.approx(0.75, abs=0.02)


def test_a_convolutional_head_without_dropout_is_a_user_error() -> None:
    with pytest.raises(UserError, match="dropout can't be set"):
        _set_dropout(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 7, 1)), 0.5)


@pytest.mark.parametrize("dropout", [None, 0.5])
def test_pretrained_weights_leave_the_head_alone(dropout: float | None) -> None:
    given = build_network("mnasnet0_5", 5, (32, 32)).state_dict()
    network = build_network("mnasnet0_5", 7, (32, 32), dropout)
    head = {k: v.clone() for k, v in network.state_dict().items() if k.startswith("classifier.")}
    load_backbone(network, given, "weights.pth")
    for key, value in network.state_dict().items():
        assert torch.equal(value, head[key] if key in head else given[key])


@pytest.mark.parametrize("architecture", SMALL)
def test_weights_of_the_same_architecture_fit_ahead_of_time(architecture: str) -> None:
    check_backbone(architecture, build_network(architecture, 5, (64, 48)).state_dict(), "w.pth")


def test_weights_without_batch_counters_are_taken() -> None:
    given = build_network("shufflenet_v2_x0_5", 7, (32, 32)).state_dict()
    old = {key: value for key, value in given.items() if "num_batches_tracked" not in key}
    assert len(old) < len(given)
    load_backbone(build_network("shufflenet_v2_x0_5", 7, (32, 32)), old, "old.pth")


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3"])
def test_published_auxiliary_heads_are_left_aside(architecture: str) -> None:
    with torch.device("meta"):
        published = torchvision.models.get_model(
            architecture, weights=None, aux_logits=True, init_weights=False
        )
    given = published.state_dict()
    assert any(key.lower().startswith("aux") for key in given)
    check_backbone(architecture, given, "published.pth")


def test_densenets_published_keys_are_taken() -> None:
    """torchvision's own loader renames them, too."""
    given = build_network("densenet121", 5, (32, 32)).state_dict()
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))([12]\.)")
    old = {pattern.sub(r"\1.\2", key): value for key, value in given.items()}
    assert "features.denseblock1.denselayer1.conv.2.weight" in old
    network = build_network("densenet121", 7, (32, 32))
    load_backbone(network, old, "published.pth")
    for key, value in network.state_dict().items():
        assert key.startswith("classifier.") or torch.equal(value, given[key])


def test_weights_of_several_devices_are_taken() -> None:
    """DataParallel puts `module.` before every key."""
    given = build_network("squeezenet1_1", 5, (32, 32)).state_dict()
    network = build_network("squeezenet1_1", 7, (32, 32))
    load_backbone(network, {f"module.{key}": value for key, value in given.items()}, "w.pth")
    assert torch.equal(network.state_dict()["features.0.weight"], given["features.0.weight"])


@pytest.mark.parametrize("key", ["aux3.conv.weight", "module.features.0.weight", "norm.1.weight"])
def test_other_keys_too_many_are_refused(key: str) -> None:
    given = build_network("squeezenet1_1", 5, (32, 32)).state_dict()
    with pytest.raises(UserError, match=rf"1 unexpected \({key}\)"):
        check_backbone("squeezenet1_1", given | {key: torch.zeros(1)}, "w.pth")


def test_weights_of_another_architecture_are_refused() -> None:
    network = build_network("squeezenet1_1", 7, (32, 32))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    given = build_network("shufflenet_v2_x0_5", 7, (32, 32)).state_dict()
    message = r"other\.pth does not fit .*\d+ missing \(.*, …\); \d+ unexpected .*architecture"
    with pytest.raises(UserError, match=message):
        load_backbone(network, given, "other.pth")
    with pytest.raises(UserError, match=message):
        check_backbone("squeezenet1_1", given, "other.pth")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_weights_of_another_width_are_refused() -> None:
    network = build_network("simple_cnn", 7, (32, 32))
    given = network.state_dict() | {"conv.weight": torch.zeros(16, 3, 3, 3)}
    message = r"1 of another shape \(conv\.weight \[16, 3, 3, 3\] instead of \[32, 3, 3, 3\]\)"
    with pytest.raises(UserError, match=message):
        load_backbone(network, given, "weights.pth")


def test_the_network_of_the_docs_is_one_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "add_a_model.md"
    code, entry = re.findall(r"^```python\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE)
    scope: dict[str, Any] = vars(backbones) | {"__name__": "tiny"}
    exec(code, scope)
    monkeypatch.setattr(backbones, "_OWN", backbones._OWN | eval(f"{{{entry}}}", scope))

    network = build_network("tiny", 7, (16, 16))
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 7)
    assert head_name(network) == "head"
    assert "tiny" in backbones.architectures()
