"""Reading, storing and changing images: changes of the code that no other test had noticed."""

import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, ClassifierSpec
from cifar100_transfer.storage import atomic_path
from cifar100_transfer.training.augmentation import ERASED_ASPECT, draw_erased
from cifar100_transfer.training.policies import draw_mixture
from tests.data.test_cifar100 import tiny, write_folder


class Writing:
    """Its pickle writes a file by a function that stands beside the safe names of NumPy."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return np.savetxt, (str(self.trace), [1.0])


def test_of_numpys_module_only_arrays_are_importable(tmp_path: Path) -> None:
    objects = tiny()
    objects["train"][b"extra"] = Writing(tmp_path / "trace")
    with pytest.raises(UserError, match=r"import numpy\.savetxt"):
        read_cifar100(write_folder(tmp_path, objects), official=False)
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(objects["train"], protocol=2))  # the trap is armed
    assert (tmp_path / "trace").exists()


def test_a_file_is_on_the_disk_before_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could leave an empty file under the final name, or none."""
    destination = tmp_path / "file.txt"
    flushed: list[tuple[bool, bool]] = []

    def fsync(descriptor: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), destination.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_path(destination) as temporary:
        temporary.write_text("whole")
    assert flushed == [(False, False), (True, True)], "the file, and its folder after it is renamed"


def test_erased_rectangles_lie_anywhere_and_are_upright_or_flat() -> None:
    top, left, bottom, right = draw_erased(np.random.default_rng(0), 4000, 1.0, (64, 64)).unbind(1)
    heights, widths = (bottom - top).double(), (right - left).double()
    for first, sides in ((top, heights), (left, widths)):
        # Uniform over what is free: mean 1/2, standard deviation 1/sqrt(12).
        places = (first / (64 - sides)).double()
        assert float(places.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(places.std()) == pytest.approx(12**-0.5, abs=0.02)
    ratios = (heights / widths).log() / -np.log(ERASED_ASPECT)
    assert float(ratios.mean()) == pytest.approx(0, abs=0.03)
    assert float(ratios.std()) == pytest.approx(3**-0.5, abs=0.06)  # uniform over [-1, 1]


def test_augmix_weighs_its_chains_by_dirichlet_and_magnitudes_are_uniform() -> None:
    draws = draw_mixture(np.random.default_rng(0), 4000, severity=0.3)
    # Dirichlet(1, 1, 1): variance 1/18. Beta(1, 1): 1/12.
    assert float(draws.weights.var()) == pytest.approx(1 / 18, rel=0.05)
    assert float(draws.mixture_shares.var()) == pytest.approx(1 / 12, rel=0.05)
    magnitudes = draws.chains.magnitudes[draws.chains.magnitudes != 0].abs()
    assert float(magnitudes.mean()) == pytest.approx(0.155, rel=0.02)


def test_images_are_averaged_where_they_are_made_smaller() -> None:
    spec = ClassifierSpec("simple_cnn", ("a", "b"), (0.5,) * 3, (0.25,) * 3, image_size=8)
    stripes = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    stripes[..., ::4] = 255
    seen = Classifier(spec).preprocess(stripes)[..., 2:-2, 2:-2]
    # A quarter of the pixels is white: (1/4 - 1/2) / (1/4).
    torch.testing.assert_close(seen, torch.full_like(seen, -1.0), atol=0.05, rtol=0)
