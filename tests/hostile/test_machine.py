"""A full disk, little memory, files that change or vanish during the pass, and a damaged store."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcomes import Tiny, check_error, check_left_out, open_safely
from PIL import Image

from regraft.data.formats import read_table
from regraft.errors import DataError, RegraftError, WriteError
from regraft.features.extract import extract
from regraft.modality import MODALITIES, audio
from regraft.modality.base import Stored
from regraft.workspace.bundle import write_bundle
from regraft.workspace.files import read_json, write_json
from regraft.workspace.runs import list_runs, new_run, read_run
from regraft.workspace.store import Space, Store, content_id

SETTINGS = {"size": 16, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}


def images(folder: Path, count: int = 40) -> list[Path]:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (12, 12), (i * 5, 80, 9)).save(folder / f"{i:03}.png")
    return sorted(folder.iterdir())


def passed(sources: list[Any], space: Space | None = None, task: str = "image", **more: Any) -> Any:
    modality = MODALITIES[task]
    prepare = modality.preparer(SETTINGS if task == "image" else {"window_seconds": 30}, {})
    found = extract([str(s) for s in sources], sources, modality, Tiny, prepare, Space(None, {}) if space is None else space, **more)
    assert len(found.kept) + len(found.left_out) == len(sources)
    check_left_out(found.left_out)
    return found


# ---------------------------------------------------------------- files that change


def test_files_that_vanish_between_listing_and_reading(tmp_path: Path):
    paths = images(tmp_path / "f")
    for path in paths[::4]:
        path.unlink()
    found = passed(paths)
    assert {item.reason for item in found.left_out} == {"there is no such file"} and len(found.left_out) == 10


def test_files_that_are_cut_off_or_grow_between_listing_and_reading(tmp_path: Path):
    paths = images(tmp_path / "f")
    for path in paths[::4]:
        path.write_bytes(path.read_bytes()[:30])
    for path in paths[1::4]:
        path.write_bytes(path.read_bytes() + b"more" * 1_000)
    paths[2].write_bytes(b"")
    assert len(passed(paths).left_out) == 11


def test_files_that_vanish_during_the_pass(tmp_path: Path):
    paths = images(tmp_path / "f", 400)

    def remove() -> None:
        for path in reversed(paths[200:]):
            path.unlink()

    remover = threading.Thread(target=remove)
    remover.start()
    found = passed(paths)
    remover.join()
    assert len(found.kept) >= 200


def test_a_folder_that_becomes_a_file_during_the_pass(tmp_path: Path):
    paths = images(tmp_path / "f")
    shutil.rmtree(tmp_path / "f")
    (tmp_path / "f").write_text("x")
    assert len(passed(paths).left_out) == 40


def wav(seed: int) -> bytes:
    import wave

    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(seed).integers(-9_000, 9_000, 16_000).astype("<i2").tobytes())
    return out.getvalue()


@pytest.mark.parametrize("change", ["other", "shorter", "longer", "gone", "replaced", "a folder"])
def test_a_sound_that_changes_after_it_was_hashed(change: str, tmp_path: Path):
    """Its features would be kept under the hash of what it was."""
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    path = tmp_path / "x.wav"
    path.write_bytes(wav(0))
    os.utime(path, ns=(10**18, 10**18))
    loaded = audio.load(path)
    if change in ("gone", "a folder"):
        path.unlink()
        if change == "a folder":
            path.mkdir()
    elif change == "replaced":
        (tmp_path / "y").write_bytes(wav(1))
        os.utime(tmp_path / "y", ns=(10**18, 10**18))
        os.replace(tmp_path / "y", path)
    else:
        path.write_bytes({"other": wav(1), "shorter": wav(0)[:9_000], "longer": wav(0) * 2}[change])
    with pytest.raises(Exception, match="it changed while it was read"):
        loaded.decode()
    if change in ("other", "replaced"):
        assert len(audio.load(path).decode()) == 16_000


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "t.xlsx"])
@pytest.mark.parametrize("harm", ["gone", "a folder", "disk fails"])
def test_a_table_that_vanishes_before_it_is_read(name: str, harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / name
    if harm == "a folder":
        path.mkdir()
    elif harm == "disk fails":
        path.write_bytes(b"text,label\na,b\n")

        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(errno.EIO, "Input/output error", str(path))

        monkeypatch.setattr(Path, "read_bytes", fail)
        monkeypatch.setattr(builtins, "open", fail)
    with pytest.raises(RegraftError) as caught:
        read_table(path)
    check_error(caught.value)


@pytest.mark.parametrize("harm", ["shorter", "gone", "replaced"])
def test_a_saved_data_set_that_changes_during_the_pass(harm: str, tmp_path: Path):
    """Its rows are read from the open file when they are needed: beyond the end of it, the system would end the process."""
    datasets = pytest.importorskip("datasets")
    content = images(tmp_path / "f", 1)[0].read_bytes() + bytes(50_000)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = {"image": [{"bytes": content + bytes([i]), "path": None} for i in range(20)], "label": ["a", "b"] * 10}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "s")
    code = (
        "import sys, json, os\n"
        "from pathlib import Path\n"
        "sys.path[:0] = json.loads(sys.argv[2])\n"
        "from outcomes import open_safely, pass_over\n"
        "found = open_safely(Path(sys.argv[1]), laid=20)\n"
        "(arrow,) = Path(sys.argv[1]).glob('*.arrow')\n"
        "if sys.argv[3] == 'shorter': os.truncate(arrow, 5_000)\n"
        "else: arrow.unlink()\n"
        "if sys.argv[3] == 'replaced': arrow.write_bytes(b'x')\n"
        "print(len(pass_over('image', found.examples)))\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "s"), json.dumps(sys.path), harm]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.split() == ["20"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), MemoryError(), RuntimeError("strange\n\x1b[31m"), KeyError("k"), RecursionError("deep")],
)
@pytest.mark.parametrize("task", ["image", "text", "audio"])
def test_content_that_fails_while_it_is_read(task: str, error: Exception):
    def fail() -> bytes:
        raise error

    def read() -> bytes:
        return b"words" if task == "text" else b""

    from outcomes import decode_safely

    assert decode_safely(task, Stored("row 3", fail))
    assert bool(decode_safely(task, Stored("row 3", read))) == (task != "text")


def test_a_network_that_gives_no_numbers(tmp_path: Path):
    class Broken(Tiny):
        def __call__(self, windows: Any) -> np.ndarray:
            return np.full((len(windows), 4), np.nan, np.float32)

    modality = MODALITIES["image"]
    paths = images(tmp_path / "f", 5)
    found = extract([p.name for p in paths], paths, modality, Broken, modality.preparer(SETTINGS, {}), Space(None, {}))
    assert [item.reason for item in found.left_out] == ["the network's features for it are not finite numbers"] * 5


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KB, where the rights to mount one are there."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root mounts a disk in memory; without one the same is tested by errors that are made up")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a disk in memory cannot be mounted here; without one the same is tested by errors that are made up")
    try:
        yield place
    finally:
        os.chdir(tmp_path)
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> None:
    free = os.statvfs(place)
    with open(place / "filler", "wb") as file:
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - leave)))


def test_a_store_on_a_full_disk_is_no_error(small_disk: Path, tmp_path: Path):
    space = Space(small_disk / "space", {"maker": 1})
    paths = images(tmp_path / "f")
    fill(small_disk)
    found = passed(paths, space)
    assert len(found.kept) == 40 and not list(small_disk.rglob("*.part"))


def test_a_disk_that_fills_up_during_the_pass(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules["regraft.features.extract"], "FLUSH_ROWS", 4)
    space = Space(small_disk / "space", {"maker": 1})
    fill(small_disk, leave=24 << 10)
    assert len(passed(images(tmp_path / "f", 100), space).kept) == 100
    again = Space(small_disk / "space", {"maker": 1})
    assert 0 < len(again) < 100 and again.damaged == 0


def test_a_run_on_a_full_disk_says_so(small_disk: Path):
    fill(small_disk)
    with pytest.raises(RegraftError) as caught:
        new_run(str(small_disk / "r"), "data", {"data": "x" * 5_000}).decide(x="y" * 100_000)
    check_error(caught.value)
    assert "No space left" in caught.value.found and "make room" in caught.value.move


def test_a_bundle_that_the_disk_does_not_take(small_disk: Path):
    with pytest.raises(WriteError, match="cannot be written: No space left") as caught:
        write_bundle(small_disk / "bundle", {}, {"weight": np.ones(100_000)}, {})
    check_error(caught.value)
    assert os.listdir(small_disk) == []


def test_a_run_whose_disk_fills_up(small_disk: Path):
    folder = new_run(str(small_disk / "r"), "data", {"data": "x"})
    fill(small_disk)
    from regraft.events import Said

    with pytest.raises(WriteError, match="No space left"):
        for _ in range(200):
            folder.log(Said("x" * 5_000))
    with pytest.raises(WriteError):
        folder.finish({"x": "y" * 100_000})
    folder.close()
    assert not (small_disk / "r" / "run.json").exists()
    assert list_runs(small_disk) == [(small_disk / "r", None)]
    with pytest.raises(RegraftError, match="did not finish"):
        read_run(small_disk / "r")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG])
def test_writing_that_fails(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WriteError, match="cannot be written") as caught:
        write_json(tmp_path / "x.json", {"a": 1})
    check_error(caught.value)
    assert os.listdir(tmp_path) == []
    space = Space(tmp_path / "space", {"maker": 1})
    space.add(b"i" * 16, np.ones(4, np.float32))
    space.flush()
    assert space.gather([b"i" * 16]).tolist() == [[1.0] * 4]


@pytest.mark.parametrize(
    "writing", ["write_json(Path(sys.argv[1]), 'x' * 100_000)", "write_bundle(Path(sys.argv[1]), {}, {'weight': np.ones(100_000)}, {})"]
)
def test_a_limit_on_the_size_of_files(writing: str, tmp_path: Path):
    """What a quota does where no small disk can be mounted."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from regraft.workspace.bundle import write_bundle\n"
        "from regraft.workspace.files import write_json\n"
        "from regraft.errors import WriteError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        f"    {writing}\n"
        "except WriteError as error:\n"
        "    print(error)\n"
    )
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.json")], capture_output=True, text=True, check=False)
    assert "cannot be written: File too large" in done.stdout and os.listdir(tmp_path) == []


