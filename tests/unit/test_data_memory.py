"""Objects in memory: lists of pairs and data frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft.data import Dataset, open_data
from regraft.data.base import Asked
from regraft.errors import DataError, RegraftError, UsageError
from regraft.modality import MODALITIES
from regraft.targets import Wanted
from regraft.targets.classes import Classes


def check_labels(dataset):
    return Classes.learn([e.label or "" for e in dataset.examples if e.part == "train"], Wanted()).outputs


EXTENSIONS = {name: modality.extensions for name, modality in MODALITIES.items()}


def opened(source: Any, task: str | None = None, labelled: bool = True, **columns: Any) -> Dataset:
    return open_data(source, Asked(task, columns.get("input"), columns.get("label"), EXTENSIONS, labelled))


def test_pairs_of_paths():
    dataset = opened([("a/1.jpg", "ant"), (Path("a/2.jpg"), "bee")])
    assert dataset.task == "image"
    assert [(e.source, e.label, e.name) for e in dataset.examples] == [
        (Path("a/1.jpg"), "ant", str(Path("a/1.jpg"))),
        (Path("a/2.jpg"), "bee", str(Path("a/2.jpg"))),
    ]


def test_pairs_of_texts():
    dataset = opened([("good", 1), ("bad", 0)])
    assert dataset.task == "text"
    assert [(e.source, e.label) for e in dataset.examples] == [("good", "1"), ("bad", "0")]


def test_pairs_of_images_and_arrays():
    picture = Image.new("RGB", (4, 4))
    dataset = opened([(picture, "a"), (np.zeros((4, 4, 3), np.uint8), "b")])
    assert dataset.task == "image"
    assert dataset.examples[0].source is picture


def test_pairs_of_sounds():
    dataset = opened([((np.zeros(100, np.float32), 16_000), "a"), ((np.ones(100, np.float32), 16_000), "b")])
    assert dataset.task == "audio"


def test_items_that_are_no_pairs_are_named():
    with pytest.raises(UsageError) as raised:
        opened([("good", "a"), "bad", ("x", "y", "z")])
    assert raised.value.faults == ("item 1 is str", "item 2 is tuple")


def test_an_empty_list():
    with pytest.raises(DataError, match="no examples"):
        opened([])


@pytest.mark.parametrize("source", [3, {"a": 1}, object(), None])
def test_what_is_no_data(source: Any):
    with pytest.raises(RegraftError, match="is not a data set"):
        opened(source)


@pytest.mark.parametrize("missing", [None, float("nan"), "", "  "], ids=repr)
def test_a_missing_label_is_named_and_no_class(missing: Any):
    dataset = opened([("good", "pos"), ("bad", "neg"), ("so so", missing), ("fine", "pos")])
    assert check_labels(dataset) == ["neg", "pos"]
    assert [e.source for e in dataset.examples if e.label is not None] == ["good", "bad", "fine"]
    assert len(dataset.left_out) == 1
    assert "label" in dataset.left_out[0].reason


def test_a_frame_is_understood_like_a_table():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": [7, 8], "text": ["good", "bad"], "label": ["pos", "neg"]})
    dataset = opened(frame)
    assert dataset.task == "text"
    assert [(e.source, e.label) for e in dataset.examples] == [("good", "pos"), ("bad", "neg")]
    assert any("text" in said for said in dataset.said)
    assert any("label" in said for said in dataset.said)


@pytest.mark.parametrize("columns", [("text", "intent"), ("sentence", "sentiment"), ("review", "stars")])
def test_a_frame_with_other_names_is_understood_like_the_same_csv(tmp_path: Path, columns: tuple[str, str]):
    pandas = pytest.importorskip("pandas")
    rows = [("a good thing", "x"), ("a bad thing", "y"), ("one more good thing", "x"), ("one more bad thing", "y")]
    frame = pandas.DataFrame(rows, columns=list(columns))
    frame.to_csv(tmp_path / "t.csv", index=False)
    table, memory = opened(tmp_path / "t.csv"), opened(frame)
    assert [(e.source, e.label) for e in table.examples] == rows
    assert [(e.source, e.label) for e in memory.examples] == rows


def test_a_frame_whose_columns_are_numbers():
    pandas = pytest.importorskip("pandas")
    dataset = opened(pandas.DataFrame([["good", "pos"], ["bad", "neg"]]), input="0", label="1")
    assert [(e.source, e.label) for e in dataset.examples] == [("good", "pos"), ("bad", "neg")]


def test_a_frame_with_an_own_index():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["good", "bad", "fine"], "label": ["pos", "neg", "pos"]}, index=[5, 5, "x"])
    assert [e.label for e in opened(frame).examples] == ["pos", "neg", "pos"]


def test_a_missing_label_of_a_frame_is_named():
    pandas = pytest.importorskip("pandas")
    dataset = opened(pandas.DataFrame({"text": ["good", "bad", "fine"], "label": ["pos", None, float("nan")]}))
    assert {e.label for e in dataset.examples if e.label is not None} == {"pos"}
    assert len(dataset.left_out) == 2


def test_whole_numbers_of_a_frame_stay_whole():
    pandas = pytest.importorskip("pandas")
    dataset = opened(pandas.DataFrame({"text": ["good", "bad"], "label": [1, 0]}))
    assert [e.label for e in dataset.examples] == ["1", "0"]


def test_a_column_that_a_frame_does_not_have():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["good", "bad"], "label": [1, 0]})
    with pytest.raises(UsageError, match="did you mean 'label'"):
        opened(frame, label="labl")
    with pytest.raises(UsageError, match="columns text, label"):
        opened(frame, input="words")


def test_columns_that_cannot_be_told_apart():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(UsageError) as raised:
        opened(pandas.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 6]}))
    assert "input=" in raised.value.move


def test_without_labels_a_list_is_inputs():
    assert [e.label for e in opened(["one", "two"], task="text", labelled=False).examples] == [None, None]
