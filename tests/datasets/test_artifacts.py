"""Stored artifacts: round trips, versions, previews, and errors that name the file."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import CatalogConfigResolver, DataCatalog, DatasetError, Version
from kedro_viz.models.flowchart.node_metadata import DataNodeMetadata
from kedro_viz.models.flowchart.nodes import GraphNode
from matplotlib.figure import Figure

from cifar100_transfer.data import Predictions
from cifar100_transfer.datasets import FigureDataset, JSONDataset, TableDataset, TextDataset
from cifar100_transfer.datasets.artifacts import TEXT_COLUMNS, _all_digits
from cifar100_transfer.evaluation.metrics import most_confused_pairs, per_class_table
from cifar100_transfer.evaluation.pictures import TOP

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def figure() -> Figure:
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 3, 2])
    return drawn


@given(
    numbers=st.lists(st.floats(allow_infinity=False), min_size=1, max_size=5),
    integers=st.integers(-(2**63), 2**63 - 1),
)
@quick
def test_numbers_keep_all_their_digits(tmp_path: Path, numbers: list[float], integers: int) -> None:
    table = pd.DataFrame({"number": numbers, "integer": [integers] * len(numbers)})
    dataset = TableDataset(filepath=str(tmp_path / "table.csv"))
    dataset.save(table)
    loaded = dataset.load()
    assert np.array_equal(loaded["number"].to_numpy(float), table["number"], equal_nan=True)
    assert loaded["integer"].tolist() == [integers] * len(numbers)


@pytest.mark.parametrize(
    "names",
    [
        *(["None"], ["null"], ["nan"], ["NA"], ["a,b"], ['say "a"'], ["Äpfel"], [" x "]),
        *(["001", "002"], ["true", "false"], ["1e3", "7"], ["inf"], ["", "7"]),
    ],
)
def test_class_names_are_kept_whatever_they_are(tmp_path: Path, names: list[str]) -> None:
    dataset = TableDataset(filepath=str(tmp_path / "table.csv"))
    dataset.save(pd.DataFrame({"class": names, "images": 1}))
    loaded = dataset.load()
    assert loaded["class"].tolist() == names
    assert loaded["images"].tolist() == [1] * len(names)


def test_only_releases_of_pandas_that_need_the_option_are_given_it() -> None:
    wanted = {"float_precision": "round_trip"}
    releases = ("2.3.0", "3.0.6", "3.1.0", "3.10.0")
    assert [_all_digits(release) for release in releases] == [wanted, wanted, {}, {}]


def test_a_table_of_classes_comes_back_as_it_was_made(tmp_path: Path) -> None:
    predictions = Predictions(torch.eye(3), torch.tensor([0, 1, 1]), ("001", "002", "NA"))
    for table in (per_class_table(predictions), most_confused_pairs(predictions, 5)):
        dataset = TableDataset(filepath=str(tmp_path / "table.csv"))
        dataset.save(table)
        pd.testing.assert_frame_equal(dataset.load(), table)


def test_every_class_of_a_picture_is_text() -> None:
    assert f"class_{TOP}" in TEXT_COLUMNS


@pytest.mark.parametrize("content", [b"", b'a,b\n"x', b"a,b\n1,2,3,4\n1\n1,2,3,4,5,6\n", b"\xff"])
def test_no_table_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=r"table\.csv is no CSV table"):
        TableDataset(filepath=str(tmp_path / "table.csv")).load()


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    )
)
@quick
def test_json_comes_back(tmp_path: Path, values: dict[str, Any]) -> None:
    dataset = JSONDataset(filepath=str(tmp_path / "values.json"))
    dataset.save(values)
    assert dataset.load() == values
    assert json.loads(dataset.preview()) == values


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused_and_leave_no_file(
    tmp_path: Path, number: float
) -> None:
    with pytest.raises(DatasetError, match="not JSON compliant"):
        JSONDataset(filepath=str(tmp_path / "values.json")).save({"loss": number})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "holds a list instead of an object"), ("{", "is no JSON"), ("", "is no JSON")],
)
def test_other_json_is_an_error_that_names_the_file(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "values.json").write_text(content)
    with pytest.raises(DatasetError, match=rf"values\.json {message}"):
        JSONDataset(filepath=str(tmp_path / "values.json")).load()


@given(st.text())
@quick
def test_text_comes_back(tmp_path: Path, text: str) -> None:
    dataset = TextDataset(filepath=str(tmp_path / "page.html"))
    dataset.save(text)
    assert dataset.load() == text


def test_equal_figures_are_equal_files(tmp_path: Path) -> None:
    files = []
    for name in ("first.png", "second.png"):
        dataset = FigureDataset(filepath=str(tmp_path / name))
        dataset.save(figure())
        files.append(dataset.load())
    assert files[0] == files[1]
    assert files[0].startswith(b"\x89PNG")


def test_pictures_are_stored_as_they_are(tmp_path: Path) -> None:
    dataset = FigureDataset(filepath=str(tmp_path / "picture.png"))
    dataset.save(b"picture")
    assert dataset.load() == b"picture"
    assert base64.b64decode(dataset.preview()) == b"picture"


def test_the_preview_of_a_table_is_its_head(tmp_path: Path) -> None:
    dataset = TableDataset(filepath=str(tmp_path / "table.csv"))
    dataset.save(pd.DataFrame({"a": range(50), "b": [float("nan")] * 50}))
    preview = dataset.preview()
    assert preview["columns"] == ["a", "b"]
    assert preview["data"] == [[row, None] for row in range(20)]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        (TableDataset, "TablePreview"),
        (JSONDataset, "JSONPreview"),
        (FigureDataset, "ImagePreview"),
    ],
)
def test_previews_are_annotated_as_kedro_viz_expects(dataset: Any, name: str) -> None:
    assert dataset.preview.__annotations__["return"].__name__ == name


@pytest.mark.parametrize("kind", [TableDataset, JSONDataset, TextDataset, FigureDataset])
@pytest.mark.parametrize("version", [None, Version(None, None)])
def test_loading_before_saving_names_the_file(
    tmp_path: Path, kind: Any, version: Version | None
) -> None:
    dataset = kind(filepath=str(tmp_path / "artifact.x"), version=version)
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"artifact\.x does not exist yet: run the pipeline"):
        dataset.load()


def test_the_newest_version_is_loaded_and_older_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "page.txt"
    for version in ("2024-01-01", "2024-01-02"):
        TextDataset(filepath=str(path), version=Version(None, version)).save(version)
    newest = TextDataset(filepath=str(path), version=Version(None, None))
    assert newest.exists()
    assert newest.load() == "2024-01-02"
    assert TextDataset(filepath=str(path), version=Version("2024-01-01", None)).load() == (
        "2024-01-01"
    )
    assert newest.folder == tmp_path
    newest.save("today")
    assert newest.load() == "today"
    assert len(newest.list_versions()) == 3


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    dataset = TextDataset(filepath=str(tmp_path / "page.txt"), version=Version(None, "1"))
    dataset.save("first")
    with pytest.raises(DatasetError, match="must not exist"):
        dataset.save("second")
    assert dataset.load() == "first"


def test_without_versions_the_file_is_replaced(tmp_path: Path) -> None:
    dataset = TextDataset(filepath=str(tmp_path / "page.txt"), metadata={"layer": "x"})
    dataset.save("first")
    dataset.save("second")
    assert dataset.load() == "second"
    assert dataset.exists()
    assert dataset.metadata == {"layer": "x"}
    assert "page.txt" in str(dataset)


@pytest.mark.parametrize("kind", [TableDataset, JSONDataset, FigureDataset])
@pytest.mark.parametrize("version", [None, Version(None, None)])
def test_what_was_never_stored_has_no_preview(
    tmp_path: Path, kind: type[Any], version: Version | None
) -> None:
    assert kind(filepath=str(tmp_path / "absent"), version=version).preview() is None


@pytest.mark.parametrize("version", [None, Version(None, None)])
def test_kedro_viz_shows_the_newest_version(tmp_path: Path, version: Version | None) -> None:
    stored = JSONDataset(filepath=str(tmp_path / "values.json"), version=version)
    stored.save({"loss": 1.5})
    factory = CatalogConfigResolver(
        {
            "{model}.values": {
                "type": JSONDataset,
                "filepath": str(tmp_path / "values.json"),
                "versioned": version is not None,
            }
        }
    )
    catalog = DataCatalog(config_resolver=factory)
    shown = DataNodeMetadata(
        data_node=GraphNode.create_data_node(
            dataset_id="1",
            dataset_name="mine.values",
            layer=None,
            tags=set(),
            dataset=catalog["mine.values"],
            node_extras=None,
            modular_pipelines=None,
        )
    )
    assert shown.preview_type == "JSONPreview"
    assert json.loads(str(shown.preview)) == {"loss": 1.5}
