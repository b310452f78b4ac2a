"""Which device and precision are taken on machines of all kinds."""

import pytest
import torch

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import choose_device, choose_precision


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


@pytest.mark.parametrize(
    ("name", "device", "units", "expected"),
    [
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, torch.float32),
        ("auto", "cpu", True, torch.bfloat16),
        ("auto", "cpu", "avx512_bf16 AMD EPYC", torch.bfloat16),
        ("auto", "cpu", "avx512_bf16 Intel Xeon", torch.float32),
        ("auto", "cpu", "avx512_vnni", torch.float32),
        ("auto", "cpu", False, torch.float32),
        ("auto", "mps", True, torch.float32),
        ("bfloat16", "cpu", False, torch.bfloat16),
        ("float32", "cuda", True, torch.float32),
    ],
)
def test_bfloat16_is_taken_where_the_hardware_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    device: str,
    units: bool | str,
    expected: torch.dtype,
) -> None:
    def supported(including_emulation: bool) -> bool:
        return bool(units) or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    instructions: dict[str, bool | str] = {"amx_bf16": bool(units)}
    if isinstance(units, str):
        name_of_units, _, processor = units.partition(" ")
        instructions = {name_of_units: True, "cpu_name": processor}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert choose_precision(name, torch.device(device)) == expected
