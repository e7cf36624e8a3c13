"""Images, sounds and texts that are damaged, absurd, or made to take all memory."""

from __future__ import annotations

import io
import os
import struct
import wave
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import HOSTILE, decode_safely
from PIL import Image

from regraft.modality import MODALITIES, audio, image, text
from regraft.modality.base import FILE_LIMIT, Stored

# Pillow warns of large images; whoever runs regraft from the command line never sees it
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore:Corrupt EXIF", "ignore:Truncated File Read")


def picture(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    pixels = Image.fromarray(np.arange(24 * 20 * 3, dtype=np.uint32).astype(np.uint8).reshape(24, 20, 3))
    pixels.convert(mode).save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes, data: bytes = b"\0", depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")])


def bmp(width: int, height: int, bits: int = 24) -> bytes:
    whole = bytearray(picture("BMP"))
    whole[18:26], whole[28:30] = struct.pack("<ii", width, height), struct.pack("<H", bits)
    return bytes(whole)


def jpeg(width: int, height: int) -> bytes:
    whole = bytearray(picture("JPEG"))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def gif(width: int, height: int, frame: tuple[int, int] | None = None) -> bytes:
    whole = bytearray(picture("GIF"))
    whole[6:10] = struct.pack("<HH", width, height)
    if frame is not None:
        at = whole.index(b"\x2c", 13 + 3 * 2)
        whole[at + 5 : at + 9] = struct.pack("<HH", *frame)
    return bytes(whole)


def tiff(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A little-endian TIFF of these (tag, type, count, value) alone."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following) + b"\0" * 64


def tiff_of(width: int, height: int, **options: int) -> bytes:
    more = [(259, 3, 1, 1), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 64)]
    return tiff(*sorted([(256, 4, 1, width), (257, 4, 1, height), *more]), **options)


def webp(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def many_frames(count: int) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("L", (8, 8), i % 250) for i in range(count)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def with_text(kind: bytes, size: int) -> bytes:
    packed = zlib.compress(b"x" * size)
    body = {b"zTXt": b"k\0\0" + packed, b"iTXt": b"k\0\1\0\0\0" + packed, b"iCCP": b"k\0\0" + packed, b"tEXt": b"k\0" + b"x" * size}
    return png(4, 4, *[chunk(kind, body[kind])] * 8, data=b"\0" * 64)


def exif(content: bytes) -> bytes:
    return picture("JPEG", exif=b"Exif\0\0" + content)


ORIENTATION = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"

UNREADABLE_IMAGES = {
    "png of 100,000 x 100,000": png(100_000, 100_000),
    "png of 2^31 x 2^31": png(2**31 - 1, 2**31 - 1),
    "png of 0 x 5": png(0, 5),
    "png of 14,000 x 14,000 without its pixels": png(14_000, 14_000),
    "png of depth 77": png(4, 4, depth=77),
    "png of no colour type": png(4, 4, colour=9),
    "png without pixels": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)) + chunk(b"IEND", b""),
    "png whose chunk claims 2 GB": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31 - 1) + b"IHDR" + b"\0" * 30,
    "jpeg of 65,535 x 65,535": jpeg(65_535, 65_535),
    "jpeg of 0 x 0": jpeg(0, 0),
    "gif of 65,535 x 65,535": gif(65_535, 65_535),
    "bmp of a negative width": bmp(-20, 24),
    "bmp of 2^31 x 2^31": bmp(2**31 - 1, 2**31 - 1),
    "bmp of -2^31 rows": bmp(20, -(2**31)),
    "bmp of 0 x 0": bmp(0, 0),
    "bmp of 77 bits": bmp(20, 24, 77),
    "tiff of 2^32 x 2^32": tiff_of(2**32 - 1, 2**32 - 1),
    "tiff of 0 x 0": tiff_of(0, 0),
    "tiff of negative strips": tiff((256, 4, 1, 9), (257, 4, 1, 9), (273, 4, 2**31, 8), (279, 4, 2**31, 8)),
    "tiff without anything": tiff(),
    "tiff whose directory is itself": b"II*\0" + struct.pack("<I", 4) + b"\x04\0\0\0",
    "webp of 16,777,216 x 16,777,216": webp(2**24, 2**24),
    "ppm of 10^9 x 10^9": b"P6 1000000000 1000000000 255\n" + b"\0" * 99,
    "ppm with a number of a million digits": b"P6 " + b"9" * 1_000_000,
    "pgm of a negative width": b"P5 -3 3 255\n" + b"\0" * 99,
    "text under another name": b"This was never an image.\n" * 50,
    "html under another name": b"<!doctype html><html><body>404 Not Found</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
    "nothing": b"",
    "zeros": bytes(10_000),
    "zlib alone": zlib.compress(bytes(10_000_000)),
    "an archive": b"PK\x03\x04" + bytes(200),
    "postscript, which a program would run": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n%%EOF\n",
    "a stub of another program's format": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "jpeg that ends in its header": picture("JPEG")[:160],
}


