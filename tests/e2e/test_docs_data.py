"""docs/data.md: every example on the page is run, and prints what the page shows.

How the page is read. Each heading begins in an empty folder. A block ```files lists what lies there, one line a file or a row of
files (`MAKERS` says how each is made). A block of any kind under a line that is only a file's name and a colon, such as
`reviews.csv`:, is that file. ```console holds commands after `$ ` and what they print, standard error before standard output.
```python holds a session of Python. A line `...` stands for any lines. Seconds, bytes, megabytes and, in what `fit`, `predict` and
`evaluate` print, fractions differ from machine to machine: any figure will do there.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft.data import base, columns
from regraft.data.formats import endings
from regraft.errors import Unreadable
from regraft.jobs.frozen import choose_network
from regraft.modality import MODALITIES, audio, image, text

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.weights


# ---------------------------------------------------------------- the page in pieces


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that the line before it names, its text."""

    language: str
    file: str
    text: str


def sections(page: str = PAGE) -> Iterator[tuple[str, str]]:
    """Each heading with the text below it, up to the next one."""
    pieces = re.split(r"^(##+ .+)$", re.sub(r"^```.*?^```", _masked, page, flags=re.MULTILINE | re.DOTALL), flags=re.MULTILINE)
    for heading, body in zip(pieces[1::2], pieces[2::2], strict=True):
        yield heading.lstrip("# "), body.replace("\N{SYMBOL FOR START OF HEADING}", "#")


def _masked(found: re.Match[str]) -> str:
    return found[0].replace("#", "\N{SYMBOL FOR START OF HEADING}")


def blocks(body: str) -> list[Block]:
    """The fenced blocks of a section, in order."""
    found = re.finditer(r"(?:^`([^`\n]+)`:\n\n)?^```(\w*)\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
    return [Block(m[2], m[1] or "", m[3]) for m in found]


SECTIONS = {heading: blocks(body) for heading, body in sections()}


NEEDS = {
    "Parquet": ("pandas", "pyarrow"),
    "Excel": ("pandas", "openpyxl"),
    "Data sets of the library `datasets`": ("datasets",),
    "A DataFrame": ("pandas",),
}
"""Libraries that the examples under a heading use."""


# ---------------------------------------------------------------- what lies on disk


def make_image(path: Path, number: int, size: tuple[int, int] = (40, 30)) -> None:
    """Noise, different for each name and number."""
    rng = np.random.default_rng([number, *path.parent.as_posix().encode()])
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)


def make_cut_image(path: Path, number: int) -> None:
    """The first half of a picture's bytes."""
    make_image(path, number)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_sound(path: Path, number: int, seconds: float = 1) -> None:
    """A tone with noise: high or low by its folder's name."""
    import soundfile

    rng = np.random.default_rng([number, *path.parent.as_posix().encode()])
    time = np.arange(round(16_000 * seconds)) / 16_000
    pitch = 220 if path.parent.name == "low" else 1400
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * pitch * time) + rng.normal(0, 0.02, len(time)), 16_000)


def make_text(path: Path, number: int) -> None:
    """A sentence that no other file has."""
    path.write_text(f"a few words on {path.parent.name}, number {number}\n", encoding="utf-8")


def make_copy(path: Path, of: str) -> None:
    """The same bytes."""
    path.write_bytes(Path(of).read_bytes())


MAKERS = {
    r"images?": make_image,
    r"images? of (\d+) x (\d+) pixels": lambda path, number, w, h: make_image(path, number, (int(w), int(h))),
    r"image, cut off": make_cut_image,
    r"sounds?": make_sound,
    r"sounds? of (\d+) seconds": lambda path, number, seconds: make_sound(path, number, float(seconds)),
    r"texts?": make_text,
    r"copy of (\S+)": lambda path, number, of: make_copy(path, of),
    r"empty": lambda path, number: path.write_bytes(b""),
    r"([\d,]+) words": lambda path, number, count: path.write_text("word " * int(count.replace(",", "")), encoding="utf-8"),
    r"text in Latin-1": lambda path, number: path.write_bytes("caf\xe9".encode("latin-1")),
    r"silence": lambda path, number: _silence(path),
}
"""What a line of ```files may say a file is -> what makes it, from its path, its number in its row, and what was said."""