def test_values_that_json_cannot_spell_in_utf_8(tmp_path: Path):
    write_json(tmp_path / "x.json", {"data": "a\udcff"})
    assert read_json(tmp_path / "x.json") == {"data": "a\udcff"}
    from regraft.events import Said

    folder = new_run(str(tmp_path / "r"), "\udcff" * 300, {"data": "\udcff"})
    folder.log(Said("a\udcff"))
    folder.close()
    assert json.loads((tmp_path / "r" / "events.jsonl").read_text())["message"] == "a\udcff"
    run = new_run(None, "é" * 255, {})
    run.close()
    assert run.path.is_dir()


# ---------------------------------------------------------------- a damaged store


def segment(**changed: Any) -> bytes:
    """A file of the store with another description of a tensor, as its header says it."""
    ids = {"dtype": "U8", "shape": [6, 16], "data_offsets": [0, 96], **changed}
    text = json.dumps({"ids": ids}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(500)


SEGMENTS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda whole: b"",
    "zeros": lambda whole: bytes(500),
    "cut off": lambda whole: whole[: len(whole) // 2],
    "one byte missing": lambda whole: whole[:-1],
    "one byte more": lambda whole: whole + b"x",
    "a header beyond the end": lambda whole: struct.pack("<Q", 1 << 62) + whole[8:],
    "more rows than there are": lambda whole: segment(shape=[10**12, 16], data_offsets=[0, 16 * 10**12]),
    "more rows than numbers": lambda whole: segment(shape=[1 << 62, 16], data_offsets=[0, 1 << 66]),
    "rows of nothing": lambda whole: segment(shape=[0, 16], data_offsets=[0, 0]),
    "a negative shape": lambda whole: segment(shape=[-6, -16]),
    "places before the file": lambda whole: segment(data_offsets=[-96, 0]),
    "objects": lambda whole: segment(dtype="O"),
    "words for numbers": lambda whole: segment(shape=["6", "16"], data_offsets="ab"),
    "no tensors": lambda whole: struct.pack("<Q", 2) + b"[]" + whole,
    "deep brackets": lambda whole: struct.pack("<Q", 100_000) + b"[" * 100_000 + whole,
    "text": lambda whole: b"no tensors at all\n" * 20,
}


@pytest.mark.parametrize("harm", list(SEGMENTS))
def test_a_damaged_segment_is_passed_over(harm: str, tmp_path: Path):
    paths = images(tmp_path / "f", 6)
    store = Store(tmp_path / "home")
    passed(paths, store.space({"maker": 1}))
    (file,) = store.root.rglob("*.safetensors")
    file.write_bytes(SEGMENTS[harm](file.read_bytes()))
    store.spaces()
    space = store.space({"maker": 1})
    assert content_id(paths[0].read_bytes()) not in space and space.damaged == 1
    assert len(passed(paths, space).kept) == 6
    assert store.spaces() and store.trim() == []
    assert content_id(paths[0].read_bytes()) in store.space({"maker": 1})


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"[1]", b'{"x": 1}', b"\xff", b"null"])
def test_damaged_facts_of_a_space(content: bytes, tmp_path: Path):
    store = Store(tmp_path)
    space = store.space({"maker": 1})
    space.add(b"i" * 16, np.ones(4, np.float32), "a note")
    space.flush()
    for file in store.root.rglob("space.json"):
        file.write_bytes(content)
    store.spaces()
    store.space({"maker": 1})