@pytest.mark.parametrize("name", list(UNREADABLE_IMAGES))
def test_an_image_that_is_none(name: str, tmp_path: Path):
    path = tmp_path / "x.jpg"
    path.write_bytes(UNREADABLE_IMAGES[name])
    assert decode_safely("image", path)
    assert decode_safely("image", Stored("row 1", lambda: UNREADABLE_IMAGES[name]))


ODD_IMAGES = {
    "a gif of 3,000 frames": many_frames(3_000),
    "a tiff whose directories form a circle": tiff_of(8, 8, following=8),
    "a tiff whose next directory lies outside": tiff_of(8, 8, following=2**31),
    "a gif with a frame of 65,535 x 65,535": gif(8, 8, (65_535, 65_535)),
    "exif of zeros": exif(bytes(500)),
    "exif that is cut off": exif(ORIENTATION),
    "an orientation of 99": exif(ORIENTATION + struct.pack("<HHI", 99, 0, 0)),
    "an orientation of text": exif(b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x09\0\0\0\x1a\0\0\0\0\0\0\0notanumber"),
    "exif whose directory is itself": exif(b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"),
    "exif that counts four thousand million": exif(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\x08\0\0\0\0\0\0\0"),
    "a colour profile of noise": picture("PNG", icc_profile=bytes(range(256)) * 20),
    "a jpeg with noise behind it": picture("JPEG") + bytes(range(256)) * 20,
    "a png with a text that unfolds": with_text(b"zTXt", 50_000_000),
    "a png with an international text that unfolds": with_text(b"iTXt", 50_000_000),
    "a png with a profile that unfolds": with_text(b"iCCP", 50_000_000),
    "a png with a long text": with_text(b"tEXt", 2_000_000),
    "a png with pixels for a hundred": png(4, 4, data=bytes(50_000_000)),
    "an interlaced png of one pixel": picture("PNG"),
    "a png in a jpeg's name": picture("PNG"),
}


@pytest.mark.parametrize("name", list(ODD_IMAGES))
def test_an_odd_image_is_read_or_named(name: str, tmp_path: Path):
    path = tmp_path / "x.jpg"
    path.write_bytes(ODD_IMAGES[name])
    decode_safely("image", path)


WHOLE = {kind: picture(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")}


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("kind", list(WHOLE))
def test_an_image_that_is_cut_off(kind: str, tenths: int, tmp_path: Path):
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(WHOLE[kind][: len(WHOLE[kind]) * tenths // 10])
    decode_safely("image", path)


@HOSTILE
@given(kind=st.sampled_from(sorted(WHOLE)), changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8))
def test_an_image_with_other_bytes(kind: str, changes: list[tuple[int, int]]):
    content = bytearray(WHOLE[kind])
    for place, value in changes:
        content[place % len(content)] = value
    decode_safely("image", Stored("x", lambda: bytes(content)))


TAGS = st.tuples(
    st.sampled_from([254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 330, 338, 339, 34675, 34665, 700]),
    st.integers(0, 20),
    st.integers(0, 3) | st.integers(0, 2**32 - 1),
    st.integers(0, 99) | st.integers(0, 2**32 - 1),
)


@HOSTILE
@given(entries=st.lists(TAGS, max_size=14), following=st.sampled_from([0, 8, 2**31]))
def test_a_made_up_tiff(entries: list[tuple[int, int, int, int]], following: int):
    decode_safely("image", Stored("x", lambda: tiff(*entries, following=following)))


MODES = ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow(mode: str, tmp_path: Path):
    first = image.load(Image.new(mode, (9, 5))).decode()
    assert (first.mode, first.size) == ("RGB", (9, 5))
    assert decode_safely("image", Image.new(mode, (9, 5))) == ""
    for ending in (".png", ".tif", ".jpg", ".webp", ".gif"):
        path = tmp_path / f"x{ending}"
        try:
            Image.new(mode, (9, 5)).save(path)
        except (OSError, ValueError, KeyError):
            continue
        assert decode_safely("image", path) == "", ending


@pytest.mark.parametrize("values", [(float("nan"), 1.0), (float("inf"), 1.0), (-float("inf"), 1.0), (3e38, -3e38), (0.0, 0.0)])
def test_floating_point_pixels_that_are_no_numbers(values: tuple[float, float], tmp_path: Path):
    Image.fromarray(np.array([values] * 4, np.float32)).save(tmp_path / "x.tif")
    reason = decode_safely("image", tmp_path / "x.tif")
    assert bool(reason) == (not np.isfinite(values).all()), reason


@pytest.mark.parametrize(("size", "crop"), [((1, 30_000), False), ((30_000, 1), False), ((1, 1), True), ((2, 65_000), True)])
def test_a_strip_of_an_image(size: tuple[int, int], crop: bool):
    assert decode_safely("image", Image.new("RGB", size)) == ""


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "CMYK", "I;16", "F"])
def test_a_small_file_of_the_most_pixels(mode: str, tmp_path: Path):
    """A few hundred kilobytes on disk. What each decoder and conversion holds together stays below the bound."""
    side = 11_000 if mode == "RGBA" else 9_000
    assert side**2 <= image.PIXEL_LIMIT
    path = tmp_path / ("x.tif" if mode in ("F", "CMYK") else "x.png")
    Image.new(mode, (side, side)).save(path, **({"compression": "tiff_lzw"} if path.suffix == ".tif" else {"compress_level": 1}))
    loaded = image.load(path)
    assert loaded.decode().size == (side, side)


def test_strips_give_the_same_pixels_as_the_whole(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (37, 23, 4), dtype=np.uint8)),
        Image.fromarray(rng.integers(0, 256, (37, 23, 4), dtype=np.uint8)).convert("LA"),
        Image.fromarray(rng.integers(0, 65536, (37, 23), dtype=np.uint16)),
        Image.fromarray(rng.normal(0, 9, (37, 23)).astype(np.float32)),
    ]
    whole = [image.load(p).decode().tobytes() for p in pictures]
    monkeypatch.setattr(image, "STRIP", 50)
    monkeypatch.setattr(image, "LARGE", 10)
    assert [image.load(p).decode().tobytes() for p in pictures] == whole


ARRAYS = [
    np.zeros((0, 5, 3), np.uint8),
    np.zeros((5, 0), np.uint8),
    np.zeros((5, 5, 2), np.uint8),
    np.zeros((5, 5, 5, 3), np.uint8),
    np.zeros((5, 5, 3), np.float64),
    np.full((5, 5), np.nan),
    np.zeros(5, np.uint8),
    np.array(3, np.uint8),
    np.array(["a"]),
    np.array([object()]),
]


@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_an_array_that_is_no_image(number: int):
    assert decode_safely("image", ARRAYS[number])


# ---------------------------------------------------------------- sounds

pytest.importorskip("soundfile")
pytest.importorskip("soxr")


def save(path: Path, samples: np.ndarray, rate: int = 16_000, **options: Any) -> Path:
    import soundfile

    soundfile.write(path, samples, rate, **options)
    return path


def wav_header(frames: int, *, rate: int = 16_000, channels: int = 1, bits: int = 16, code: int = 1, claims: int | None = None) -> bytes:
    size = frames * channels * bits // 8 if claims is None else claims
    kind = struct.pack("<HHIIHH", code, channels, rate, rate * channels * bits // 8 % 2**32, channels * bits // 8 % 2**16, bits)
    return b"RIFF" + struct.pack("<I", (36 + size) % 2**32) + b"WAVEfmt " + struct.pack("<I", 16) + kind + b"data" + struct.pack("<I", size)


NOISE = (np.random.default_rng(0).integers(-9_000, 9_000, 16_000).astype("<i2")).tobytes()

UNREADABLE_SOUNDS = {
    "no samples": wav_header(0),
    "one sample": wav_header(1) + b"\1\0",
    "nine milliseconds": wav_header(144) + NOISE[:288],
    "silence": wav_header(16_000) + bytes(32_000),
    "one sample a second": wav_header(16_000, rate=1) + NOISE,
    "no samples a second": wav_header(16_000, rate=0) + NOISE,
    "four thousand million samples a second": wav_header(16_000, rate=2**32 - 1) + NOISE,
    "no channels": wav_header(16_000, channels=0) + NOISE,
    "65,535 channels": wav_header(16_000, channels=65_535) + NOISE,
    "no bits": wav_header(16_000, bits=0) + NOISE,
    "77 bits": wav_header(16_000, bits=77) + NOISE,
    "an unknown code": wav_header(16_000, code=0x7777) + NOISE,
    "a header alone": wav_header(16_000)[:30],
    "noise named .mp3": bytes(np.random.default_rng(1).integers(0, 256, 30_000, dtype=np.uint8)),
    "text": b"This was never a sound.\n" * 40,
    "zeros": bytes(5_000),
    "nothing": b"",
    "the first bytes of mp3 over and over": b"\xff\xfb\x90\x00" * 2_000,
    "ogg without pages": b"OggS" + bytes(3_000),
    "flac without frames": b"fLaC" + bytes([0x80, 0, 0, 34]) + bytes(34),
    "flac that claims 2^36 samples": b"fLaC"
    + bytes([0x80, 0, 0, 34])
    + struct.pack(">HHHIHI", 16, 16, 0, 0, 0xA, 0xC44_2F0FF)
    + b"\xff" * 18,
}


@pytest.mark.parametrize("name", list(UNREADABLE_SOUNDS))
def test_a_sound_that_is_none(name: str, tmp_path: Path):
    path = tmp_path / "x.wav"
    path.write_bytes(UNREADABLE_SOUNDS[name])
    assert decode_safely("audio", path)
    assert decode_safely("audio", Stored("row 1", lambda: UNREADABLE_SOUNDS[name]))


@pytest.mark.parametrize("claims", [2**32 - 1, 2**31, 2**32 - 40, 3])
def test_a_header_that_claims_another_length(claims: int, tmp_path: Path):
    (tmp_path / "x.wav").write_bytes(wav_header(16_000, claims=claims) + NOISE)
    assert decode_safely("audio", tmp_path / "x.wav") == "" or claims == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, 3e38, -1e20])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_no_numbers(value: float, subtype: str, tmp_path: Path):
    samples = np.sin(np.arange(16_000) / 5)
    samples[777] = value
    assert decode_safely("audio", save(tmp_path / "x.wav", samples, subtype=subtype))
    assert decode_safely("audio", (samples, 16_000))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "GSM610"])