def _silence(path: Path) -> None:
    import soundfile

    soundfile.write(path, np.zeros(16_000), 16_000)


def make_files(listing: str) -> None:
    """What a block ```files lists: `folder/1.png to 6.png   images`."""
    for line in listing.splitlines():
        names, said = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        first, _, last = names.partition(" to ")
        rows = [(Path(first), 0)]
        if last:
            low, high = (int(Path(n).stem) for n in (first, last))
            rows = [(Path(first).parent / f"{k}{Path(last).suffix}", k) for k in range(low, high + 1)]
        (make, given) = next(
            (make, m.groups())
            for pattern, make in MAKERS.items()
            if (m := re.fullmatch(pattern, said.removeprefix("an ").removeprefix("a ")))
        )
        for path, number in rows:
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path, number, *given)


# ---------------------------------------------------------------- commands and what they print


def turns(body: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a ```console block with the lines under it; a backslash joins lines."""
    for piece in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        line, _, shown = piece.replace("\\\n", " ").partition("\n")
        yield line, shown.rstrip("\n").split("\n") if shown.strip() else []


SECONDS = r"(?<=, )\d[\d,]*(?:\.\d+)? (?:s|min)\b"
BYTES = r"\b\d[\d,]* (?:MB of memory|bytes not processed)"
FRACTION = r"(?<![\d.])[+-]?\d+\.\d+(?:e[+-]?\d+)?"
"""What differs from machine to machine; a fraction may come out whole elsewhere."""


def pattern_of(line: str, varying: list[str]) -> str:
    """A regular expression for a line that a page shows: any figure where figures vary."""
    found, at = "", 0
    for match in re.finditer("|".join(varying), line):
        unit = match[0].lstrip("+-.0123456789,e")
        found += (
            re.escape(line[at : match.start()])
            + r"[+-]?[\d.,]+(?:e[+-]?\d+)?"
            + ("(?: s| min)" if unit in (" s", " min") else re.escape(unit))
        )
        at = match.end()
    return found + re.escape(line[at:]) + r"\n"


def prints(shown: list[str], printed: str, *, fractions: bool) -> bool:
    """Whether a command printed what the page shows."""
    varying = [SECONDS, BYTES]
    if fractions:
        # tables are as wide as their figures
        varying.append(FRACTION)
        printed = re.sub(r"(?<=\S) {2,}", "  ", printed)
        shown = [re.sub(r"(?<=\S) {2,}", "  ", line) for line in shown]
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else pattern_of(line, varying) for line in shown)
    return re.fullmatch(pattern, printed) is not None


def run_console(body: str, command, at: str) -> None:
    """Run the commands of a block and compare; what ends with `error:` must have an exit code that says so."""
    code = 0
    for line, shown in turns(body):
        program, *words = shlex.split(line)
        if program == "echo":
            assert (words, shown) == (["$?"], [str(code)]), f"{at}: the exit code is {code}"
            continue
        assert program == "regraft", line
        answer = command(*words)
        code = answer.code
        failed = "error: " in "\n".join(shown) or "cannot read " in "\n".join(shown)
        assert (code != 0) == failed, f"{at}: {line} ended with {code}\n{answer.err}{answer.out}"
        printed = "".join(f"{one.rstrip()}\n" for one in (answer.err + answer.out).splitlines())
        varying = words[0] in ("fit", "predict", "evaluate")
        assert prints(shown, printed, fractions=varying), f"{at}: `{line}` prints\n{printed}"


def run_python(body: str, names: dict[str, object], at: str) -> None:
    """Run a session; `...` in what it shows stands for anything."""
    test = doctest.DocTestParser().get_doctest(body, names, at, "docs/data.md", 0)
    assert test.examples, f"{at}: no >>> in a block of Python"
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failed = runner.run(test, out=told.append, clear_globs=False).failed
    names.update(test.globs)
    assert not failed, "".join(told)


@pytest.mark.parametrize("heading", [h for h, found in SECTIONS.items() if found])
def test_examples(heading, command):
    for library in NEEDS.get(heading, ()):
        pytest.importorskip(library)
    names: dict[str, object] = {}
    for block in SECTIONS[heading]:
        if block.language == "files":
            make_files(block.text)
        elif block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            run_console(block.text, command, heading)
        else:
            assert block.language == "python", f"{heading}: a block that nothing runs"
            run_python(block.text, names, heading)


# ---------------------------------------------------------------- the page as a whole


def test_every_heading_has_a_name_of_its_own():
    assert NEEDS.keys() <= SECTIONS.keys()
    headings = re.findall(r"^##+ (.+)$", re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    assert len(headings) == len(set(headings)) == len(SECTIONS)


def test_every_block_is_run():
    assert sum(map(len, SECTIONS.values())) == PAGE.count("\n```") / 2
    known = {"files", "console", "python"}
    assert all(block.file or block.language in known for found in SECTIONS.values() for block in found)


def test_a_wrong_line_is_noticed(command):
    with pytest.raises(AssertionError, match="prints"):
        make_files("photos/a/1.png to 2.png   images\nphotos/b/1.png to 2.png   images")
        run_console("$ regraft inspect photos\n...\na          3\n...\n", command, "")


def test_links_on_the_page_lead_to_headings():
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in SECTIONS}
    for target in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert target in slugs


