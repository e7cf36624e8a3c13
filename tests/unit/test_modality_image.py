"""Images: identity, decoding to upright RGB, the network's input."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft.errors import Unreadable
from regraft.modality import image

PREPROCESSING = {"size": 32, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2]}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def decoded(source: Any) -> Image.Image:
    found = image.load(source).decode()
    assert found.mode == "RGB"
    return found


def test_identity_follows_the_bytes_and_not_the_name(tmp_path: Path):
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    Image.fromarray(noise(8, 8, 3, seed=1)).save(tmp_path / "c.png")
    a, b, c = (image.load(tmp_path / f"{name}.png").identity for name in "abc")
    assert a == b != c


def test_identity_of_an_array_knows_its_shape():
    pixels = noise(4, 6, 3)
    assert image.load(pixels).identity != image.load(pixels.reshape(6, 4, 3)).identity


def test_identity_does_not_depend_on_the_order_in_memory():
    pixels = noise(6, 6, 3)
    assert image.load(pixels).identity == image.load(np.asfortranarray(pixels)).identity


def test_equal_indices_of_different_palettes_are_different_images():
    """What the network sees differs, so must the identity: else one image gets the other's features."""
    pictures = []
    for colour in ((255, 0, 0), (0, 0, 255)):
        picture = Image.new("P", (8, 8), 0)
        picture.putpalette(list(colour) + [0] * 765)
        pictures.append(picture)
    assert decoded(pictures[0]).getpixel((0, 0)) != decoded(pictures[1]).getpixel((0, 0))
    assert image.load(pictures[0]).identity != image.load(pictures[1]).identity


def test_equal_pixels_turned_by_their_orientation_are_different_images():
    pixels = noise(4, 8, 3)
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = 6
    plain = Image.fromarray(pixels)
    assert decoded(turned).size == (4, 8)
    assert decoded(plain).size == (8, 4)
    assert image.load(turned).identity != image.load(plain).identity


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("L", (90, 90, 90)), ("1", (255, 255, 255)), ("RGB", (10, 20, 30)), ("CMYK", None), ("YCbCr", None), ("LAB", None), ("HSV", None)],
)
def test_every_mode_becomes_rgb(mode: str, expected: tuple[int, int, int] | None):
    colour: Any = {"L": 90, "1": 1, "RGB": (10, 20, 30), "CMYK": (10, 20, 30, 40)}.get(mode, (10, 20, 30))
    found = decoded(Image.new(mode, (8, 8), colour))
    if expected is not None:
        assert found.getpixel((0, 0)) == expected


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (9, 9, 9, 0)), ("LA", (9, 0))])
def test_what_is_transparent_is_white(mode: str, colour: Any):
    assert decoded(Image.new(mode, (8, 8), colour)).getpixel((3, 3)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path):
    values = np.array([[0, 20_000], [40_000, 65_535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = np.asarray(decoded(tmp_path / "deep.png"))[..., 0]
    assert np.abs(found.astype(int) - np.array([[0, 78], [156, 255]])).max() <= 1


def test_floats_that_are_no_numbers_are_unreadable(tmp_path: Path):
    Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(Unreadable, match="not numbers"):
        image.load(tmp_path / "f.tiff").decode()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(tmp_path: Path, orientation: int):
    wide = Image.new("RGB", (16, 8), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide.save(tmp_path / "e.jpg", exif=exif)
    assert decoded(tmp_path / "e.jpg").size == ((16, 8) if orientation < 5 else (8, 16))


def test_the_middle_is_cropped():
    picture = Image.new("RGB", (120, 40), (255, 0, 0))
    picture.paste((0, 255, 0), (40, 0, 80, 40))
    (window,) = image.preparer(PREPROCESSING, {})(picture).windows
    assert window["pixels"].shape == (32, 32, 3)
    assert window["pixels"].dtype == np.uint8
    assert (window["pixels"][16, 16] == (0, 255, 0)).all()
    assert (window["pixels"].astype(int)[:, :, 1] > 200).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 700), (31, 32), (32, 32), (640, 480)])
def test_any_size_gives_the_same_shape(size: tuple[int, int]):
    (window,) = image.preparer(PREPROCESSING, {})(Image.new("RGB", size, (9, 8, 7))).windows
    assert window["pixels"].shape == (32, 32, 3)
    assert (window["pixels"] == (9, 8, 7)).all()


def test_pixels_are_normalised_channel_by_channel():
    window = {"pixels": np.full((32, 32, 3), 255, np.uint8)}
    x = image.collate([window, {"pixels": np.zeros((32, 32, 3), np.uint8)}], PREPROCESSING)["x"]
    assert tuple(x.shape) == (2, 3, 32, 32)
    np.testing.assert_allclose(x[0, :, 0, 0].numpy(), [(1 - 0.5) / 0.5, (1 - 0.4) / 0.25, (1 - 0.3) / 0.2], rtol=1e-6)
    np.testing.assert_allclose(x[1, :, 5, 5].numpy(), [-0.5 / 0.5, -0.4 / 0.25, -0.3 / 0.2], rtol=1e-6)


def test_the_summary_is_the_picture_in_small():
    picture = Image.new("RGB", (64, 64), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 32, 64, 64))
    row = image.summary(picture).reshape(16, 16, 3)
    np.testing.assert_allclose(row[0, 0], [1, 0, 0])
    np.testing.assert_allclose(row[15, 15], [0, 0, 1])


