"""Data sets of one's own: folders of pictures, and Hugging Face data sets saved to the disk."""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from PIL import Image

from cifar100_transfer.errors import UserError

from .image_set import ImageSet, stratified_split
from .pictures import read_pictures, shown_name, visible_files

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Folders of these names hold classes, and are none: taken for classes, they would train nonsense.
_PART = re.compile(
    r"(train|training|test|testing|val|valid|validation|dev|eval)([ _-]?(set|data|images))?"
)
# Encoded pictures of a saved data set that are in memory at once.
_READ_AT_ONCE = 512


def read_image_folder(
    folder: Path, image_size: int, test_share: float, seed: int
) -> tuple[ImageSet, ImageSet]:
    """Read pictures that lie in one folder a class.

    Either `train/CLASS/…` and, if there are test images, `test/CLASS/…`; or `CLASS/…` at once.
    Folders within a class's folder belong to it, and links to folders are followed. Hidden files
    are left out, and, with a warning, files without the suffix of a picture format, links that lead
    nowhere, and pictures outside the classes' folders.

    Args:
        folder: as above. The folders' names, sorted, are the classes.
        image_size: height and width to which all pictures are brought, as `read_picture` says.
        test_share: part of every class that becomes the test set where there is no `test/`.
        seed: of that division.

    Returns:
        Training and test images, without coarse classes, in the order of their paths.

    Raises:
        UserError: no such folder, others beside `train/` and `test/`, a folder called like a part
            of a data set in the place of a class, a class without pictures, test classes that are
            not in `train/`, a name that is no UTF-8, a picture that can't be read, or a class too
            small to be divided.
    """
    parts, class_names = _layout(folder)
    found = [_find_files(part) for part in parts]
    left_out = [one for files in found for one in files.left_out]
    if folder not in parts:
        left_out = _loose_pictures(folder) + left_out
    _warn_of_left_out(folder, left_out)
    images = [
        _read_classes(part, files, class_names, image_size)
        for part, files in zip(parts, found, strict=True)
    ]
    if len(images) == 1:
        return _divide(images[0], test_share, seed)
    train, test = images
    _warn_of_untested(train, test, parts[1])
    return train, test