# ---------------------------------------------------------------- little memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the bound on memory is Linux's")
@pytest.mark.parametrize("what", ["image", "text", "csv", "sound"])
def test_little_memory_is_said(what: str, tmp_path: Path):
    """With 150 MB more than the process has: a reason, not the end of the process."""
    path = tmp_path / {"image": "x.png", "text": "x.txt", "csv": "t.csv", "sound": "x.wav"}[what]
    if what == "image":
        Image.new("RGB", (9_000, 9_000)).save(path, compress_level=1)
    elif what == "sound":
        path.write_bytes(wav(0)[:40] + struct.pack("<I", 300 << 20))
        os.truncate(path, 300 << 20)
    else:
        path.write_bytes(b"text,label\n" + b"x,y\n" * 40_000_000 if what == "csv" else b"x" * (300 << 20))
    code = (
        "import sys, json, resource\n"
        "sys.path[:0] = json.loads(sys.argv[2])\n"
        "from pathlib import Path\n"
        "import regraft.data.formats.csv, soundfile, soxr, PIL.PngImagePlugin, torch\n"
        "from outcomes import decode_safely, open_safely\n"
        "pages = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages + (150 << 20),) * 2)\n"
        "path = Path(sys.argv[1])\n"
        "kind = {'.png': 'image', '.txt': 'text', '.wav': 'audio'}.get(path.suffix)\n"
        "print(decode_safely(kind, path) if kind else open_safely(path))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), json.dumps(sys.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_table_read_twice_at_the_same_time(tmp_path: Path):
    """The bound on cells is one of the whole process."""
    (tmp_path / "t.csv").write_text("text,label\n" + "a,b\n" * 5_000)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(open_safely(tmp_path / "t.csv", laid=5_000))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and not any(isinstance(f, DataError) for f in found)
