"""Every format of tables: the same rows give the same data set, and no bytes give anything but a clear error."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regraft.data.formats import FORMATS, read_table
from regraft.data.formats import base as formats
from regraft.data.open import open_data
from regraft.errors import DataError, RegraftError
from regraft.jobs.common import asked

ROWS = [
    {"text": 'a good dinner, with "wine"', "label": "food", "speaker": "s1", "stars": 4},
    {"text": "a fast run\nup the hill", "label": "sport", "speaker": "s2", "stars": 5},
    {"text": "süße Äpfel", "label": "food", "speaker": "s2", "stars": None},
]


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix in (".csv", ".tsv"):
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix in (".xlsx", ".xlsm"):
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for row in (list(rows[0]), *(list(row.values()) for row in rows)):
            book.active.append(row)
        book.save(path)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


ENDINGS = [ending for f in FORMATS.values() for ending in f.endings]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_rows_give_the_same_cells(tmp_path: Path, ending: str):
    table = read_table(write(tmp_path / f"t{ending}", ROWS))
    assert table.header == ["text", "label", "speaker", "stars"]
    assert [cells for _, cells in table.rows] == [["" if v is None else str(v) for v in row.values()] for row in ROWS]
    assert not table.broken


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_rows_give_the_same_data_set(tmp_path: Path, ending: str):
    dataset = open_data(write(tmp_path / f"t{ending}", ROWS), asked(None, None, None, group="speaker"))
    assert dataset.task == "text"
    assert [(e.source, e.label, e.group) for e in dataset.examples] == [(r["text"], r["label"], r["speaker"]) for r in ROWS]


@pytest.mark.parametrize("ending", ENDINGS)
def test_train_and_test_tables_in_a_folder(tmp_path: Path, ending: str):
    write(tmp_path / f"train{ending}", ROWS)
    write(tmp_path / f"test{ending}", ROWS[:1])
    dataset = open_data(tmp_path, asked(None, None, None))
    assert (len(dataset.part("train")), len(dataset.part("test"))) == (3, 1)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"PAR1PAR1", b"\xff\xfe", b"{" * 5000, b"[1, 2]\n", b"\xef\xbb\xbf"])
def test_what_is_no_table_is_refused(tmp_path: Path, ending: str, content: bytes):
    path = tmp_path / f"t{ending}"
    path.write_bytes(content)
    with pytest.raises(RegraftError):
        open_data(path, asked(None, None, None))


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_no_bytes_give_anything_but_a_clear_error(tmp_path: Path, ending: str, content: bytes):
    path = tmp_path / f"t{ending}"
    path.write_bytes(content)
    try:
        table = read_table(path)
    except RegraftError as error:
        assert str(path) in error.found
    else:
        named = [name for name in table.header if name]
        assert len(named) == len(set(named))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / f"t{ending}", ROWS)
    monkeypatch.setattr(formats, "SIZE_LIMIT", 10)
    with pytest.raises(DataError, match="a table may have"):
        read_table(path)


def test_parquet_that_unfolds_beyond_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pyarrow")
    from regraft.data.formats import parquet

    path = write(tmp_path / "many.parquet", [{"text": f"{i} of many", "label": "b"} for i in range(5000)])
    monkeypatch.setattr(parquet, "SIZE_LIMIT", 20_000)
    with pytest.raises(DataError, match="unfolds to"):
        read_table(path)


def test_a_million_references_to_one_long_string_stay_one_string(tmp_path: Path):
    """Decoded, this file of a few kilobytes would be 10 GB of text."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    long = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100_000, pyarrow.int32()), pyarrow.array(["x" * 100_000]))
    path = tmp_path / "bomb.parquet"
    parquet.write_table(pyarrow.table({"text": long, "label": ["a", "b"] * 50_000}), path, store_schema=False)
    assert path.stat().st_size < 1_000_000
    table = read_table(path)
    assert len(table.rows) == 100_000 and len({id(cells[0]) for _, cells in table.rows}) < 100