@pytest.mark.parametrize("rate", [8_000, 192_000])
def test_every_kind_of_samples(subtype: str, rate: int, tmp_path: Path):
    assert decode_safely("audio", save(tmp_path / "x.wav", np.sin(np.arange(rate) / 5) / 2, rate, subtype=subtype)) == ""


@pytest.mark.parametrize("channels", [2, 32, 64])
@pytest.mark.parametrize("rate", [100, 44_100, 768_000])
def test_many_channels_and_unusual_rates(channels: int, rate: int, tmp_path: Path):
    samples = np.repeat(np.sin(np.arange(min(rate, 50_000)) / 5)[:, None] / 2, channels, axis=1)
    assert decode_safely("audio", save(tmp_path / "x.wav", samples, rate)) == ""


def test_ten_hours_of_sound_of_which_ten_minutes_are_heard(tmp_path: Path):
    """It takes no room on the disk: one second of noise in the middle of nothing."""
    frames = 10 * 3_600 * 8_000
    path = tmp_path / "x.wav"
    with open(path, "wb") as file:
        file.write(wav_header(frames, rate=8_000, bits=8))
        file.seek(44 + frames - 8_000 * 5)
        file.write(NOISE[:8_000])
        file.truncate(44 + frames)
    samples = audio.load(path).decode()
    assert len(samples) == audio.LONGEST * audio.RATE


