"""The data sets as they come: published ones, the embedded one, and those of one's own."""

import json
from typing import Any, Literal

from cifar100_transfer.data import ImageSet
from cifar100_transfer.data.cifar10 import CIFAR10, read_cifar10
from cifar100_transfer.data.cifar100 import CIFAR100, data_files, read_cifar100
from cifar100_transfer.data.own import read_image_folder, read_saved_dataset
from cifar100_transfer.data.sample import generate, write_cifar_archive_folder
from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import atomic_path, checksums

from .base import InputDataset

# Pixels of both sides, as of `model.image_size`. All images are in memory at once: a thousand of
# these take 3 GB.
_LARGEST = 1024


class RawDataset(InputDataset[tuple[ImageSet, ImageSet]]):
    """Training and test images as they come. Subclasses say how they are read.

    Args:
        filepath: folder that holds the data.
        metadata: free entries of the catalog, read by kedro-viz.
    """


class CIFAR100Dataset(RawDataset):
    """The official CIFAR-100: training and test images, verified; fetched where absent.

    Args:
        filepath: folder that holds `cifar-100-python/` or `cifar-100-python.tar.gz`, or either of
            them itself.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return training and test images."""
        return read_cifar100(self._path)

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the files that are read, by name."""
        return checksums(data_files(CIFAR100, self._path))


class CIFAR10Dataset(RawDataset):
    """The official CIFAR-10: training and test images, verified; fetched where absent.

    Args:
        filepath: folder that holds `cifar-10-batches-py/` or `cifar-10-python.tar.gz`, or either
            of them itself.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return training and test images."""
        return read_cifar10(self._path)

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the files that are read, by name."""
        return checksums(data_files(CIFAR10, self._path))


class ImageFolderDataset(RawDataset):
    """Pictures in one folder a class, of any number, size and kind.

    Args:
        filepath: folder that holds `train/CLASS/` and perhaps `test/CLASS/`, or `CLASS/` at once.
        image_size: height and width in pixels to which all pictures are brought, up to 1024.
        test_share: part of every class that becomes the test set where there is no `test/`.
        seed: of that division.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        image_size: int,
        test_share: float = 0.2,
        seed: int = 0,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._image_size = image_size
        self._test_share = test_share
        self._seed = seed

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return training and test images."""
        self.check()
        return read_image_folder(self._path, self._image_size, self._test_share, self._seed)

    def check(self) -> None:
        """Raise a `UserError` if a setting can't be used."""
        size, share = self._image_size, self._test_share
        if not isinstance(size, int) or not 1 <= size <= _LARGEST:
            raise UserError(
                f"image_size={size}: must be a whole number of pixels from 1 to {_LARGEST}"
            )
        if not isinstance(share, int | float) or not 0 < share < 1:
            raise UserError(f"test_share={share}: must be a number between 0 and 1")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._path, "image_size": self._image_size}


class HuggingFaceDataset(ImageFolderDataset):
    """An image data set that `save_to_disk` of Hugging Face's `datasets` wrote.

    Args:
        filepath: the saved folder, with the splits `train` and perhaps `test`, or without splits.
        image_size: height and width in pixels to which all pictures are brought, up to 1024.
        test_share: part of every class that becomes the test set where there is no `test`.
        seed: of that division.
        label: name of the column of classes; null where there is only one.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(self, *, label: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._label = label

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return training and test images."""
        self.check()
        return read_saved_dataset(
            self._path, self._image_size, self._test_share, self._seed, self._label
        )


class SampleDataset(RawDataset):
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
        super().__init__(filepath=filepath, metadata=metadata)
        self._task = task
        self._per_class = {"train": train_per_class, "test": test_per_class}
        self._seed = seed

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return training and test images, generating the files where they are absent."""
        # The stamp is written last: without it, or with other settings in it, the files are not
        # those that were asked for.
        stamp = self._path / "sample.json"
        wanted = json.dumps({"task": self._task, "seed": self._seed, **self._per_class})
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
            # Or a generation that is cut off would leave its files under another one's stamp.
            stamp.unlink(missing_ok=True)
            self._generate()
            with atomic_path(stamp) as temporary:
                temporary.write_text(wanted, encoding="utf-8")
        return read_cifar100(self._path, official=False)

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the files that are read, by name."""
        return checksums(data_files(CIFAR100, self._path))

    def _generate(self) -> None:
        train, test = (
            generate(self._task, split, self._per_class[split], self._seed)
            for split in ("train", "test")
        )
        write_cifar_archive_folder(self._path, train, test)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._path, "task": self._task, **self._per_class, "seed": self._seed}
