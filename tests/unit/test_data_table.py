"""CSV files: which column is what, which rows can be used, and that every other row is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regraft.data import Dataset, open_data
from regraft.data.base import TEST, TRAIN, Asked
from regraft.errors import DataError, RegraftError, UsageError
from regraft.modality import MODALITIES

EXTENSIONS = {name: modality.extensions for name, modality in MODALITIES.items()}


def opened(path: Path, task: str | None = None, labelled: bool = True, **columns: Any) -> Dataset:
    return open_data(path, Asked(task, columns.get("input"), columns.get("label"), EXTENSIONS, labelled))


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def pairs(dataset: Dataset) -> list[tuple[Any, str | None]]:
    return [(e.source, e.label) for e in dataset.examples]


FOUR = "good one,pos\nbad one,neg\nvery good,pos\nvery bad,neg\n"


def test_texts_and_labels_by_name(tmp_path: Path):
    dataset = opened(written(tmp_path / "t.csv", "id,text,label\n1,good one,pos\n2,bad one,neg\n"))
    assert dataset.task == "text"
    assert pairs(dataset) == [("good one", "pos"), ("bad one", "neg")]
    assert any("text" in said for said in dataset.said)
    assert any("label column: label" in said for said in dataset.said)


def test_columns_without_known_names_are_found_by_what_they_hold(tmp_path: Path):
    rows = "".join(
        f"{label},{sentence} number {i}\n" for i in range(6) for label, sentence in (("x", "a long text"), ("y", "another text"))
    )
    dataset = opened(written(tmp_path / "t.csv", "kind,words\n" + rows))
    assert (dataset.decisions["input"], dataset.decisions["label"]) == ("words", "kind")


def test_given_columns_hold(tmp_path: Path):
    path = written(tmp_path / "t.csv", "text,label,other,third\na b,1,c d,x\ne f,2,g h,y\n")
    assert pairs(opened(path, input="other", label="third")) == [("c d", "x"), ("g h", "y")]


def test_a_column_that_does_not_exist_names_the_nearest(tmp_path: Path):
    path = written(tmp_path / "t.csv", "text,label\n" + FOUR)
    with pytest.raises(UsageError) as raised:
        opened(path, label="lable")
    assert str(raised.value) == "--label lable: t.csv has the columns text, label. did you mean 'label'?"


def test_two_wrong_columns_are_named_at_once(tmp_path: Path):
    path = written(tmp_path / "t.csv", "text,label\n" + FOUR)
    with pytest.raises(UsageError) as raised:
        opened(path, input="txet", label="lable")
    assert len(raised.value.faults) == 2


def test_paths_are_relative_to_the_table(tmp_path: Path):
    dataset = opened(written(tmp_path / "deep" / "t.csv", "file,species\npics/1.jpg,ant\npics/2.jpg,bee\n"))
    assert dataset.task == "image"
    assert pairs(dataset) == [(tmp_path / "deep" / "pics" / "1.jpg", "ant"), (tmp_path / "deep" / "pics" / "2.jpg", "bee")]


def test_paths_may_be_absolute(tmp_path: Path):
    absolute = (tmp_path / "x" / "1.wav").as_posix()
    dataset = opened(written(tmp_path / "t.csv", f"path,label\n{absolute},a\nb.wav,b\n"))
    assert dataset.task == "audio"
    assert dataset.examples[0].source == Path(absolute)


def test_a_row_of_a_path_names_path_and_line(tmp_path: Path):
    dataset = opened(written(tmp_path / "t.csv", "file,label\n1.jpg,ant\n2.jpg,bee\n"))
    assert dataset.examples[1].name == "2.jpg (t.csv, line 3)"


def test_whole_numbers_with_few_values_are_classes(tmp_path: Path):
    dataset = opened(written(tmp_path / "t.csv", "text,label\n" + "".join(f"text {i},{i % 6}\n" for i in range(60))))
    assert {e.label for e in dataset.examples} == set("012345")


def test_empty_texts_and_missing_labels_are_left_out_by_line(tmp_path: Path):
    dataset = opened(written(tmp_path / "t.csv", "text,label\ngood,pos\n,neg\n   ,neg\nbad,\nworse\nfine,pos\n"))
    assert pairs(dataset) == [("good", "pos"), ("fine", "pos")]
    assert {item.name: item.reason for item in dataset.left_out} == {
        "t.csv, line 3": "the text is empty",
        "t.csv, line 4": "the text is empty",
        "t.csv, line 5: bad": "the label is missing",
        "t.csv, line 6: worse": "the label is missing",
    }


def test_a_row_with_too_many_cells_is_named_and_not_cut(tmp_path: Path):
    """A comma without quotes would make half a sentence the text and the other half its label."""
    dataset = opened(written(tmp_path / "t.csv", "text,label\ngood,pos\nwell, not so good,neg\nbad,neg\n"))
    assert pairs(dataset) == [("good", "pos"), ("bad", "neg")]
    assert [item.name.startswith("t.csv, line 3") for item in dataset.left_out] == [True]


def test_quoted_cells_hold_commas_quotes_and_line_breaks(tmp_path: Path):
    dataset = opened(written(tmp_path / "t.csv", 'text,label\n"one, ""two""\nthree",a\nfour,b\n'))
    assert pairs(dataset) == [('one, "two"\nthree', "a"), ("four", "b")]
    assert dataset.examples[1].name == "t.csv, line 4: four"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"\xef\xbb\xbf" + b"text,label\r\n" + FOUR.replace("\n", "\r\n").encode()),
        ("t.csv", ("text,label\n" + FOUR).encode("utf-16")),
        ("t.csv", ("text;label\n" + FOUR.replace(",", ";")).encode()),
        ("t.csv", ("text\tlabel\n" + FOUR.replace(",", "\t")).encode()),
        ("t.tsv", ("text\tlabel\n" + FOUR.replace(",", "\t")).encode()),
        ("T.CSV", ("text,label\n\n" + FOUR + "\n\n").encode()),
    ],
    ids=["bom-crlf", "utf-16", "semicolons", "tabs", "tsv", "blank-lines"],
)
def test_the_usual_dialects(tmp_path: Path, name: str, content: bytes):
    dataset = opened(written(tmp_path / name, content))
    assert pairs(dataset) == [("good one", "pos"), ("bad one", "neg"), ("very good", "pos"), ("very bad", "neg")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (b"\n\n", ["is empty"]),
        (b"text,label\n", ["no rows"]),
        (b"text,label\ncaf\xe9,a\n", ["UTF-8", "line 2"]),
        (b"text,label\na\0b,c\n", ["zero bytes"]),
        (b"text,text\na,b\n", ["'text'", "more than once"]),
        (b'text,label\n"never closed,a\nb,c\n', ["line"]),
    ],
    ids=["empty", "blank", "header-only", "latin-1", "nul", "same-column-twice", "open-quote"],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, words: list[str]):
    path = written(tmp_path / "t.csv", content)
    with pytest.raises(DataError) as raised:
        opened(path)
    assert str(path) in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_a_table_without_labels_says_how_to_name_them(tmp_path: Path):
    path = written(tmp_path / "t.csv", "text\none\ntwo\n")
    with pytest.raises(DataError) as raised:
        opened(path)
    assert raised.value.move == "--label COLUMN"


def test_labels_are_not_needed_to_predict(tmp_path: Path):
    dataset = opened(written(tmp_path / "t.csv", "text\none\ntwo\n"), labelled=False)
    assert [e.source for e in dataset.examples] == ["one", "two"]


def test_train_and_test_tables_in_a_folder(tmp_path: Path):
    written(tmp_path / "d" / "train.csv", "text,label\na b,x\nc d,y\n")
    written(tmp_path / "d" / "test.csv", "text,label\ne f,x\n")
    dataset = opened(tmp_path / "d")
    assert {(e.source, e.part) for e in dataset.examples} == {("a b", TRAIN), ("c d", TRAIN), ("e f", TEST)}
    assert {e.name for e in dataset.part(TEST)} == {"test.csv, line 2: e f"}


def test_the_test_table_is_not_looked_at_to_choose_the_columns(tmp_path: Path):
    written(tmp_path / "d" / "train.csv", "body,kind\na b,x\nc d,y\ng h,x\ni j,y\n")
    written(tmp_path / "d" / "test.csv", "text,label,body,kind\nzz,1,e f,x\n")
    dataset = opened(tmp_path / "d")
    assert (dataset.decisions["input"], dataset.decisions["label"]) == ("body", "kind")
    assert {(e.source, e.label) for e in dataset.part(TEST)} == {("e f", "x")}


def test_a_val_table_is_the_test_where_there_is_none_and_this_is_said(tmp_path: Path):
    written(tmp_path / "d" / "train.csv", "text,label\na b,x\nc d,y\n")
    written(tmp_path / "d" / "val.csv", "text,label\ne f,x\n")
    dataset = opened(tmp_path / "d")
    assert [e.source for e in dataset.part(TEST)] == ["e f"]
    assert any("val.csv" in said for said in dataset.said)


def test_a_test_table_with_other_columns_is_named(tmp_path: Path):
    written(tmp_path / "d" / "train.csv", "text,label\na b,x\nc d,y\n")
    written(tmp_path / "d" / "test.csv", "text\ne f\n")
    with pytest.raises(DataError, match=r"test\.csv has no column 'label'"):
        opened(tmp_path / "d")


def test_a_split_column_is_followed_and_said(tmp_path: Path):
    rows = "a b,x,train\nc d,y,train\ne f,x,test\ng h,y,val\n"
    dataset = opened(written(tmp_path / "t.csv", "text,label,split\n" + rows))
    assert [e.source for e in dataset.part(TEST)] == ["e f"]
    assert [e.source for e in dataset.part(TRAIN)] == ["a b", "c d", "g h"]
    assert any("split" in said for said in dataset.said)


def test_texts_of_a_path_column_are_never_paths_when_text_is_asked_for(tmp_path: Path):
    dataset = opened(written(tmp_path / "t.csv", "file,label\n1.jpg,ant\n2.jpg,bee\n"), task="text", input="file")
    assert dataset.task == "text"
    assert pairs(dataset) == [("1.jpg", "ant"), ("2.jpg", "bee")]


def test_a_table_is_never_executed_or_expanded(tmp_path: Path):
    """Cells that look like formulas or variables stay what they are."""
    dataset = opened(written(tmp_path / "t.csv", "text,label\n=1+1,$HOME\n~/x,b\n"))
    assert pairs(dataset) == [("=1+1", "$HOME"), ("~/x", "b")]


def test_every_row_is_an_example_or_left_out(tmp_path: Path):
    rows = ["good,pos", ",neg", "bad,", '"a,b",neg', "last,pos", "x,neg"]
    dataset = opened(written(tmp_path / "t.csv", "text,label\n" + "\n".join(rows) + "\n"))
    assert len(dataset.examples) + len(dataset.left_out) == len(rows)


def test_a_folder_called_like_a_table_is_a_folder(tmp_path: Path):
    written(tmp_path / "d.csv" / "ant" / "1.jpg", "x")
    written(tmp_path / "d.csv" / "bee" / "1.jpg", "x")
    assert {e.label for e in opened(tmp_path / "d.csv").examples} == {"ant", "bee"}


def test_a_file_of_no_known_layout(tmp_path: Path):
    with pytest.raises(RegraftError, match="not read as a data set"):
        opened(written(tmp_path / "t.docx", "x"))
