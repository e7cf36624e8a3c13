"""Images: files that Pillow reads, PIL images, and arrays (height, width[, channels]) of uint8."""

from __future__ import annotations

import functools
import io
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from regraft.errors import ModelError, Unreadable
from regraft.modality.base import (
    Loaded,
    Modality,
    Prepared,
    Sketch,
    Stored,
    nothing_to_learn,
    read_file,
    read_stored,
    source_kind,
    stack_rows,
)
from regraft.workspace.store import content_id

if TYPE_CHECKING:
    from torch import Tensor

PIXEL_LIMIT = 178_000_000
"""Width x height; twice Pillow's own warning level. Pillow holds four bytes of a pixel: 0.7 GB, and 1.4 GB while it is converted."""

LARGE = 32_000_000
"""Pixels; images beyond it are decoded one at a time, however many workers there are."""

STRIP = 4_000_000
"""Pixels that are converted at a time where a conversion needs several copies."""

FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""What a file may hold, whatever its ending. Pillow knows others, and hands one of them (EPS) to another program that runs it."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what makes an image upright."""

_one_large = threading.Lock()

ENOUGH = 768
"""Pixels of the shorter side that a JPEG keeps when it is decoded at a half, a quarter or an eighth of its size. Three times what
networks usually take, so that resizing still has the last word (docs/decisions/0006)."""

TINY = 16
"""Side of the picture that the model without a network sees."""

SIDE_LIMIT = 4096
"""Pixels of a side of a network's input that are believed."""

_RESAMPLE = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}


