"""Pictures as cameras, scanners and web pages make them."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(folder: Path) -> list[str]:
    """Write a picture of every mode, each 40 x 30 with a red left and a blue right half."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = np.zeros((30, 40, 3), np.uint8)
    halves[:, :20, 0] = 255
    halves[:, 20:, 2] = 255
    colour = Image.fromarray(halves)
    colour.save(folder / "plain.png")
    colour.save(folder / "photo.jpg", quality=95)
    colour.convert("P").save(folder / "palette.gif")
    colour.convert("CMYK").save(folder / "print.tif")
    colour.convert("L").save(folder / "grey.bmp")
    turned = colour.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held turned by 90 degrees
    turned.save(folder / "turned.jpg", quality=95, exif=exif)
    Image.fromarray(halves[..., 0].astype(np.uint16) * 257).save(folder / "scan.png")
    return sorted(path.name for path in folder.iterdir())


def write_class_folders(folder: Path, per_class: dict[str, int]) -> None:
    """Write a folder a class with pictures of many sizes; a class is a colour with some noise."""
    for label, (name, count) in enumerate(sorted(per_class.items())):
        (folder / name).mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(label)
        for index in range(count):
            shape = (int(random.integers(12, 40)), int(random.integers(12, 40)), 3)
            pixels = random.integers(0, 120, shape)
            pixels[..., label % 3] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index:03}.png")
