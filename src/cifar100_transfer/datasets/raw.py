"""The data sets as they come: the official CIFAR-100, and the embedded one."""

import json
from pathlib import Path
from typing import Any, Literal, NoReturn

from kedro.io import AbstractDataset

from cifar100_transfer.data import ImageSet
from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.data.sample import generate, write_cifar_archive_folder
from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import atomic_path


class CIFAR100Dataset(AbstractDataset[NoReturn, tuple[ImageSet, ImageSet]]):
    """The official CIFAR-100: training and test images, verified; fetched where absent.

    Args:
        filepath: folder that holds `cifar-100-python/` or `cifar-100-python.tar.gz`.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return training and test images."""
        return read_cifar100(self._folder)

    def save(self, data: NoReturn) -> None:
        """Refuse: raw data is an input."""
        raise UserError(f"{self._folder}: raw data is read, never written")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder}


class SampleDataset(AbstractDataset[NoReturn, tuple[ImageSet, ImageSet]]):
    """The embedded data set: generated once into CIFAR-100's own files, then read like it.

    Args:
        filepath: folder that gets `cifar-100-python/`.
        task: `target`, or `pretraining` for other classes of the same kind.
        train_per_class: training images a class.
        test_per_class: test images a class.
        seed: of the generator.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        task: Literal["target", "pretraining"],
        train_per_class: int,
        test_per_class: int,
        seed: int = 0,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._folder = Path(filepath)
        self._task = task
        self._per_class = {"train": train_per_class, "test": test_per_class}
        self._seed = seed
        self.metadata = metadata

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return training and test images, generating the files where they are absent."""
        # The stamp is written last: without it, or with other settings in it, the files are not
        # those that were asked for.
        stamp = self._folder / "sample.json"
        wanted = json.dumps({"task": self._task, "seed": self._seed, **self._per_class})
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
            self._generate()
            with atomic_path(stamp) as temporary:
                temporary.write_text(wanted, encoding="utf-8")
        return read_cifar100(self._folder, official=False)

    def _generate(self) -> None:
        train, test = (
            generate(self._task, split, self._per_class[split], self._seed)
            for split in ("train", "test")
        )
        write_cifar_archive_folder(self._folder, train, test)

    def save(self, data: NoReturn) -> None:
        """Refuse: raw data is an input."""
        raise UserError(f"{self._folder}: raw data is read, never written")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder, "task": self._task, **self._per_class, "seed": self._seed}
