"""What every reader of data promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.data import READERS, Dataset
from regraft.data.base import TEST, TRAIN, Asked
from regraft.errors import RegraftError
from regraft.facts import LeftOut
from regraft.modality import MODALITIES
from regraft.modality.base import Stored
from regraft.spec import TASKS

EXTENSIONS = {name: modality.extensions for name, modality in MODALITIES.items()}
ASKED = Asked(None, None, None, EXTENSIONS)


def folder_source(tmp_path: Path) -> tuple[Any, int]:
    for name in ("ant/1.jpg", "ant/2.jpg", "bee/1.jpg", "bee/odd.doc"):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).touch()
    return tmp_path / "f", 4


def table_source(tmp_path: Path) -> tuple[Any, int]:
    (tmp_path / "t.csv").write_text("text,label\na b,x\nc d,y\n,y\ne f,x\n", encoding="utf-8")
    return tmp_path / "t.csv", 4


def memory_source(tmp_path: Path) -> tuple[Any, int]:
    return [("a b", "x"), ("c d", "y"), ("e f", "x")], 3


def huggingface_source(tmp_path: Path) -> tuple[Any, int]:
    datasets = pytest.importorskip("datasets")
    classes = datasets.ClassLabel(names=["x", "y"])
    features = datasets.Features({"image": datasets.Image(), "label": classes})
    pictures = [{"bytes": b"not looked at", "path": f"{i}.png"} for i in range(3)]
    return datasets.Dataset.from_dict({"image": [*pictures, None], "label": [0, -1, 1, 1]}, features=features), 4


SOURCES: dict[str, Callable[[Path], tuple[Any, int]]] = {
    "folder": folder_source,
    "table": table_source,
    "memory": memory_source,
    "huggingface": huggingface_source,
}
"""Reader -> a source that it reads, and how many things are in it. A new reader adds its own here."""

STRANGE = [None, 3, object(), b"bytes", {"a": 1}, Path("nowhere"), Path("nowhere.csv")]

pytestmark = pytest.mark.parametrize("name", list(READERS))


def read(name: str, tmp_path: Path) -> tuple[Dataset, int]:
    source, count = SOURCES[name](tmp_path)
    return READERS[name].read(source, ASKED), count


def test_it_says_what_it_is(name: str):
    assert READERS[name].name == name
    assert READERS[name].about


def test_it_takes_its_own_source_and_no_strange_one(name: str, tmp_path: Path):
    assert READERS[name].fits(SOURCES[name](tmp_path)[0])
    for source in STRANGE:
        assert not READERS[name].fits(source)


def test_exactly_one_reader_reads_a_source_first(name: str, tmp_path: Path):
    source, _ = SOURCES[name](tmp_path)
    assert next(reader.name for reader in READERS.values() if reader.fits(source)) == name


def test_its_dataset_is_whole(name: str, tmp_path: Path):
    dataset, count = read(name, tmp_path)
    assert dataset.task in TASKS
    assert len(dataset.examples) + len(dataset.left_out) == count, "nothing is lost silently"
    assert all(isinstance(e.name, str) and e.name for e in dataset.examples)
    assert len({e.name for e in dataset.examples}) == len(dataset.examples)
    assert {e.part for e in dataset.examples} <= {TRAIN, TEST}
    assert all(isinstance(e.label, str) for e in dataset.examples)
    assert all(isinstance(item, LeftOut) and item.name and item.reason for item in dataset.left_out)
    assert all(isinstance(said, str) for said in dataset.said)
    assert dataset.decisions.get("layout") == name


def test_the_same_source_twice_gives_the_same(name: str, tmp_path: Path):
    assert read(name, tmp_path)[0] == read(name, tmp_path)[0]


def test_its_sources_can_be_loaded_by_their_modality(name: str, tmp_path: Path):
    """What a reader hands over is a path, or an object that the modality knows."""
    dataset, _ = read(name, tmp_path)
    kinds = (str, Path, Stored) if dataset.task == "text" else (Path, Stored)
    assert all(isinstance(e.source, kinds) for e in dataset.examples)


def test_a_column_that_is_not_there_is_refused_or_has_no_meaning(name: str, tmp_path: Path):
    source, _ = SOURCES[name](tmp_path)
    try:
        dataset = READERS[name].read(source, Asked(None, None, "no such column", EXTENSIONS))
    except RegraftError as error:
        assert "no such column" in str(error)
    else:
        assert dataset.decisions["layout"] in ("folder", "memory")
