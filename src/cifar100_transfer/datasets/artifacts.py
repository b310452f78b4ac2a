"""Artifacts for people: tables, figures, numbers and text, each with a preview in kedro-viz."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType

from packaging.version import Version

from cifar100_transfer.errors import UserError
from cifar100_transfer.storage import atomic_path

from .base import ArtifactDataset

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# kedro-viz picks the way to show a preview by the name of the annotated return type.
ImagePreview = NewType("ImagePreview", str)
JSONPreview = NewType("JSONPreview", str)
TablePreview = NewType("TablePreview", dict[str, Any])

DOTS_PER_INCH = 120
PREVIEW_ROWS = 20
# Columns of names that people choose, and may choose to look like numbers: classes, files, models
# and changes of an ablation.
TEXT_COLUMNS = (
    *("class", "coarse_class", "mistaken_for", "true", "predicted"),
    *("class_1", "class_2", "class_3", "class_4", "class_5", "file"),
    *("model", "reference", "first", "second", "change"),
)


def _all_digits(pandas: str) -> dict[str, Any]:
    """Return the option by which a release of pandas reads numbers to the last digit.

    From 3.1 on all are read so, and the option is warned of.
    """
    return {"float_precision": "round_trip"} if Version(pandas) < Version("3.1") else {}


class TableDataset(ArtifactDataset["pd.DataFrame"]):
    """A pandas table as CSV; numbers keep all their digits, and names stay text.

    The columns in `TEXT_COLUMNS` are names: a class may be called "001", "true" or "nan", and
    nothing is "". In other columns an empty field, and nothing else, is a missing value.
    """

    def read(self, path: Path) -> pd.DataFrame:
        """Read the table."""
        import pandas as pd

        try:
            table = pd.read_csv(
                path,
                dtype=dict.fromkeys(TEXT_COLUMNS, str),
                keep_default_na=False,
                na_values=[""],
                **_all_digits(pd.__version__),
            )
        except ValueError as error:
            raise UserError(f"{path} is no CSV table ({error})") from error
        names = [name for name in table.columns if name in TEXT_COLUMNS]
        table[names] = table[names].fillna("")
        return table

    def write(self, data: pd.DataFrame, path: Path) -> None:
        """Write the table without its index."""
        with atomic_path(path) as temporary:
            data.to_csv(temporary, index=False)

    def preview(self) -> TablePreview | None:
        """Return the first rows, or nothing before the table was stored."""
        if not self.exists():
            return None
        rows = self.load().head(PREVIEW_ROWS)
        return TablePreview(json.loads(rows.to_json(orient="split")))


class JSONDataset(ArtifactDataset[dict[str, Any]]):
    """A dictionary of plain values as JSON."""

    def read(self, path: Path) -> dict[str, Any]:
        """Read the dictionary."""
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is no JSON ({error})") from error
        if not isinstance(loaded, dict):
            raise UserError(f"{path} holds a {type(loaded).__name__} instead of an object")
        return loaded

    def write(self, data: dict[str, Any], path: Path) -> None:
        """Write the dictionary; numbers that JSON lacks (NaN, infinity) are refused."""
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        with atomic_path(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def preview(self) -> JSONPreview | None:
        """Return the content, or nothing before it was stored."""
        if not self.exists():
            return None
        return JSONPreview(json.dumps(self.load()))


class TextDataset(ArtifactDataset[str]):
    """Text in UTF-8: a report page, a model card."""

    def read(self, path: Path) -> str:
        """Read the text."""
        # Not as text, which would turn every kind of line end into \n.
        return path.read_bytes().decode("utf-8")

    def write(self, data: str, path: Path) -> None:
        """Write the text."""
        with atomic_path(path) as temporary:
            temporary.write_bytes(data.encode("utf-8"))


class BytesDataset(ArtifactDataset[bytes]):
    """A file that is finished as it is."""

    def read(self, path: Path) -> bytes:
        """Read the file."""
        return path.read_bytes()

    def write(self, data: bytes, path: Path) -> None:
        """Write the file."""
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)


class ONNXDataset(BytesDataset):
    """A classifier in ONNX."""

    def check(self) -> None:
        """Raise a `UserError` before a run that would make one without the extra `onnx`."""
        from cifar100_transfer.models.export import check_onnx_packages

        check_onnx_packages()


class FigureDataset(ArtifactDataset["Figure | bytes"]):
    """A matplotlib figure as PNG. Loading gives the bytes of the picture."""

    def read(self, path: Path) -> bytes:
        """Read the picture."""
        return path.read_bytes()

    def write(self, data: Figure | bytes, path: Path) -> None:
        """Draw the figure; no date goes into the file, so equal figures are equal files."""
        with atomic_path(path) as temporary:
            if isinstance(data, bytes):
                temporary.write_bytes(data)
            else:
                data.savefig(temporary, dpi=DOTS_PER_INCH, metadata={"Software": None})

    def preview(self) -> ImagePreview | None:
        """Return the picture in base64, or nothing before it was stored."""
        if not self.exists():
            return None
        return ImagePreview(base64.b64encode(self.read(self.load_path())).decode("ascii"))


# kedro-viz reads the names of the types themselves, where the annotations above are strings.
TableDataset.preview.__annotations__["return"] = TablePreview
JSONDataset.preview.__annotations__["return"] = JSONPreview
FigureDataset.preview.__annotations__["return"] = ImagePreview
