"""Which device is taken on machines of all kinds."""

import pytest
import torch

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import choose_device


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "expected"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 0, True, "mps"),
        ("auto", 2, True, "cuda"),
        ("cpu", 2, True, "cpu"),
        ("mps", 0, True, "mps"),
        ("cuda", 1, False, "cuda"),
        ("cuda:1", 2, False, "cuda:1"),
        ("cuda", 0, True, None),
        ("cuda:2", 2, False, None),
        ("mps", 2, False, None),
    ],
)
def test_the_device_is_there_or_named(
    monkeypatch: pytest.MonkeyPatch, name: str, cuda: int, mps: bool, expected: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if expected is None:
        with pytest.raises(UserError, match=rf"compute\.device={name} is not available"):
            choose_device(name)
    else:
        assert choose_device(name) == torch.device(expected)