@pytest.mark.parametrize(("rate", "channels", "seconds"), [(192_000, 32, 80), (768_000, 1, 450)])
def test_many_samples_that_take_no_room_on_the_disk(rate: int, channels: int, seconds: int, tmp_path: Path):
    """Held at once as floats, some of these would be gigabytes."""
    frames = rate * seconds
    path = tmp_path / "x.wav"
    with open(path, "wb") as file:
        file.write(wav_header(frames, rate=rate, channels=channels, bits=8) + NOISE)
        file.truncate(44 + frames * channels)
    assert abs(len(audio.load(path).decode()) - seconds * audio.RATE) < 200


def test_a_small_flac_that_unfolds(tmp_path: Path):
    import soundfile

    path = tmp_path / "x.flac"
    with soundfile.SoundFile(path, "w", 192_000, 8, "PCM_16") as file:
        block = np.zeros((192_000, 8), np.int16)
        block[::7] = 5_000
        for _ in range(20):
            file.write(block)
    assert abs(len(audio.load(path).decode()) - 20 * audio.RATE) < 200


def test_pieces_of_a_high_rate_give_what_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path / "x.wav", np.sin(np.arange(96_000 * 12) / 50).astype(np.float32) / 2, 96_000)
    whole = audio.load(path).decode()
    monkeypatch.setattr(audio, "VALUES", 96_000)
    monkeypatch.setattr(audio, "PIECE", 3)
    monkeypatch.setattr(audio, "BLOCK", 1_000)
    pieces = audio.load(path).decode()
    assert len(pieces) == len(whole)
    inside = np.abs(pieces - whole)[np.arange(len(whole)) % (3 * audio.RATE) > 200]
    assert np.median(inside) < 1e-4