@pytest.mark.parametrize("option", ["input", "label", "target", "separator", "group", "split", "weight", "test", "balance", "strict"])
def test_every_option_on_data_has_its_place(option):
    assert any(f"--{option}" in heading.split() for heading in SECTIONS)


# ---------------------------------------------------------------- figures and names that stand in the code


def rows_of(heading: str, columns: int) -> list[list[str]]:
    """The rows of the table with so many columns under a heading, without its header."""
    body = dict(sections())[heading]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines() if line.startswith("|")]
    return [row for row in rows if len(row) == columns][1:]


LIMITS = {row[2].strip("`"): row[1] for row in rows_of("Limits", 3)}


def value_of(said: str) -> float | tuple[float, ...]:
    """`512 MB` in bytes, `100 to 768,000` as two numbers, other units as they are."""
    numbers = [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:e\d+)?", said)]
    if " MB" in said:
        numbers = [n * 2**20 for n in numbers]
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_what_the_code_says(name):
    module, _, constant = name.rpartition(".")
    assert value_of(LIMITS[name]) == getattr(importlib.import_module(module), constant)


def test_no_limit_is_missing():
    others = ("LONGEST", "CHARACTERS", "ITEMS", "LARGEST", "RATES")
    found = set()
    for room in ("data", "modality", "targets"):
        for path in (ROOT / "src/regraft" / room).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [t.id for t in node.targets if isinstance(t, ast.Name)] if isinstance(node, ast.Assign) else []
                found |= {f"{module}.{name}" for name in names if name.endswith("LIMIT") or name in others}
    assert found <= LIMITS.keys()


def test_endings():
    known = {f"{task}s": set(modality.extensions) for task, modality in MODALITIES.items()}
    known = {"images": known["images"], "texts": known["texts"], "sounds": known["audios"], "tables": set(endings())}
    assert {row[0]: set(re.findall(r"`(\.\w+)`", row[1])) for row in rows_of("What is in the files", 3)} == known


def test_names_of_columns_and_splits():
    lists = re.findall(r"^((?:`\w+`,?\s)+)$", dict(sections())["Which column is what"] + "\n", re.MULTILINE)
    said = [tuple(re.findall(r"\w+", one)) for one in lists]
    assert said == [columns.PATH_NAMES, columns.TEXT_NAMES, columns.LABEL_NAMES, columns.SPLIT_NAMES]
    before = dict(sections())["Folders for training and testing"].split("```", 1)[0]
    assert set(re.findall(r"`(\w+)`", before)) == set(base.SPLITS)


def test_what_networks_take():
    body = {heading: " ".join(body.split()) for heading, body in sections()}
    pixels = choose_network(None, "image").preprocessing
    assert f"to {int(pixels['size'] / pixels['crop_pct'])} pixels" in body["Images"]
    assert f"{pixels['size']} x {pixels['size']}" in body["Images"]
    assert f"up to {choose_network(None, 'text').preprocessing['max_tokens']} tokens" in body["Texts"]


# ---------------------------------------------------------------- what becomes of images, sounds and texts


def decoded(picture: Image.Image, kind: str, **more: object) -> Image.Image:
    """A picture written as a file of some format and read again."""
    content = io.BytesIO()
    picture.save(content, kind, **more)
    Path("a.file").write_bytes(content.getvalue())
    return image.load(Path("a.file")).decode()