def jpeg(side: int = 64) -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise(side, side, 3)).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"this is a text, whatever its name says\n", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, ""),
        (jpeg()[:600], "damaged"),
        (jpeg()[:10], ""),
    ],
    ids=["zero-bytes", "text", "no-header", "truncated", "cut-in-header"],
)
def test_damaged_files_say_why(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(Unreadable) as raised:
        image.load(tmp_path / "x.jpg").decode()
    assert words in str(raised.value)
    assert str(raised.value).strip()
    assert "0x" not in str(raised.value), "an address in memory is no reason"


def test_a_bomb_is_not_unpacked(tmp_path: Path):
    """A small file that would decode to more pixels than an image may have."""
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(Unreadable, match="pixels"):
        image.load(tmp_path / "bomb.png").decode()


@pytest.mark.parametrize("name", ["nowhere.jpg", "."])
def test_what_is_no_file_says_so(tmp_path: Path, name: str):
    with pytest.raises(Unreadable):
        image.load(tmp_path / name)


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
        Image.new("RGB", (0, 0)),
        Image.new("RGB", (0, 5)),
        3,
        None,
        b"bytes",
    ],
    ids=["floats", "two-channels", "flat", "no-rows", "no-columns", "empty-pil", "no-width-pil", "number", "none", "bytes"],
)
def test_objects_that_are_no_images(source: Any):
    with pytest.raises(Unreadable):
        image.load(source).decode()


def test_an_opened_picture_that_is_truncated_is_unreadable():
    content = jpeg()
    lazy = Image.open(io.BytesIO(content[: len(content) * 3 // 4]))
    with pytest.raises(Unreadable):
        image.load(lazy).decode()


def test_an_opened_picture_whose_file_was_closed_is_unreadable(tmp_path: Path):
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pass
    with pytest.raises(Unreadable):
        image.load(picture).decode()


def photograph(width: int, height: int) -> Image.Image:
    """A smooth picture with some grain, as a camera gives it."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    grain = rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)) + grain, 0, 255).astype(np.uint8))


def as_jpeg(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, "JPEG", quality=92, **options)
    return path


@pytest.mark.parametrize(("size", "decoded"), [((1535, 2000), (1535, 2000)), ((1536, 2000), (768, 1000)), ((3300, 3080), (825, 770))])
def test_a_large_jpeg_is_decoded_smaller(tmp_path: Path, size: tuple[int, int], decoded: tuple[int, int]):
    found = image.load(as_jpeg(tmp_path / "x.jpg", photograph(*size))).decode()
    assert found.size == decoded
    assert image.measure(found) == {"width, pixels": size[0], "height, pixels": size[1]}


def test_a_large_jpeg_gives_nearly_the_same_pixels(tmp_path: Path):
    path = as_jpeg(tmp_path / "x.jpg", photograph(2400, 1600))
    settings = {"size": 224, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    prepare = image.preparer(settings, {})
    ours = prepare(image.load(path).decode()).windows[0]["pixels"].astype(int)
    with Image.open(path) as opened:
        whole = prepare(opened.convert("RGB")).windows[0]["pixels"].astype(int)
    assert np.abs(ours - whole).mean() < 1
    assert np.abs(ours - whole).max() < 16


def test_a_large_turned_jpeg_is_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x112] = 6
    found = image.load(as_jpeg(tmp_path / "x.jpg", photograph(2400, 1600), exif=exif)).decode()
    assert found.size == (800, 1200)
    assert image.measure(found) == {"width, pixels": 1600, "height, pixels": 2400}


def test_other_formats_are_decoded_whole(tmp_path: Path):
    photograph(1700, 1600).save(tmp_path / "x.png")
    assert image.load(tmp_path / "x.png").decode().size == (1700, 1600)
