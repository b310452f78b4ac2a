"""Pictures of every kind become what a classifier takes, and what is none is told apart."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar100_transfer.data.pictures import find_pictures, read_picture, read_pictures
from cifar100_transfer.errors import UserError
from tests.pictures import write_pictures

RED, BLUE = torch.tensor([255, 0, 0]), torch.tensor([0, 0, 255])


@pytest.mark.parametrize("name", ["plain.png", "photo.jpg", "palette.gif", "turned.jpg"])
def test_colours_stay_where_they_are_seen(tmp_path: Path, name: str) -> None:
    write_pictures(tmp_path)
    picture = read_picture(tmp_path / name, (8, 8))
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 8, 8)
    for column, colour in ((0, RED), (7, BLUE)):
        assert (picture[:, 4, column].int() - colour).abs().max() < 25, name


def test_grey_of_eight_and_sixteen_bits_is_grey(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    for name, left, right in (("grey.bmp", 76, 29), ("scan.png", 255, 0)):
        picture = read_picture(tmp_path / name, (8, 8))
        assert torch.equal(picture[0], picture[1])
        assert torch.equal(picture[0], picture[2])
        assert (int(picture[0, 4, 0]), int(picture[0, 4, 7])) == (left, right)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_sixteen_bits_the_upper_eight_are_read(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256], [0x1234, 0xFEFF, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"grey.{suffix}")
    picture = read_picture(tmp_path / f"grey.{suffix}", (2, 3))
    assert picture.tolist() == [[[0, 0, 1], [0x12, 0xFE, 0xFF]]] * 3


def test_sixteen_bits_of_a_ppm_file_are_read_likewise(tmp_path: Path) -> None:
    (tmp_path / "grey.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0x12, 0x34, 0xFE, 0xFF]))
    assert Image.open(tmp_path / "grey.pgm").mode == "I"
    assert read_picture(tmp_path / "grey.pgm", (1, 2))[0].tolist() == [[0x12, 0xFE]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=kind)).save(tmp_path / "depth.tif")
    with pytest.raises(UserError, match="numbers of unknown range"):
        read_picture(tmp_path / "depth.tif", (2, 2))


def test_transparency_shows_white(tmp_path: Path) -> None:
    glass = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    glass.save(tmp_path / "glass.png")
    glass.convert("LA").save(tmp_path / "grey.png")
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    for name in ("glass.png", "grey.png", "palette.png"):
        assert int(read_picture(tmp_path / name, (4, 4)).min()) == 255, name


def test_what_juts_out_is_cut_off_equally(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert int(read_picture(tmp_path / "wide.png", (10, 10)).min()) == 255


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=60)
def test_any_size_and_mode_comes_out_in_the_size_asked_for(
    width: int, height: int, mode: str, size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "png")
    picture = read_picture(file, size)
    assert picture.shape == (3, *size)
    assert picture.dtype == torch.uint8


@given(st.binary(max_size=100))
def test_garbage_is_no_picture_and_nothing_else(content: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0"):
        with pytest.raises(UserError, match="can't be read as a picture"):
            read_picture(io.BytesIO(start + content), (8, 8))


def test_damaged_files_are_told_apart_from_good_ones(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    whole = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("F", (8, 8)).save(tmp_path / "reals.tif")
    good, *bad = read_pictures(
        [tmp_path / name for name in ("plain.png", "cut.jpg", "reals.tif", "absent.png")], (8, 8)
    )
    assert isinstance(good, torch.Tensor)
    for problem, name in zip(bad, ("cut.jpg", "reals.tif", "absent.png"), strict=True):
        assert isinstance(problem, UserError)
        assert name in str(problem)
        assert "\n" not in str(problem)


def test_files_are_found_in_folders_in_order_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.jpg", ".hidden.png", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_pictures(tmp_path).names == ["a/c.jpg", "b.png"]
    assert find_pictures(tmp_path / "a" / "c.jpg").names == ["c.jpg"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.png").touch()
    folder = tmp_path / "near"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "b.png").touch()
    (folder / "in" / "up").symlink_to(folder)
    (folder / "linked").symlink_to(tmp_path / "far")
    (folder / "linked_again").symlink_to(tmp_path / "far")  # or a picture would be there twice
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    os.mkfifo(folder / "pipe.png")  # opening it would wait for ever
    names = ["gone.png", "in/b.png", "itself.png", "linked/a.png"]
    assert find_pictures(folder).names == names
    (problem,) = read_pictures(find_pictures(folder).paths[:1], (8, 8))
    assert "No such file" in str(problem)


def test_a_folder_that_may_not_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match="can't be read: Permission denied"):
        find_pictures(tmp_path)


def test_a_name_that_is_no_text_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).touch()
    (tmp_path / "cat\rdog.png").touch()
    assert find_pictures(tmp_path).names == [
        "caf\N{REPLACEMENT CHARACTER}.png",
        "cat\N{REPLACEMENT CHARACTER}dog.png",
    ]


def test_what_is_wrong_with_a_file_whose_name_is_no_text_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no picture")
    (problem,) = read_pictures(find_pictures(tmp_path).paths, (8, 8))
    assert "caf\N{REPLACEMENT CHARACTER}.png can't be read" in str(problem)
    str(problem).encode()


def test_absent_and_empty_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        find_pictures(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no file"):
        find_pictures(tmp_path)