def test_parquet_lists_are_json_and_what_is_not_plain_is_passed_over(tmp_path: Path):
    pytest.importorskip("pyarrow")
    rows = [
        {"text": "a", "tags": ["x", "ü"], "n": [1, 2], "raw": b"\x00", "inner": {"k": 1}, "deep": [[1]], "blobs": [b"1"]},
        {"text": "b", "tags": [], "n": None, "raw": b"", "inner": {"k": 2}, "deep": [], "blobs": []},
        {"text": "c", "tags": ["x", None], "n": [3], "raw": None, "inner": None, "deep": None, "blobs": None},
    ]
    table = read_table(write(tmp_path / "t.parquet", rows))
    assert table.header == ["text", "tags", "n"]
    assert [cells for _, cells in table.rows] == [["a", '["x", "ü"]', "[1, 2]"], ["b", "[]", ""], ["c", '["x", null]', "[3]"]]


@pytest.mark.parametrize("kind", ["list_", "large_list", "fixed"])
def test_parquet_lists_of_every_kind_are_the_same(tmp_path: Path, kind: str):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    of_texts = pyarrow.list_(pyarrow.string(), 2) if kind == "fixed" else getattr(pyarrow, kind)(pyarrow.string())
    column = pyarrow.array([["a", "b"], None, ["b", None]], of_texts)
    parquet.write_table(pyarrow.table({"a.b": ["1", "2", "3"], "tags": column}), tmp_path / "t.parquet")
    assert [cells for _, cells in read_table(tmp_path / "t.parquet").rows] == [["1", '["a", "b"]'], ["2", ""], ["3", '["b", null]']]


def test_a_hundred_thousand_lists_of_one_long_string_stay_one_text(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    long = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100_000, pyarrow.int32()), pyarrow.array(["x" * 100_000]))
    lists = pyarrow.ListArray.from_arrays(pyarrow.array(range(100_001), pyarrow.int32()), long)
    parquet.write_table(pyarrow.table({"text": lists}), tmp_path / "bomb.parquet", store_schema=False)
    table = read_table(tmp_path / "bomb.parquet")
    assert len(table.rows) == 100_000 and len({id(cells[0]) for _, cells in table.rows}) < 100


@pytest.mark.parametrize(("limit", "value"), [("VALUE_LIMIT", 100), ("SIZE_LIMIT", 30_000)])
def test_parquet_lists_that_unfold_beyond_the_bound_are_refused(tmp_path: Path, limit: str, value: int, monkeypatch: pytest.MonkeyPatch):
    """Long lists of one value, and many different lists of one long value, are small in the file."""
    pytest.importorskip("pyarrow")
    from regraft.data.formats import parquet

    path = write(tmp_path / "t.parquet", [{"text": ["x" * 1000] * (i + 1)} for i in range(20)])
    monkeypatch.setattr(parquet, limit, value)
    with pytest.raises(DataError, match="unfolds to"):
        read_table(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1, 2]", "it is not JSON (it holds a list where an object is expected)"),
        ('{"text": "a", "text": "b"}', "it is not JSON (a key occurs twice)"),
        ("null", "it is not JSON (it holds null where an object is expected)"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_broken_line_is_named_and_left_out(tmp_path: Path, line: str, reason: str):
    path = tmp_path / "t.jsonl"
    good = [json.dumps(row) for row in ROWS]
    path.write_text("\n".join([good[0], line, *good[1:]]), encoding="utf-8")
    dataset = open_data(path, asked(None, None, None))
    assert len(dataset.examples) == 3
    assert [(item.name, item.reason) for item in dataset.left_out] == [("t.jsonl, line 2", reason)]


def test_keys_that_only_some_lines_have_are_columns(tmp_path: Path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"label": 2.0, "text": "b", "extra": [1, {"k": null}]}\n', encoding="utf-8")
    table = read_table(path)
    assert table.header == ["text", "label", "extra"]
    assert [cells for _, cells in table.rows] == [["a", "1", ""], ["b", "2", '[1, {"k": null}]']]
