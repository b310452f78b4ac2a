"""Pictures of any kind, brought to the one form a classifier takes: uint8 RGB of a given size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import torch
from PIL import Image, ImageOps

from cifar100_transfer.errors import UserError

# Pillow lets go of Python's lock while it decodes and resizes; more threads than this only wait.
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class PictureFiles:
    """Files that are to be read as pictures, in the order of their names.

    Attributes:
        root: folder that `paths` are under.
        paths: at least one file.
    """

    root: Path
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """Path of every file below `root`, with slashes; what is no UTF-8 is shown as �.

        So is a carriage return, which would end a row of a table of these names.
        """
        relative = (path.relative_to(self.root).as_posix() for path in self.paths)
        return [shown_name(name).replace("\r", "\N{REPLACEMENT CHARACTER}") for name in relative]


def shown_name(name: str) -> str:
    """Return a file's name with � for what is no UTF-8, which can't be written otherwise."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def find_pictures(path: Path) -> PictureFiles:
    """Find the files to read: one file, or all in a folder that `visible_files` returns.

    Raises:
        UserError: there is no such file or folder, it may not be read, or no file is in the folder.
    """
    if path.is_file():
        return PictureFiles(path.parent, (path,))
    if not path.is_dir():
        raise UserError(f"{path} does not exist: name a picture or a folder of pictures")
    paths = visible_files(path)
    if not paths:
        raise UserError(f"{path} holds no file: name a picture or a folder of pictures")
    return PictureFiles(path, tuple(paths))


def visible_files(folder: Path) -> list[Path]:
    """Return the files in a folder and the folders in it, sorted, but for hidden ones.

    Links are followed, and no folder is searched twice, wherever they lead. Links that lead nowhere
    are among the files.

    Raises:
        UserError: a folder may not be read.
    """
    found: list[Path] = []
    searched = set()
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        state = Path(place).stat()
        identity = (state.st_dev, state.st_ino)
        if identity in searched:
            folders.clear()
            continue
        searched.add(identity)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        paths = [Path(place, name) for name in files if name[0] != "."]
        # What is there and no file, such as a pipe, could be waited for without end.
        found += [path for path in paths if path.is_file() or not path.exists()]
    return sorted(found)


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename} can't be read: {error.strerror}") from error


def read_picture(file: Path | IO[bytes], size: tuple[int, int]) -> torch.Tensor:
    """Read a picture of any size and mode.

    It is turned upright as its EXIF orientation says; transparency shows white; grey, palette and
    CMYK become RGB, 16-bit grey its upper 8 bits; of several frames the first is taken. Then it is
    resized, keeping its proportions, until it just covers `size`, and what juts out is cut off
    equally on both sides. Training folders and pictures to classify take the same way.

    Args:
        file: path or open file, of any format that Pillow reads.
        size: height and width in pixels.

    Returns:
        uint8 [3, H, W].

    Raises:
        UserError: the file can't be read, is no picture, or is damaged.
    """
    try:
        with Image.open(file) as image:
            upright = _to_rgb(ImageOps.exif_transpose(image), image.format)
            fitted = ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BICUBIC)
    except Exception as error:
        # A damaged picture can fail in any way; whatever it was, the file is at fault.
        name = shown_name(str(file)) if isinstance(file, Path) else "the picture"
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{name} can't be read as a picture ({reason})") from error
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    # In these two formats 32 bits hold 16-bit grey; in others they may hold anything.
    grey_in_32_bits = image.mode == "I" and file_format in ("PNG", "PPM")
    if image.mode == "F" or (image.mode == "I" and not grey_in_32_bits):
        raise UserError("its pixels are numbers of unknown range")
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def read_pictures(
    files: Sequence[Path | IO[bytes]], size: tuple[int, int]
) -> list[torch.Tensor | UserError]:
    """Read many pictures at once: for each uint8 [3, H, W], or why it can't be read."""

    def read(file: Path | IO[bytes]) -> torch.Tensor | UserError:
        try:
            return read_picture(file, size)
        except UserError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(read, files))
