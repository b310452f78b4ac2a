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
