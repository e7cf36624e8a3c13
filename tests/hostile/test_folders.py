"""Folders with links in circles, pipes, names that are no text, and other things that are no class folders."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import HOSTILE, RAW, open_safely, pass_over
from PIL import Image

from regraft.data import Dataset, open_inputs
from regraft.errors import RegraftError
from regraft.jobs.common import asked

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes, links and names of any bytes are those of POSIX")


def classes(folder: Path, count: int = 3) -> Path:
    """Two class folders with so many images each."""
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (i * 20, 90, 9)).save(folder / name / f"{i}.png")
    return folder


def nothing_lost(folder: Path, laid: int, left_out: int) -> Dataset:
    """Opened and passed over: so many things lay there, and so many of them are named as left out."""
    dataset = open_safely(folder, laid=laid)
    assert isinstance(dataset, Dataset), dataset
    lost = [*dataset.left_out, *pass_over("image", dataset.examples)]
    assert len(lost) == left_out, lost
    return dataset


def test_a_circle_of_links(tmp_path: Path):
    folder = classes(tmp_path / "f")
    (folder / "ant" / "up").symlink_to(folder)
    (folder / "bee" / "itself").symlink_to(folder / "bee")
    nothing_lost(folder, 6, 0)


def test_links_that_point_at_each_other(tmp_path: Path):
    folder = classes(tmp_path / "f")
    (folder / "ant" / "a.png").symlink_to(folder / "ant" / "b.png")
    (folder / "ant" / "b.png").symlink_to(folder / "ant" / "a.png")
    (folder / "ant" / "c.png").symlink_to(folder / "ant" / "c.png")
    (folder / "ant" / "d.png").symlink_to("nowhere.png")
    (folder / "loop").symlink_to(folder / "loop")
    nothing_lost(folder, 11, 5)


def test_the_folder_itself_is_a_circle(tmp_path: Path, refused: Callable[..., str]):
    (tmp_path / "f").symlink_to(tmp_path / "f")
    refused("fit", tmp_path / "f")


def test_what_would_be_waited_for_without_end(tmp_path: Path):
    folder = classes(tmp_path / "f")
    os.mkfifo(folder / "ant" / "pipe.png")
    (folder / "ant" / "zero.png").symlink_to("/dev/zero")
    (folder / "bee" / "terminal.png").symlink_to("/dev/tty")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(folder / "bee")
        listening.bind("s.png")
        found = nothing_lost(folder, 10, 4)
    for task, ending in (("text", "txt"), ("audio", "wav")):
        os.mkfifo(folder / "ant" / f"pipe.{ending}")
        reasons = pass_over(task, [e for e in found.examples if "pipe" in e.name])
        assert [r.reason for r in reasons] == ["not a plain file"]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "t.xlsx", "dataset_dict.json", "x.png"])
def test_a_pipe_under_the_name_of_data(name: str, tmp_path: Path, refused: Callable[..., str]):
    os.mkfifo(tmp_path / name)
    refused("fit", tmp_path / name)
    refused("fit", tmp_path)
    refused("show", tmp_path / name)


@pytest.mark.parametrize("name", ["dataset_dict.json", "train/dataset_info.json", "train/state.json", "train/data-00000-of-00001.arrow"])
def test_a_pipe_in_a_saved_data_set(name: str, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"text": ["a b", "c d"], "label": ["a", "b"]})
    datasets.DatasetDict({"train": whole}).save_to_disk(tmp_path / "s")
    (tmp_path / "s" / name).unlink()
    os.mkfifo(tmp_path / "s" / name)
    open_safely(tmp_path / "s")


@pytest.mark.parametrize("name", ["run.json", "spec.json", "bundle.json", "decisions.json"])
def test_a_pipe_in_a_run(name: str, tmp_path: Path, command: Any):
    (tmp_path / "r").mkdir()
    for other in ("run.json", "spec.json"):
        (tmp_path / "r" / other).write_text("{}")
    (tmp_path / "r" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "r" / name)
    for words in (("show", tmp_path / "r"), ("runs", tmp_path), ("predict", tmp_path / "r", tmp_path)):
        answer = command(*words)
        assert answer.code in (0, 1) and "fault of regraft" not in answer.err, answer


def test_a_folder_under_the_name_of_an_image(tmp_path: Path):
    folder = classes(tmp_path / "f")
    (folder / "ant" / "x.png").mkdir()
    (folder / "y.png").mkdir()
    assert "y.png" in " ".join(nothing_lost(folder, 6, 0).said)


NAMES = [
    b"a\nb.png",
    b"a\rb.png",
    b"a\tb.png",
    b"\x1b[2J\x1b]0;x\x07.png",
    b"\xff\xfe.png",
    b"\x80.png",
    "\u202egnp.exe.png".encode(),
    "\u2028.png".encode(),
    b"x" * 251 + b".png",
    b" .png",
    b"-rf.png",
    b"a'b\"c`d$e.png",
    b"[red]bold.png",
    "é.png".encode(),
    "e\u0301.png".encode(),
    b"con.png",
    b"a.PNG",
    b"~.png",
    b"*.png",
    b"%s%n.png",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda n: ascii(n[:12])[2:-1].replace("\\", "."))
def test_a_name_of_any_bytes(name: bytes, tmp_path: Path, command: Any):
    folder = classes(tmp_path / "f")
    content = (folder / "ant" / "0.png").read_bytes()
    try:
        for inside in (b"ant", name):
            place = os.path.join(os.fsencode(folder), inside, name)
            Path(os.fsdecode(place)).parent.mkdir(exist_ok=True)
            Path(os.fsdecode(place)).write_bytes(content)
            Path(os.fsdecode(place[:-4] + b".doc")).write_bytes(b"x")
    except OSError:
        pytest.skip("this disk takes no such names")
    dataset = nothing_lost(folder, 10, 2)
    assert len({e.label for e in dataset.examples}) == 3
    assert not any(RAW.search(str(e.label)) for e in dataset.examples)
    # the command line, whose words may hold such bytes too
    answer = command("fit", os.fsdecode(os.path.join(os.fsencode(folder), name)), "--json")
    assert answer.code == 1 and "fault of regraft" not in answer.err
    assert not RAW.search((answer.out + answer.err).replace("\n", "")), answer
    inputs = open_inputs(
        [Path(os.fsdecode(os.path.join(os.fsencode(folder), b"ant", name))), folder], asked("image", None, None, labelled=False)
    )
    assert not any(RAW.search(e.name) for e in inputs.examples)


def test_folders_deeper_than_calls_may_be(tmp_path: Path):
    folder = classes(tmp_path / "f")
    os.chdir(folder / "ant")
    for _ in range(1_100):
        os.mkdir("d")
        os.chdir("d")
    Image.new("RGB", (4, 4)).save("x.png")
    os.chdir(tmp_path)
    try:
        nothing_lost(folder, 7, 0)
    finally:
        # what removes the folders of tests calls itself for each
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_path_longer_than_the_system_takes(tmp_path: Path):
    folder = classes(tmp_path / "f")
    os.chdir(folder / "ant")
    for _ in range(20):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    os.chdir(tmp_path)
    try:
        assert isinstance(open_safely(folder), RegraftError)
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_five_thousand_empty_class_folders(tmp_path: Path):
    folder = classes(tmp_path / "f")
    for i in range(5_000):
        (folder / f"empty {i}").mkdir()
    said = " ".join(nothing_lost(folder, 6, 0).said)
    assert "5,000 folders hold no example" in said and len(said) < 500


def test_nothing_but_empty_folders(tmp_path: Path, refused: Callable[..., str]):
    for name in ("ant", "bee"):
        (tmp_path / "f" / name).mkdir(parents=True)
    assert "holds no files" in refused("fit", tmp_path / "f")


def test_class_folders_that_differ_in_case_only_are_said(tmp_path: Path):
    folder = classes(tmp_path / "f")
    (folder / "ANT").mkdir()
    if len(list(folder.iterdir())) < 3:
        pytest.skip("this disk does not tell them apart")
    Image.new("RGB", (8, 8)).save(folder / "ANT" / "x.png")
    from regraft.jobs.labelled import open_labelled
    from regraft.spec import FitSpec

    found = open_labelled(FitSpec(data=str(folder)), folder, None)
    assert "'ANT' (1) and 'ant' (3)" in " ".join(found.target.remarks(found.train_cells, balanced=False))


@pytest.mark.parametrize("harm", ["file", "class folder", "whole folder"])
def test_what_may_not_be_read(harm: str, tmp_path: Path):
    """Root may read anything: where this runs as root, another process gives that right away first."""
    folder = classes(tmp_path / "f")
    place = {"file": folder / "ant" / "0.png", "class folder": folder / "ant", "whole folder": folder}[harm]
    code = (
        "import os, sys, json\n"
        "from pathlib import Path\n"
        "folder, place = Path(sys.argv[1]), sys.argv[2]\n"
        "sys.path[:0] = json.loads(sys.argv[3])\n"
        "from outcomes import open_safely, pass_over\n"
        "import PIL.PngImagePlugin, regraft.jobs.labelled, torch\n"
        "os.chmod(place, 0)\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "found = open_safely(folder)\n"
        "left = [] if isinstance(found, Exception) else [r.reason for r in [*found.left_out, *pass_over('image', found.examples)]]\n"
        "print(json.dumps([str(found) if isinstance(found, Exception) else '', left]))\n"
    )
    # folders of tests are closed to others: it starts inside, and opens no other
    tmp_path.chmod(0o755)
    words = [sys.executable, "-c", code, "f", str(place.relative_to(tmp_path)), json.dumps(sys.path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    place.chmod(0o755)
    assert done.returncode == 0, done.stderr
    error, left_out = json.loads(done.stdout.splitlines()[-1])
    if harm == "file":
        assert (error, left_out) == ("", ["cannot be opened: Permission denied"])
    else:
        assert "cannot be read: Permission denied" in error


PATHS = ["", ".", "~", "~/nowhere", "file:///etc", "http://localhost/x.csv", "https://example.org/x.csv", "a\0b", "x" * 300, "x/" * 2_500]


@pytest.mark.parametrize(
    "path", [*PATHS, "\udcff", "\n", "-", "nowhere.csv", "nowhere.parquet", "/dev/zero", "/dev/null", "/proc/self/mem"]
)
def test_a_path_that_is_no_data(path: str, refused: Callable[..., str]):
    assert len(refused("fit", "--", path)) < 4_000
    assert isinstance(open_safely(path), RegraftError)
    found = open_inputs([Path(path)], asked("image", None, None, labelled=False)) if path not in ("", ".") else None
    if found is not None:
        assert len(pass_over("image", found.examples)) == len(found.examples) == 1


def test_every_name_is_given_back_whole(tmp_path: Path):
    """Names that are made printable are still told apart."""
    folder = classes(tmp_path / "f")
    content = (folder / "ant" / "0.png").read_bytes()
    for name in ("a\nb", "a\rb", "a\x1bb", "a b"):
        (folder / "ant" / f"{name}.png").write_bytes(content)
    dataset = nothing_lost(folder, 10, 0)
    assert len({e.name for e in dataset.examples}) == 10


TREE = st.lists(
    st.tuples(
        st.sampled_from(["ant", "bee", "ANT", "train", "test", ".hidden", "a\nb", "x.png", "deep/er"]),
        st.sampled_from(["0.png", "1.txt", "t.csv", "Thumbs.db", "no ending", ".png", "train.csv", "2.wav"]),
    ),
    max_size=8,
    unique=True,
)


@HOSTILE
@given(tree=TREE, loose=st.lists(st.sampled_from(["x.png", "t.csv", "note.txt", "dataset_dict.json"]), max_size=2, unique=True))
def test_any_tree(tree: list[tuple[str, str]], loose: list[str], tmp_path: Path):
    folder = tmp_path / f"f{len(os.listdir(tmp_path))}"
    folder.mkdir()
    for inside, name in tree:
        (folder / inside).mkdir(parents=True, exist_ok=True)
        (folder / inside / name).write_bytes(b"text,label\na,b\n")
    for name in loose:
        if not (folder / name).exists():
            (folder / name).write_bytes(b"text,label\na,b\n")
    found = open_safely(folder)
    if isinstance(found, Dataset):
        pass_over(found.task, found.examples)