ENCODED = {"flac": "FLAC", "ogg": "OGG", "mp3": "MP3", "aiff": "AIFF", "wav": "WAV"}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    import soundfile

    folder, found = tmp_path_factory.mktemp("sounds"), {}
    for ending, kind in ENCODED.items():
        if kind in soundfile.available_formats():
            found[ending] = save(folder / f"x.{ending}", np.sin(np.arange(16_000) / 5).astype(np.float32) / 2, format=kind).read_bytes()
    return found


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("ending", list(ENCODED))
def test_a_sound_that_is_cut_off(ending: str, tenths: int, sounds: dict[str, bytes], tmp_path: Path):
    if ending not in sounds:
        pytest.skip(f"this libsndfile does not write {ending}")
    path = tmp_path / f"x.{ending}"
    path.write_bytes(sounds[ending][: len(sounds[ending]) * tenths // 10])
    decode_safely("audio", path)


@HOSTILE
@given(
    ending=st.sampled_from(sorted(ENCODED)), changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_a_sound_with_other_bytes_in_its_header(ending: str, changes: list[tuple[int, int]], sounds: dict[str, bytes]):
    content = bytearray(sounds.get(ending, b"RIFF"))
    for place, value in changes:
        content[place % len(content)] = value
    decode_safely("audio", Stored("x", lambda: bytes(content)))


PAIRS = [
    (np.zeros(0, np.float32), 16_000),
    (np.full(16_000, np.nan, np.float32), 16_000),
    (np.ones(16_000, np.float32), float("nan")),
    (np.ones(16_000, np.float32), 0),
    (np.ones(16_000, np.float32), -16_000),
    (np.ones(16_000, np.float32), 10**12),
    (np.ones(16_000, np.float32), "16000"),
    (np.ones(16_000, np.float32), True),
    (np.ones((2, 2, 2), np.float32), 16_000),
    (np.ones(16_000, complex), 16_000),
    (np.array(["a"] * 16_000), 16_000),
    (np.array(1.0), 16_000),
    ([0.0] * 16_000, 16_000),
]


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_a_pair_that_is_no_sound(number: int):
    assert decode_safely("audio", PAIRS[number])


def test_a_name_that_is_no_text(tmp_path: Path):
    place = os.fsencode(tmp_path) + b"/\xff\xfe.wav"
    try:
        Path(os.fsdecode(place)).write_bytes(wav_header(16_000) + NOISE)
    except OSError:
        pytest.skip("this disk takes no such names")
    assert decode_safely("audio", Path(os.fsdecode(place))) == ""


# ---------------------------------------------------------------- texts

TEXTS = {
    "latin-1": ("süße Äpfel".encode("latin-1"), True),
    "windows-1252 quotes": (b"\x93quoted\x94", True),
    "utf-16 with a mark": ("süße Äpfel".encode("utf-16"), False),
    "utf-16 big-endian with a mark": (b"\xfe\xff" + "süße Äpfel".encode("utf-16-be"), False),
    "utf-16 without a mark": ("sweet apples".encode("utf-16-le"), True),
    "utf-16 that ends in half a character": ("süße Äpfel".encode("utf-16")[:-1], True),
    "utf-32": ("sweet apples".encode("utf-32"), True),
    "a mark and nothing": (b"\xef\xbb\xbf", True),
    "a utf-16 mark and nothing": (b"\xff\xfe", True),
    "a mark and words": (b"\xef\xbb\xbfwords", False),
    "zero bytes": (b"\0\0\0\0", True),
    "a zero byte among words": (b"some\0words", True),
    "white space": (b" \t\r\n\x0b\x0c" * 100, True),
    "white space of other writings": ("\u3000\u00a0\u2003\u2028".encode(), True),
    "a half of a pair": (b"\xed\xa0\x80", True),
    "too long a form": (b"\xc0\xaf", True),
    "beyond unicode": (b"\xf5\x80\x80\x80", True),
    "utf-8 that is cut off": ("ä".encode()[:1], True),
    "a png": (picture("PNG"), True),
    "marks upon marks": (("a" + "\u0301" * 100_000).encode(), False),
    "turned writing": ("\u202eabc\u2066".encode(), False),
    "one word of a million letters": (b"a" * 1_000_000, False),
    "a terminal's commands": (b"\x1b[2J\x1b]0;title\x07 words", False),
    "nothing": (b"", True),
}


@pytest.mark.parametrize("name", list(TEXTS))
def test_a_text_in_another_encoding_or_none(name: str, tmp_path: Path):
    content, refused = TEXTS[name]
    (tmp_path / "x.txt").write_bytes(content)
    assert bool(decode_safely("text", tmp_path / "x.txt")) == refused


@pytest.mark.parametrize(("size", "last"), [(300 << 20, b"x"), (FILE_LIMIT, "😀".encode())])
def test_a_text_of_hundreds_of_megabytes(size: int, last: bytes, tmp_path: Path):
    """Words, white space that takes no room on the disk would be zeros: so many letters are written once, and read."""
    path = tmp_path / "x.txt"
    block = b"x" * (1 << 20)
    with open(path, "wb") as file:
        for _ in range((size - len(last)) >> 20):
            file.write(block)
        file.write(last)
    assert decode_safely("text", path) == ""
    path.unlink()


def test_a_text_beyond_the_bound_is_not_read(tmp_path: Path):
    with open(tmp_path / "x.txt", "wb") as file:
        file.truncate(FILE_LIMIT + 1)
    for task in ("text", "image"):
        assert "more than the 512 MB" in decode_safely(task, tmp_path / "x.txt")


def test_zeros_that_take_no_room_on_the_disk(tmp_path: Path):
    with open(tmp_path / "x.txt", "wb") as file:
        file.truncate(300 << 20)
    assert "zero bytes" in decode_safely("text", tmp_path / "x.txt")


@HOSTILE
@given(
    words=st.text(alphabet="ab \n\t\u00e9\u3000😀", max_size=60),
    block=st.integers(1, 9),
    limit=st.integers(1, 12),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_blocks_of_a_text_give_what_the_whole_gives(words: str, block: int, limit: int, encoding: str):
    whole = words.strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", block)
        patch.setattr(text, "CHARACTERS", limit)
        loaded = text.load(Stored("x", lambda: words.encode(encoding) or b" "))
        if not whole:
            assert decode_safely("text", Stored("x", lambda: words.encode(encoding) or b" ")) == "the text is empty"
            return
        found = loaded.decode()
    assert found[:limit] == whole[:limit]
    assert (len(found) > limit) == (len(whole) > limit)


@pytest.mark.parametrize("task", list(MODALITIES))
@pytest.mark.parametrize("source", [None, 3, 1.5, b"bytes", {"a": 1}, object(), (), ("a",), [1, 2], Path(), Path("/"), Path("a\0b.jpg")])
def test_objects_that_are_no_example(task: str, source: Any):
    assert decode_safely(task, source)


@pytest.mark.parametrize("task", list(MODALITIES))
@pytest.mark.parametrize(
    "name", ["x" * 255, "x" * 256, "x/" * 2_500, "~", "~/x.jpg", "file:///etc/hostname", "http://localhost/x.jpg", "..", "\udcff"]
)
def test_paths_that_lead_nowhere(task: str, name: str):
    assert decode_safely(task, Path(name))


def test_a_wave_file_of_the_standard_library(tmp_path: Path):
    """What the headers above are made like is read when nothing is wrong with it."""
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(NOISE)
    assert decode_safely("audio", tmp_path / "x.wav") == ""
    (tmp_path / "y.wav").write_bytes(wav_header(16_000) + NOISE)
    assert decode_safely("audio", tmp_path / "y.wav") == ""