def grey(*values: float, kind: type) -> Image.Image:
    return Image.fromarray(np.array([values], kind))


def corner(picture: Image.Image) -> tuple[int, ...]:
    return picture.getpixel((0, 0))


def turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif).size == (20, 40)


def transparent() -> None:
    assert corner(decoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG")) == (255, 255, 255)
    assert corner(decoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG")) == (255, 127, 127)


def without_colour() -> None:
    for mode in ("L", "1", "P"):
        assert decoded(Image.new(mode, (4, 4)), "PNG").mode == "RGB"


def deep_colour() -> None:
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    lines = (b"\0" + struct.pack(">6H", *(65535, 32768, 0) * 2)) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    Path("deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    assert corner(image.load(Path("deep.png")).decode()) == (255, 128, 0)


def deep_grey() -> None:
    found = decoded(grey(0, 32768, 65535, kind=np.uint16), "PNG")
    assert [found.getpixel((k, 0))[0] for k in range(3)] == [0, 128, 255]
    assert corner(decoded(grey(200, 10, kind=np.uint16), "PNG")) == (200, 200, 200)


def fractions() -> None:
    found = decoded(grey(-2, 0, 2, kind=np.float32), "TIFF")
    assert [found.getpixel((k, 0))[0] for k in range(3)] == [0, 128, 255]


def cmyk() -> None:
    assert corner(decoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")) == (255, 0, 0)


def profile() -> None:
    from PIL import ImageCms

    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert corner(decoded(Image.new("RGB", (4, 4), (200, 100, 50)), "PNG", icc_profile=made)) == (200, 100, 50)


def frames() -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "TIFF"):
        assert corner(decoded(red, kind, save_all=True, append_images=[blue])) == (255, 0, 0)


def large_jpeg() -> None:
    for given, kept in (((1535, 2000), (1535, 2000)), ((1536, 2000), (768, 1000)), ((3072, 3200), (768, 800)), ((6144, 6400), (768, 800))):
        found = decoded(Image.new("RGB", given), "JPEG")
        assert found.size == kept
        assert tuple(image.measure(found).values()) == given
    assert decoded(Image.new("RGB", (1536, 2000)), "PNG").size == (1536, 2000)


def another_ending() -> None:
    Image.new("RGB", (4, 4), "red").save("a.png")
    Path("a.png").rename("a.jpg")
    assert corner(image.load(Path("a.jpg")).decode()) == (255, 0, 0)


IMAGES: dict[str, Callable[[], None]] = {
    "turned by its EXIF tag": turned,
    "with transparency": transparent,
    "grey, black and white, or with a palette": without_colour,
    "in colour with 16 bits": deep_colour,
    "grey with 16 bits": deep_grey,
    "of fractions (float TIFF)": fractions,
    "CMYK": cmyk,
    "with a colour profile": profile,
    "with several frames or pages": frames,
    "a JPEG of 1,536 pixels or more on its shorter side": large_jpeg,
    "of another format than its ending says": another_ending,
}


def test_the_table_of_images_is_known():
    assert [row[0] for row in rows_of("Images", 2)] == list(IMAGES)


@pytest.mark.parametrize("name", IMAGES)
def test_what_becomes_of_an_image(name):
    IMAGES[name]()


def test_what_becomes_of_a_sound():
    left, right = np.full(8_000, 0.5, np.float32), np.full(8_000, 0.1, np.float32)
    assert np.allclose(audio.load((np.stack([left, right], 1), 16_000)).decode(), 0.3)
    assert len(audio.load((left, 8_000)).decode()) == 16_000
    for samples, rate in ((left[:159], 16_000), (left * 1e-6, 16_000), (left, 99), (left, 768_001)):
        with pytest.raises(Unreadable):
            audio.load((samples, rate)).decode()
    assert len(audio.load((left[:160], 16_000)).decode()) == 160


def test_pieces_of_a_long_sound(make_wav):
    # each second has a loudness of its own: the first, the last, and 60 pieces that begin evenly between
    loud = np.repeat(np.arange(1, 1191, dtype=np.float32) / 1190, 1_000)
    found = audio.load(make_wav(Path("long.wav"), loud, 1_000)).decode()
    assert len(found) == 600 * 16_000
    begins = np.round(found.reshape(60, 160_000)[:, 8_000] * 1190)
    assert begins.tolist() == list(range(1, 1191, 20))


def test_what_becomes_of_a_text():
    for written in ("caf\u00e9".encode(), "\ufeffcaf\u00e9".encode(), " caf\u00e9\n".encode("utf-16")):
        Path("a.txt").write_bytes(written)
        assert text.load(Path("a.txt")).decode() == "caf\u00e9"


# ---------------------------------------------------------------- rules that the page states in words


def test_an_empty_cell_and_several_labels(command):
    Path("tags.csv").write_text("text,tags\na,x|y\nb,x\nc,y|z\nd,z\ne,\n", encoding="utf-8")
    assert command("inspect", "tags.csv", "--json").json["n"]["train"] == 5
    assert command("inspect", "tags.csv", "--target", "multilabel", "--json").json["n"]["train"] == 5
    assert command("inspect", "tags.csv", "--target", "class", "--json").code == 1


def test_columns_that_say_more_than_yes_and_no(command):
    Path("a.csv").write_text("text,wet,colour\na,yes,red\nb,no,blue\nc,true,red\nd,,\n", encoding="utf-8")
    assert command("inspect", "a.csv", "--label", "wet,colour", "--json").json["labels"] == ["colour=blue", "colour=red", "wet"]


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ([k + 0.5 for k in range(21)], "number"),
        ([k // 2 + 0.5 for k in range(40)], "class"),
        (list(range(101)), "number"),
        ([k // 2 for k in range(200)], "class"),
        ([k // 12 for k in range(1_452)], "class"),
    ],
)
def test_when_a_column_is_taken_as_numbers(command, values, target):
    Path("a.csv").write_text("text,value\n" + "".join(f"words {k},{v}\n" for k, v in enumerate(values)), encoding="utf-8")
    assert command("inspect", "a.csv", "--json").json["target"] == target


def test_a_comma_in_a_name_of_a_place_is_no_separator(command):
    rows = "".join(f"words {k},{place}\n" for k, place in enumerate(['"New York, NY"', '"Boston, MA"', '"Austin, TX"'] * 2))
    Path("a.csv").write_text("text,place\n" + rows, encoding="utf-8")
    assert command("inspect", "a.csv", "--json").json["labels"] == ["Austin, TX", "Boston, MA", "New York, NY"]


def test_a_folder_with_a_table_and_folders(command):
    make_files("birds/pictures/1.png to 2.png   images")
    Path("birds/list.csv").write_text("path,label\npictures/1.png,a\npictures/2.png,a\n", encoding="utf-8")
    assert "try: birds/list.csv in place of the folder" in command("inspect", "birds").err
    make_files("flat/1.png to 4.png   images")
    Path("flat/list.csv").write_text("path,label\n1.png,a\n2.png,a\n3.png,b\n4.png,b\n", encoding="utf-8")
    assert command("inspect", "flat", "--json").json["labels"] == ["a", "b"]


def test_absolute_paths_are_read(command):
    make_files("there/1.png to 4.png   images")
    Path("here").mkdir()
    rows = "".join(f"{Path('there', f'{k}.png').absolute()},{'ab'[k % 2]}\n" for k in range(1, 5))
    Path("here/list.csv").write_text("path,label\n" + rows, encoding="utf-8")
    assert command("inspect", "here/list.csv", "--json").json["n"]["train"] == 4


def test_features_stop_when_more_than_half_is_broken(command):
    make_files("photos/a/1.png   image\nphotos/a/2.png to 4.png   texts")
    answer = command("features", "photos", "--out", "a.npz")
    assert (answer.code, "more than half" in answer.err) == (1, True)


def test_strings_in_a_list():
    import regraft

    make_files("notes/1.txt to 4.txt   texts")
    kinds = [(Path("notes", f"{k}.txt"), "ab"[k % 2]) for k in range(1, 5)]
    assert regraft.inspect(kinds)["sizes"]["words"]["median"] == 7
    assert regraft.inspect([(str(path), kind) for path, kind in kinds])["sizes"]["words"]["median"] == 1
    texts = [("a fine day", "a"), ("see holiday.jpg", "b"), ("rain", "a"), ("snow", "b")]
    assert regraft.inspect(texts)["task"] == "text"
    assert regraft.inspect(texts, task="text")["n"]["train"] == 4