def _layout(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the folders of classes, of training and perhaps of test images, and the classes."""
    names = _folders(folder)
    if "train" not in names:
        _check_no_parts(folder, names)
        return [folder], _check_two(folder, names)
    if others := sorted({*names} - {"train", "test"}):
        raise UserError(
            f"{folder} holds train/ beside {', '.join(others)}: put all pictures into train/CLASS/ "
            f"and test/CLASS/, or call the class 'train' otherwise"
        )
    train, test = folder / "train", folder / "test"
    class_names = _check_two(train, _folders(train))
    if "test" not in names:
        return [train], class_names
    tested = _folders(test)
    if strange := sorted({*tested} - {*class_names}):
        raise UserError(f"{test} holds classes that {train} does not: {', '.join(strange)}")
    if not tested:
        raise UserError(f"{test} holds no folders: put one folder of pictures a class there")
    return [train, test], class_names


def _check_no_parts(folder: Path, names: tuple[str, ...]) -> None:
    if parts := [name for name in names if _PART.fullmatch(name.casefold())]:
        raise UserError(
            f"{folder} holds {', '.join(parts)}, called like a part of a data set, not like a "
            f"class: put the pictures into train/CLASS/ and, if there are test images, "
            f"test/CLASS/, spelt so; a class of such a name can lie within train/ alone"
        )


def _check_two(folder: Path, class_names: tuple[str, ...]) -> tuple[str, ...]:
    if len(class_names) < 2:
        raise UserError(
            f"{folder} holds {len(class_names)} folders: it should hold one folder of pictures a "
            f"class, for two classes at least"
        )
    return class_names


def _folders(folder: Path) -> tuple[str, ...]:
    if folder.is_file():
        raise UserError(
            f"{folder} is a file, not a folder: unpack it if it is an archive, and name the folder "
            f"with --params=raw_data=DIR"
        )
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist: it should hold one folder of pictures a class; name another "
            f"with --params=raw_data=DIR"
        )
    names = [path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    for name in names:
        if (shown := shown_name(name)) != name:
            # Tables, reports and stored images hold the names of classes, all as UTF-8.
            raise UserError(f"{folder}: the name of the folder {shown} is no UTF-8: rename it")
    return tuple(sorted(names))


@dataclass(frozen=True)
class _Files:
    """The files of a folder of classes.

    Attributes:
        pictures: those of every class, by its name.
        left_out: folder of each of the others, and why it is left out.
    """

    pictures: dict[str, list[Path]]
    left_out: list[tuple[Path, str]]


def _find_files(folder: Path) -> _Files:
    pictures, left_out = {}, _loose_pictures(folder)
    for name in _folders(folder):
        reasons = {path: _why_left_out(path) for path in visible_files(folder / name)}
        others = [(folder / name, why) for why in reasons.values() if why]
        pictures[name] = [path for path, why in reasons.items() if not why]
        if not pictures[name]:
            holds = f", but {_by_reason(others)}" if others else ""
            raise UserError(
                f"{folder / name} holds no pictures{holds}: put some there, or remove the folder"
            )
        left_out += others
    return _Files(pictures, left_out)


def _loose_pictures(folder: Path) -> list[tuple[Path, str]]:
    files = (path for path in sorted(folder.iterdir()) if path.name[0] != "." and path.is_file())
    return [(folder, "in no class's folder") for path in files if not _why_left_out(path)]


def _why_left_out(path: Path) -> str | None:
    """Return why a file is taken for no picture; None for a picture."""
    if not path.is_file():
        return "broken link"
    suffix = path.suffix.lower()
    return None if suffix in _picture_suffixes() else suffix or "without suffix"


@cache
def _picture_suffixes() -> frozenset[str]:
    formats = Image.registered_extensions()
    return frozenset(suffix for suffix, name in formats.items() if name in Image.OPEN)


def _by_reason(left_out: Sequence[tuple[Path, str]]) -> str:
    counts = Counter(why for _, why in left_out)
    return ", ".join(f"{why} ({count})" for why, count in counts.items())


def _warn_of_left_out(folder: Path, left_out: Sequence[tuple[Path, str]]) -> None:
    if not left_out:
        return
    places = dict.fromkeys(f"{place.relative_to(folder).as_posix()}/" for place, _ in left_out)
    logger.warning(
        *("%s: %d files left out: %s; in %s", folder, len(left_out), _by_reason(left_out)),
        _first(list(places), 5, ", "),
    )


def _first(texts: Sequence[str], count: int, separator: str) -> str:
    """Join texts, with a … for those after the first `count`."""
    return separator.join([*texts[:count], *(["…"] if len(texts) > count else [])])


def _read_classes(folder: Path, files: _Files, class_names: Sequence[str], size: int) -> ImageSet:
    paths = [path for found in files.pictures.values() for path in found]
    labels = [class_names.index(name) for name, found in files.pictures.items() for _ in found]
    images = ImageSet(
        images=_stack(read_pictures(paths, (size, size))),
        labels=torch.tensor(labels),
        class_names=tuple(class_names),
    )
    _log_counts(images, folder)
    return images


def _log_counts(images: ImageSet, source: Path | str) -> None:
    counts = images.labels.bincount(minlength=images.num_classes)
    logger.info(
        *("%d pictures in %d classes (%d to %d a class) from %s", len(images), len(counts)),
        *(counts.min(), counts.max(), source),
    )


def _warn_of_untested(train: ImageSet, test: ImageSet, source: Path | str) -> None:
    learnt, tested = ({*images.labels.tolist()} for images in (train, test))
    if missing := [train.class_names[label] for label in sorted(learnt - tested)]:
        logger.warning(
            "%s has no pictures of %s: nothing will be measured of them",
            *(source, ", ".join(missing)),
        )


def _stack(read: Sequence[torch.Tensor | UserError]) -> torch.Tensor:
    """Return uint8 [N, 3, H, W] of pictures that were read; refuse them if one could not be."""
    problems = [str(picture) for picture in read if isinstance(picture, UserError)]
    if len(problems) == 1:
        raise UserError(f"{problems[0]}: mend it or take it out")
    if problems:
        raise UserError(
            f"{len(problems)} of {len(read)} pictures can't be read: mend them or take them out: "
            f"{_first(problems, 3, '; ')}"
        )
    return torch.stack([picture for picture in read if isinstance(picture, torch.Tensor)])


def _divide(images: ImageSet, test_share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    try:
        return stratified_split(images, test_share, seed)
    except UserError as error:
        raise UserError(
            f"no test set can be taken from the images by test_share in the catalog: {error}, or "
            f"put test images into test/"
        ) from error


def read_saved_dataset(
    folder: Path, image_size: int, test_share: float, seed: int, label: str | None = None
) -> tuple[ImageSet, ImageSet]:
    """Read what `save_to_disk` of Hugging Face's `datasets` wrote.

    Args:
        folder: a saved data set with the splits `train` and, if there are test images, `test`; or
            one without splits.
        image_size: height and width to which all pictures are brought, as `read_picture` says.
        test_share: part of every class that becomes the test set where there is no `test`.
        seed: of that division.
        label: name of the column of classes; None where there is only one.

    Returns:
        Training and test images, without coarse classes, in the order they are stored.

    Raises:
        UserError: `datasets` is not installed, there is no such data set, it lacks a column of
            images or of classes, or a picture is missing or can't be read.
    """
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise UserError(
            f"{folder} is a Hugging Face data set; to read it, "
            f"pip install 'cifar100-transfer[huggingface]'"
        ) from error
    try:
        stored = load_from_disk(str(folder))
    except Exception as error:
        # The library raises errors of many kinds, of its own and of Arrow.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder} is no data set that save_to_disk wrote ({reason})") from error
    if not isinstance(stored, DatasetDict):
        return _divide(_decode(stored, folder, image_size, label), test_share, seed)
    if "train" not in stored:
        raise UserError(f"{folder} has no split 'train', but {', '.join(stored)}")
    if others := sorted(set(stored) - {"train", "test"}):
        logger.warning(
            "%s: not read: split %s. Validation images are taken from 'train' "
            "(split.validation_share)",
            *(folder, ", ".join(f"'{name}'" for name in others)),
        )
    train = _decode(stored["train"], folder, image_size, label)
    if "test" not in stored:
        return _divide(train, test_share, seed)
    test = _decode(stored["test"], folder, image_size, label)
    _warn_of_untested(train, test, f"{folder}: split 'test'")
    return train, test


def _decode(stored: Dataset, folder: Path, image_size: int, label: str | None) -> ImageSet:
    from datasets import ClassLabel
    from datasets import Image as Encoded

    image_column = _column(stored, folder, Encoded, "images", None)
    label_column = _column(stored, folder, ClassLabel, "classes", label)
    # Undecoded: all pictures are prepared by the same hand, wherever they are from.
    encoded = stored.cast_column(image_column, Encoded(decode=False))
    read: list[torch.Tensor | UserError] = []
    for batch in encoded.iter(_READ_AT_ONCE):
        rows = enumerate(batch[image_column], start=len(read))
        files = [_open(picture, folder, row) for row, picture in rows]
        read += read_pictures(files, (image_size, image_size))
    numbered = [
        UserError(f"{folder}: row {row}: {picture}") if isinstance(picture, UserError) else picture
        for row, picture in enumerate(read)
    ]
    # None, or -1: the library writes both for "no label".
    found = [-1 if label is None else label for label in stored[label_column][:]]
    labels = torch.tensor(found, dtype=torch.int64)
    if len(labels) == 0 or int(labels.min()) < 0:
        raise UserError(f"{folder}: a split is empty, or has images without a label")
    decoded = ImageSet(
        images=_stack(numbered),
        labels=labels,
        class_names=tuple(stored.features[label_column].names),
    )
    _log_counts(decoded, folder)
    return decoded


def _open(picture: dict[str, Any] | None, folder: Path, row: int) -> IO[bytes]:
    # Saving puts the bytes of every file into the data set; a path alone would lead nowhere.
    if picture is None or picture["bytes"] is None:
        raise UserError(f"{folder}: row {row} has no picture: take it out of the data set")
    return io.BytesIO(picture["bytes"])


def _column(stored: Dataset, folder: Path, kind: type, content: str, chosen: str | None) -> str:
    """Return the column of a kind: the chosen one, or else the only one."""
    columns = [name for name, feature in stored.features.items() if isinstance(feature, kind)]
    if chosen in columns:
        return str(chosen)
    if len(columns) == 1 and chosen is None:
        return columns[0]
    if not columns:
        raise UserError(f"{folder} has no column of {content}, but {', '.join(stored.features)}")
    raise UserError(f"{folder}: set 'label' of the catalog entry to one of {', '.join(columns)}")