def load(source: Any) -> Loaded:
    """A path, stored content, a PIL image, or a uint8 array. Objects are known by what they show, files by their bytes."""
    if isinstance(source, (str, Path, Stored)):
        content = read_stored(source) if isinstance(source, Stored) else read_file(Path(source))
        return Loaded(content_id(content), lambda: _named_faults(lambda: _decode(content)))
    if isinstance(source, Image.Image):
        image = _named_faults(lambda: _as_rgb(source))
    elif isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or (source.ndim == 3 and source.shape[2] not in (3, 4)):
            raise Unreadable(f"an array of {source.dtype} {source.shape}; expected uint8 (height, width) or (height, width, 3 or 4)")
        image = _named_faults(lambda: _as_rgb(Image.fromarray(source)))
    else:
        raise Unreadable(f"a {source_kind(source)} is not a path, a PIL image or an array")
    return Loaded(content_id(f"RGB {image.size} ".encode() + image.tobytes()), lambda: image)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow knows."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decode(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=_formats()) as image:
        size = image.size
        _check_size(size)
        scale = max((s for s in (2, 4, 8) if min(size) // s >= ENOUGH), default=1)
        if scale > 1 and image.format in ("JPEG", "MPO"):
            # libjpeg leaves out the fine coefficients: four times as fast for a photograph of 12 megapixels
            image.draft(None, (size[0] // scale, size[1] // scale))  # type: ignore[arg-type]
        decoded = _as_rgb(image)
        turned = (decoded.width > decoded.height) != (size[0] > size[1]) and size[0] != size[1]
        decoded.info = {"size": size[::-1] if turned else size}
        return decoded


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > PIXEL_LIMIT:
        raise Unreadable(f"{width} x {height} pixels are more than an image may have ({PIXEL_LIMIT:,})")
    if width * height == 0:
        raise Unreadable(f"an image of {width} x {height} pixels")


def _named_faults(make: Callable[[], Image.Image]) -> Image.Image:
    """The image, or Unreadable with a reason whatever Pillow raises."""
    try:
        return make()
    except Unreadable:
        raise
    except Image.UnidentifiedImageError:
        raise Unreadable("not an image that can be read (damaged, or another kind of file)") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more pixels than an image may have ({PIXEL_LIMIT:,})") from None
    except MemoryError:
        raise Unreadable("too large for the memory there is") from None
    except Exception as error:  # Pillow's plugins raise whatever a damaged file makes them raise
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Unreadable(f"damaged: {text}") from None


def _as_rgb(image: Image.Image) -> Image.Image:
    """Upright, without transparency (laid on white), 8 bits, three channels."""
    _check_size(image.size)
    if image.width * image.height <= LARGE:
        return _upright(_coloured(image), image)
    with _one_large:
        return _upright(_coloured(image), image)


def _upright(coloured: Image.Image, image: Image.Image) -> Image.Image:
    turn = _TURNS.get(image.getexif().get(0x0112, 1))
    return coloured if turn is None else coloured.transpose(turn)


def _coloured(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _by_strips(image, _on_white)
    return image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Where each strip begins, and the strip."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An image in RGB, converted strip by strip: copies of one strip are small."""
    out = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        out.paste(convert(strip), (0, top))
    return out


def _on_white(image: Image.Image) -> Image.Image:
    # Pillow turns premultiplied grey into nothing but plain grey
    coloured = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", coloured.size, (255, 255, 255, 255)), coloured).convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits to 8: by 16-bit range where it fits, else by its own range."""
    low, high = math.inf, -math.inf
    for _, strip in _strips(image):
        values = np.asarray(strip, dtype=np.float64)
        if not np.isfinite(values).all():
            raise Unreadable("holds values that are not numbers")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low >= 0 and 255 < high <= 65535:
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 255 and image.mode != "F":
        low, high = 0.0, 255.0
    span = (high - low) or 1.0

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip, dtype=np.float64)
        return Image.fromarray(np.clip((values - low) / span * 255 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")

    return _by_strips(image, convert)


def preparer(preprocessing: Mapping[str, Any], files: Mapping[str, Path]) -> Callable[[Image.Image], Prepared]:
    """Resize, then crop the middle: the evaluation transform of timm for `crop_mode` center and squash.

    `preprocessing`: size (pixels of the side, or [height, width]), crop_pct, interpolation, mean, std; and where they are not the
    usual ones crop_mode (center: the shorter side is resized, which is usual; squash: each side is), resize_to (the pixels that are
    resized to, in place of size / crop_pct; one number or [height, width]), crop_at (round: as torchvision does, which is usual;
    floor: as transformers does, where one pixel more stands on one side). Gives pixels (height, width, 3) uint8.
    """
    mode, at = preprocessing.get("crop_mode", "center"), preprocessing.get("crop_at", "round")
    faults = [] if mode in ("center", "squash") else [f"crop_mode {mode!r}: expected center or squash"]
    faults += [] if at in ("round", "floor") else [f"crop_at {at!r}: expected round or floor"]
    if preprocessing["interpolation"] not in _RESAMPLE:
        faults.append(f"interpolation {preprocessing['interpolation']!r}: expected {', '.join(_RESAMPLE)}")
    height, width = _two(preprocessing["size"])
    percent = float(preprocessing["crop_pct"])
    if not 0 < percent <= 1 or min(height, width) < 1 or max(height, width) > SIDE_LIMIT:
        faults.append(f"size {preprocessing['size']} with crop_pct {percent}: expected 1 to {SIDE_LIMIT:,} pixels, and at most 1")
    else:
        to = _two(preprocessing.get("resize_to", [math.floor(side / percent) for side in (height, width)]))
        if mode == "center" and to[0] != to[1]:
            faults.append(f"crop_mode center with size {preprocessing['size']}: expected one number, or squash")
        if to[0] < height or to[1] < width or max(to) > 2 * SIDE_LIMIT:
            faults.append(f"resize_to {to}: expected at least the size, {(height, width)}")
    if faults:
        raise ModelError("the network's pictures cannot be prepared as it asks", faults=faults, move="pip install --upgrade regraft")
    resample = _RESAMPLE[preprocessing["interpolation"]]

    def prepare(image: Image.Image) -> Prepared:
        if mode == "squash":
            image = image.resize((to[1], to[0]), resample)
        else:
            image = _shorter_side(image, to[0], resample)
        over = image.width - width, image.height - height
        left, top = (round(over[0] / 2), round(over[1] / 2)) if at == "round" else (over[0] // 2, over[1] // 2)
        return Prepared([{"pixels": np.asarray(image.crop((left, top, left + width, top + height)))}])

    return prepare


def in_words(preprocessing: Mapping[str, Any], files: Mapping[str, str]) -> list[str]:
    """What `load`, `preparer` and `collate` do."""
    height, width = _two(preprocessing["size"])
    to = _two(preprocessing.get("resize_to", [math.floor(side / float(preprocessing["crop_pct"])) for side in (height, width)]))
    how = f"{preprocessing['interpolation']} as Pillow does, which filters when it makes an image smaller"
    resized = f"resize so that the shorter side has {to[0]} pixels and the longer one in proportion, rounded down; {how}"
    if preprocessing.get("crop_mode") == "squash":
        resized = f"resize to {to[0]} x {to[1]} pixels (height x width), each side by itself; {how}"
    at = "down" if preprocessing.get("crop_at") == "floor" else "to the nearest whole number, of two equally near to the even one"
    return [
        "decode to RGB with 8 bits a channel, upright as EXIF says; what is transparent is laid on white. (regraft lets libjpeg decode a "
        f"JPEG at a half, a quarter or an eighth of its size where the shorter side keeps {ENOUGH} pixels)",
        resized,
        f"cut out {height} x {width} pixels (height x width) of the middle; half of what is over goes left and above, rounded {at}",
        f"divide by 255, take the mean {preprocessing['mean']} away, divide by {preprocessing['std']} (red, green, blue), in float32",
        f"x is (batch, 3, {height}, {width}): channel, row, column",
    ]


def made_up() -> list[np.ndarray]:
    """Noise on a slope of grey, uint8 (height, width, 3)."""
    rng = np.random.default_rng(0)
    sizes = [(64, 48), (48, 200), (224, 224), (480, 640), (301, 299), (600, 450), (96, 96), (33, 60)]
    slopes = [np.linspace(0, 160, height)[:, None, None] + np.zeros((height, width, 3)) for height, width in sizes]
    return [(slope + rng.integers(0, 96, slope.shape)).astype(np.uint8) for slope in slopes]


def _two(sides: Any) -> tuple[int, int]:
    """(height, width) of one number for both, or of a pair."""
    return (int(sides[0]), int(sides[1])) if isinstance(sides, (list, tuple)) else (int(sides), int(sides))


def _shorter_side(image: Image.Image, shorter: int, resample: Image.Resampling) -> Image.Image:
    """The image resized so that its shorter side has so many pixels."""
    width, height = image.size
    longer = int(shorter * max(width, height) / min(width, height))
    if longer > 64 * shorter:
        # a strip one pixel wide would grow without bound; the middle is what the crop keeps anyway
        keep = 64 * min(width, height)
        left, top = max(0, (width - keep) // 2), max(0, (height - keep) // 2)
        image = image.crop((left, top, min(width, left + keep), min(height, top + keep)))
        width, height = image.size
        longer = int(shorter * max(width, height) / min(width, height))
    return image.resize((shorter, longer) if width <= height else (longer, shorter), resample)


def collate(windows: Sequence[Mapping[str, np.ndarray]], preprocessing: Mapping[str, Any]) -> dict[str, Tensor]:
    """Pixels to one tensor x (n, 3, height, width) float32, normalised, channels last in memory."""
    import torch

    pixels = torch.from_numpy(np.stack([w["pixels"] for w in windows])).to(torch.float32)
    mean = torch.tensor(preprocessing["mean"], dtype=torch.float32)
    std = torch.tensor(preprocessing["std"], dtype=torch.float32)
    return {"x": pixels.div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)}


def measure(image: Image.Image) -> dict[str, float]:
    """Width and height in pixels, as the file has them, upright."""
    width, height = image.info.get("size", image.size)
    return {"width, pixels": width, "height, pixels": height}


def summary(image: Image.Image) -> np.ndarray:
    """The image squeezed to 16 x 16 pixels, as a row of 768 values between 0 and 1."""
    return np.asarray(image.resize((TINY, TINY), Image.Resampling.BOX), dtype=np.float32).reshape(-1) / 255


MARGINS = (0.0, 0.03, 0.06, 0.1)
"""Parts of each side that one picture may have lost against the other."""

PLAIN = 4e-3
"""Deviation from its mean colour below which a picture counts as one colour; 1 is from black to white."""


def likeness(image: Image.Image, other: Image.Image) -> float:
    """The highest correlation of the two at 16 x 16 pixels, also mirrored, and with up to a tenth of each side cut off one of them.

    Brightness, contrast and tint do not count. Two pictures of one colour each are alike as far as these colours are.
    """
    small = [_by_margin(i) for i in (image, other)]
    one, two = (rows - rows.mean((1, 2), keepdims=True) for rows in small)
    plain = [float(rows[0].std()) < PLAIN for rows in (one, two)]
    if any(plain):
        return float(max(0.0, 1 - 4 * np.abs(small[0][0] - small[1][0]).mean())) if all(plain) else 0.0
    mirrored = _row_of_one(two[:, :, ::-1])
    one, two = _row_of_one(one), _row_of_one(two)
    found = [one[:1] @ two.T, one @ two[:1].T, one[:1] @ mirrored.T, one @ mirrored[:1].T]
    return float(min(1.0, max(0.0, *(products.max() for products in found))))


def _by_margin(image: Image.Image) -> np.ndarray:
    """The picture at 16 x 16 pixels (margins, 16, 16, 3), without such a part of each side."""
    width, height = image.size
    if min(width, height) > 8 * TINY:
        image = image.resize((8 * TINY, 8 * TINY), Image.Resampling.BOX)
        width = height = 8 * TINY
    boxes = [(m * width, m * height, (1 - m) * width, (1 - m) * height) for m in MARGINS]
    small = [image.resize((TINY, TINY), Image.Resampling.BOX, box=box) for box in boxes]
    return np.stack([np.asarray(s, np.float32) / 255 for s in small])


def _row_of_one(pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, ...) as rows of length one."""
    rows = pictures.reshape(len(pictures), -1)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


SKETCHED = 240
"""Pixels of the longer side of a sketch."""


def sketch(image: Image.Image) -> Sketch:
    """The whole image, small."""
    small = image.copy()
    small.thumbnail((SKETCHED, SKETCHED))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return Sketch("jpeg", content.getvalue())


MODALITY = Modality(
    name="image",
    noun="image",
    nouns="images",
    extensions=frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}),
    without_network=f"{TINY} x {TINY} pixels",
    chunk=4,
    settings=("size", "crop_pct", "interpolation", "mean", "std"),
    load=load,
    preparer=preparer,
    collate=collate,
    blank=lambda preprocessing: {"pixels": np.zeros((*_two(preprocessing["size"]), 3), np.uint8)},
    made_up=made_up,
    in_words=in_words,
    measure=measure,
    summary=summary,
    summary_version=f"pixels-{TINY}-2",
    learn_vectoriser=nothing_to_learn,
    vectorise=stack_rows,
    likeness=likeness,
    sketch=sketch,
)
