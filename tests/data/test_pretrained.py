"""Pretrained weights from files and from torchvision, without trusting either."""

import http.client
import math
import pickle
import re
import shutil
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifar100_transfer.data.pretrained import published_weights, read_weights
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, ClassifierSpec, save_classifier
from cifar100_transfer.storage import file_digest
from tests.hostile import Hostile

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(3)}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_state_dict_of_torch_comes_back(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "weights.pth")
    assert equal(read_weights(tmp_path / "weights.pth"), STATE)


def test_safetensors_come_back(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "weights.safetensors")
    assert equal(read_weights(tmp_path / "weights.safetensors"), STATE)


def test_of_a_stored_classifier_the_network_is_taken(tmp_path: Path) -> None:
    spec = ClassifierSpec("simple_cnn", ("a", "b"), (0.5,) * 3, (0.2,) * 3, input_size=(8, 8))
    classifier = Classifier(spec)
    save_classifier(classifier, tmp_path / "classifier.safetensors")
    state = read_weights(tmp_path / "classifier.safetensors")
    assert equal(state, classifier.network.state_dict())


@pytest.mark.parametrize("by_torch", [False, True])
def test_a_hostile_pickle_is_not_executed(tmp_path: Path, by_torch: bool) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    state = STATE | {"trap": Hostile(trace)}
    if by_torch:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    with pytest.raises(UserError, match="may be hostile: it was not loaded"):
        read_weights(path)
    assert not trace.exists()
    if by_torch:
        torch.load(path, weights_only=False)  # the trap is armed
        assert trace.exists()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    torch.save({"fine": torch.ones(2), "broken": torch.tensor([1, math.nan])}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth holds .* not finite, first in broken"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("odd", [torch.ones(2, device="meta"), torch.eye(2).to_sparse()])
def test_tensors_without_plain_values_are_refused(tmp_path: Path, odd: torch.Tensor) -> None:
    torch.save({"odd": odd}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth holds tensors without values, or sparse ones"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_missing_file_says_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} do not exist.*--params=weights=FILE"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_a_user_error(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(STATE, path)
    else:
        safetensors.torch.save_file(STATE, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=name):
        read_weights(path)


@given(content=st.binary(max_size=64), suffix=st.sampled_from([".pth", ".safetensors"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_never_fails_otherwise(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="weights"):
        read_weights(path)


@pytest.mark.parametrize("name", ["classifier.pth", "classifier.safetensors"])
def test_a_folder_is_called_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name} are a folder: name a file .*=weights=FILE"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], torch.zeros(1), {"a": 1}, {0: STATE["count"]}]
)
def test_something_else_than_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "name", ["nonsense", "ResNet50_Weights", "No_Weights.V1", "ResNet50_Weights.V9"]
)
def test_unknown_names_show_a_right_one(name: str) -> None:
    with pytest.raises(UserError, match=rf"no weights '{name}'.*ResNet50_Weights\.IMAGENET1K_V1"):
        published_weights(name)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps weights whose name carries the checksum of `STATE` as stored."""
    torch.save(STATE, tmp_path / "published")
    digest = file_digest(tmp_path / "published", "sha256")
    weight = SimpleNamespace(url=f"https://download.example/net-{digest[:8]}.pth")
    monkeypatch.setattr("torchvision.models.get_weight", lambda _name: weight)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / f"net-{digest[:8]}.pth"


def test_published_weights_are_fetched_once(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(url: str, destination: Path, digest: str, advice: str) -> None:
        asked.append((url, digest))
        if not destination.exists():
            destination.parent.mkdir(parents=True)
            shutil.copy(tmp_path / "published", destination)

    monkeypatch.setattr("cifar100_transfer.data.pretrained.fetch", fetch)
    assert equal(published_weights("any"), STATE)
    assert equal(published_weights("any"), STATE)
    prefix = published.stem.removeprefix("net-")
    assert asked == [(f"https://download.example/net-{prefix}.pth", f"sha256:{prefix}")] * 2


def test_the_name_of_published_weights_carries_their_checksum() -> None:
    url = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url
    assert re.fullmatch(r"https://.*/resnet50-[0-9a-f]{8}\.pth", url)


@pytest.mark.parametrize("content", ["hostile", "truncated", "empty"])
def test_another_file_in_the_cache_of_torch_is_not_read(
    published: Path, tmp_path: Path, content: str
) -> None:
    published.parent.mkdir(parents=True)
    trace = tmp_path / "trace"
    if content == "hostile":
        torch.save(STATE | {"trap": Hostile(trace)}, published)
    else:
        part = (tmp_path / "published").read_bytes()[: -40 if content == "truncated" else 0]
        published.write_bytes(part)
    with pytest.raises(UserError, match=r"net-\w+\.pth is not what torchvision .* Delete it"):
        published_weights("any")
    assert not trace.exists()


def test_weights_that_cannot_be_fetched_say_what_to_do(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: urllib.request.Request, timeout: float) -> None:
        raise http.client.IncompleteRead(b"", 5)

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(UserError, match=r"can't be fetched .*5 more.*--params=weights=FILE"):
        published_weights("any")
    assert not published.exists()
