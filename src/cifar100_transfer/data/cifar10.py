"""The official CIFAR-10 (python version), in the same kind of files as CIFAR-100.

Format and checksums: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from .cifar100 import Publication, decode_labels, decode_names, decode_pixels, read_files
from .image_set import ImageSet

META = "batches.meta"
TEST = "test_batch"
ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10 = Publication(
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    archive=ARCHIVE,
    url=f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
    archive_md5="c58f30108f718f92721af3b95e74349a",
    file_md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        TEST: "40351d587109b95175f43aff81a1287e",
        META: "5ff9c542aee3614f3951f8cda6e48888",
    },
)


def read_cifar10(raw_data: Path, official: bool = True) -> tuple[ImageSet, ImageSet]:
    """Read CIFAR-10 from a folder, or from the archive in it, fetching the archive if need be.

    Args:
        raw_data: folder that holds `cifar-10-batches-py/` or `cifar-10-python.tar.gz`, or either
            of them itself.
        official: compare the files with the published MD5 sums and fetch them where both are
            absent. False reads other data in the same format.

    Returns:
        The 50,000 training images, batch by batch, and the 10,000 test images (any numbers if not
        official), without coarse classes.

    Raises:
        UserError: the data is absent and can't be fetched, altered, damaged, of another format,
            or asks for something to be imported.
    """
    loaded = read_files(CIFAR10, raw_data, official)
    names = decode_names(loaded[META], "label_names", f"{CIFAR10.folder}/{META}")
    train = [name for name in CIFAR10.file_md5 if name not in (TEST, META)]
    return _join(loaded, train, names), _join(loaded, [TEST], names)


def _join(
    loaded: dict[str, dict[bytes, Any]], batches: list[str], names: tuple[str, ...]
) -> ImageSet:
    pixels, labels = [], []
    for batch in batches:
        file = f"{CIFAR10.folder}/{batch}"
        pixels.append(decode_pixels(loaded[batch], file))
        labels.append(decode_labels(loaded[batch], "labels", len(pixels[-1]), len(names), file))
    return ImageSet(
        images=torch.from_numpy(np.concatenate(pixels)),
        labels=torch.from_numpy(np.concatenate(labels)),
        class_names=names,
    )
