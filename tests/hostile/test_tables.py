"""Tables that are damaged, absurd, or made to take all memory; and the columns and paths in them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import HOSTILE, RAW, check_error, check_left_out, check_text, open_safely, pass_over

from regraft.data import Dataset
from regraft.data.formats import base, jsonl, parquet, read_table
from regraft.errors import DataError, RegraftError
from regraft.jobs.labelled import open_labelled
from regraft.spec import FitSpec

ROWS = "text,label\n" + "".join(f"some words {i},{'ab'[i % 2]}\n" for i in range(10))


def put(folder: Path, content: str | bytes | Callable[[], str | bytes], name: str = "t.csv") -> Path:
    """Write it; what is large is made only now."""
    path, content = folder / name, content() if callable(content) else content
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def xlsx(rows: list[list[Any]]) -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    book, out = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(out)
    return out.getvalue()


def parquet_of(columns: dict[str, Any]) -> bytes:
    pyarrow, out = pytest.importorskip("pyarrow"), io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), out)
    return out.getvalue()


# ---------------------------------------------------------------- refused

REFUSED: dict[str, tuple[str, str | bytes | Callable[[], str | bytes]]] = {
    "nothing": ("t.csv", b""),
    "blank lines": ("t.csv", "\n\n \n\t\n"),
    "a mark and nothing": ("t.csv", b"\xef\xbb\xbf"),
    "a header alone": ("t.csv", "text,label\n"),
    "a header alone in tsv": ("t.tsv", "text\tlabel\n"),
    "zero bytes": ("t.csv", b"text,label\na\0b,c\n"),
    "utf-16 without a mark": ("t.csv", ROWS.encode("utf-16-le")),
    "latin-1": ("t.csv", "text,label\nsüß,a\n".encode("latin-1")),
    "gzip under the name of csv": ("t.csv", gzip.compress(ROWS.encode())),
    "a gzip bomb under the name of csv": ("t.csv", lambda: gzip.compress(bytes(20_000_000))),
    "a zip under the name of csv": ("t.csv", b"PK\x03\x04" + bytes(range(256))),
    "a quote that never closes": ("t.csv", lambda: 'text,label\n"a,b\n' + "c,d\n" * 1_300_000),
    "a quote that never closes over 20 MB": ("t.csv", lambda: 'text,label\n"a,b\n' + "c,d\n" * 5_000_000),
    "a quote in the middle of the last line": ("t.csv", 'text,label\na,b\n"c'),
    "text after a quote": ("t.csv", 'text,label\n"a"b,c\n'),
    "a row of 20 MB": ("t.csv", lambda: "text,label\n" + "a," * 10_000_000 + "b\n"),
    "a header of 20 MB": ("t.csv", lambda: "a," * 10_000_000),
    "a column twice": ("t.csv", "text,label,label\na,b,c\n"),
    "a column twice but for white space": ("t.csv", "text,label, label \na,b,c\n"),
    "twenty thousand equal columns": ("t.csv", "text," * 20_000 + "label\na,b\n"),
    "no label column": ("t.csv", "text\nsome words\nmore words\n"),
    "one column of numbers": ("t.csv", "x\n1\n2\n"),
    "no column with anything in it": ("t.csv", "text,label\n,\n"),
    "json of a list": ("t.jsonl", '[{"text": "a", "label": "b"}]'),
    "json of another kind": ("t.jsonl", '3\nnull\ntrue\n"a"\n'),
    "json that ends too early": ("t.jsonl", '{"text": "a", "lab'),
    "brackets alone": ("t.jsonl", "[" * 1_000_000),
    "braces alone": ("t.jsonl", '{"a":' * 500_000),
    "json of 20 MB in a line": ("t.jsonl", lambda: '{"text": [' + "[]," * 7_000_000 + "[]]}"),
    "keys that differ by white space": ("t.jsonl", '{"text": "a", "label": "b", " label": "c"}\n'),
    "json in latin-1": ("t.jsonl", '{"text": "süß", "label": "b"}'.encode("latin-1")),
    "json of empty objects": ("t.jsonl", "{}\n{}\n"),
    "text under the name of parquet": ("t.parquet", ROWS),
    "the marks of parquet alone": ("t.parquet", b"PAR1\xff\xff\xff\x7fPAR1"),
    "zeros under the name of parquet": ("t.parquet", bytes(4_000)),
    "text under the name of xlsx": ("t.xlsx", ROWS),
    "an old xls under the name of xlsx": ("t.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
    "a zip of nothing": ("t.xlsx", b"PK\x05\x06" + bytes(18)),
    "a table of another program": ("t.sqlite", b"SQLite format 3\0"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_table_that_is_refused(name: str, tmp_path: Path, refused: Callable[..., str]):
    file, content = REFUSED[name]
    path = put(tmp_path, content, file)
    assert isinstance(open_safely(path), RegraftError)
    assert len(refused("fit", path)) < 6_000


def test_what_is_refused_is_json_for_programs(tmp_path: Path, command: Any):
    for name in ("a quote that never closes", "a column twice", "json that ends too early"):
        answer = command("fit", put(tmp_path, REFUSED[name][1], REFUSED[name][0]), "--json")
        assert answer.code == 1
        assert set(answer.json) == {"error", "found", "expected", "try", "faults"}


# ---------------------------------------------------------------- read, with nothing lost


def lines(*cells: str) -> str:
    return "".join(line + "\n" for line in cells)


READ: dict[str, tuple[str, str | bytes | Callable[[], str], int, int]] = {
    # name: (file, content, examples, left out)
    "a byte-order mark": ("t.csv", b"\xef\xbb\xbf" + ROWS.encode(), 10, 0),
    "utf-16": ("t.csv", ROWS.encode("utf-16"), 10, 0),
    "lines that end in CR alone": ("t.csv", ROWS.replace("\n", "\r"), 10, 0),
    "lines that end in CR LF": ("t.csv", ROWS.replace("\n", "\r\n"), 10, 0),
    "no end of the last line": ("t.csv", ROWS.rstrip("\n"), 10, 0),
    "blank lines between": ("t.csv", ROWS.replace("\n", "\n\n \n"), 10, 0),
    "semicolons": ("t.csv", ROWS.replace(",", ";"), 10, 0),
    "tabs under the name of csv": ("t.csv", ROWS.replace(",", "\t"), 10, 0),
    "rows that are too long": ("t.csv", ROWS + "a,b,c\na,b,\n", 10, 2),
    "rows that are too short": ("t.csv", ROWS + 'a\n""\n', 10, 1),
    "separators that change": ("t.csv", ROWS + "a;b\nc\td\n", 10, 2),
    "labels that are missing": ("t.csv", ROWS + "a,\nb, \nc,\t\n", 10, 3),
    "texts that are missing": ("t.csv", ROWS + ",a\n  ,b\n", 10, 2),
    "quotes in the header": ("t.csv", '"text","label"\n"a ""b""",x\nc,x\nd,y\n', 3, 0),
    "a header in capitals with white space": ("t.csv", " TEXT , Label \nfoo bar,x\nbaz,y\nqux,x\n", 3, 0),
    "names that Python uses": ("t.csv", "text,label,__class__,__dict__,self,None\na b,x,1,2,3,4\nc d,y,1,2,3,4\ne f,x,1,2,3,4\n", 3, 0),
    "a column without a name": ("t.csv", "text,label,,\na,x,1,2\nb,y,3,4\n", 2, 0),
    "a cell of 10 MB": ("t.csv", lambda: ROWS + "x" * 10_000_000 + ",a\n", 11, 0),
    "a label of 10 MB": ("t.csv", lambda: ROWS + "a," + "x" * 10_000_000 + "\n", 11, 0),
    "ends of lines that are none": ("t.csv", ROWS + "a\x0bb\x0cc\x1cd\u2028e\x85f,a\n", 11, 0),
    "control characters": ("t.csv", ROWS + "\x1b[2J\x07,\x1b]0;title\x07\n", 11, 0),
    "a text that is a formula": ("t.csv", ROWS + "=cmd|' /C calc'!A0,a\n", 11, 0),
    "json with ends of lines in strings": (
        "t.jsonl",
        lines('{"text": "a\u2028b\x85c", "label": "x"}', '{"text": "d", "label": "y"}'),
        2,
        0,
    ),
    "json with CR LF": ("t.jsonl", '{"text": "a", "label": "x"}\r\n{"text": "d", "label": "y"}\r\n', 2, 0),
    "json with CR alone": ("t.jsonl", '{"text": "a", "label": "x"}\r{"text": "d", "label": "y"}\r', 2, 0),
    "json with a mark": ("t.jsonl", b"\xef\xbb\xbf" + b'{"text": "a", "label": "x"}\n{"text": "d", "label": "y"}', 2, 0),
    "json lines that are none": (
        "t.jsonl",
        lines('{"text": "a", "label": "x"}', "[1]", "nope", "3", '{"a":1,"a":2}', "{", "[" * 90_000),
        1,
        6,
    ),
    "json with halves of characters": ("t.jsonl", lines('{"text": "\\ud800", "label": "\\udfff x"}', '{"text": "d", "label": "y"}'), 2, 0),
    "json with numbers beyond measure": ("t.jsonl", lines('{"text": 1e400, "label": -1e400}', '{"text": NaN, "label": Infinity}'), 2, 0),
    "json with a number of 5,000 digits": (
        "t.jsonl",
        lines('{"text": "a", "label": ' + "9" * 5_000 + "}", '{"text": "b", "label": 1}'),
        2,
        0,
    ),
    "json with zero characters": ("t.jsonl", lines('{"text": "a\\u0000b", "label": "x"}', '{"text": "b", "label": "\\u0000"}'), 2, 0),
    "json nested too deeply": ("t.jsonl", lines(*('{"text": "a", "label": ' + "[" * n + "]" * n + "}" for n in (10, 100, 100_000))), 2, 1),
    "json where keys come and go": ("t.jsonl", lines(*(f'{{"text": "t{i}", "label": "{i % 2}", "k{i}": 1}}' for i in range(200))), 200, 0),
}


@pytest.mark.parametrize("name", list(READ))
def test_a_table_that_is_read_with_nothing_lost(name: str, tmp_path: Path):
    file, content, examples, left_out = READ[name]
    dataset = open_safely(put(tmp_path, content, file), laid=examples + left_out, task="text")
    assert isinstance(dataset, Dataset), dataset
    assert (len(dataset.examples), len(dataset.left_out)) == (examples, left_out), dataset.left_out
    pass_over("text", dataset.examples)


@pytest.mark.parametrize("depth", [*range(150, 340, 10), *range(440, 520, 10), *range(900, 1_010, 10)])
def test_json_is_never_nested_too_deeply_for_an_error(depth: int, tmp_path: Path):
    line = '{"text": "a", "label": ' + '{"a":[' * depth + "]}" * depth + "}"
    open_safely(put(tmp_path, line + '\n{"text": "b", "label": "c"}\n', "t.jsonl"), laid=2)


def test_ten_thousand_columns(tmp_path: Path, refused: Callable[..., str]):
    names = [f"column {i}" for i in range(10_000)]
    rows = [",".join(str((i * k) % 7) for i in range(10_000)) for k in range(1, 30)]
    path = put(tmp_path, lines(",".join(names), *rows))
    assert len(refused("fit", path, "--label", "nowhere")) < 4_000
    assert isinstance(open_safely(path, laid=29, input="column 3", label="column 4"), Dataset)
    assert len(refused("fit", put(tmp_path, lines(",".join(names), ","), "u.csv"))) < 4_000


@pytest.mark.parametrize(
    ("name", "row"), [("t.csv", "a,b\n"), ("t.csv", "😀,b\n"), ("t.csv", "text,label\n"), ("t.jsonl", '{"a":1}\n'), ("t.tsv", "a\tb\n")]
)
def test_small_rows_without_end(name: str, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So many rows take about 1 GB as examples; a tenth of them shows that they are counted."""
    monkeypatch.setattr(base, "ROW_LIMIT", base.ROW_LIMIT // 10)
    assert "more than 200,000 rows" in str(open_safely(put(tmp_path, row * 200_010, name)))


def test_a_row_of_millions_of_lines(tmp_path: Path):
    assert "a row has more than" in str(open_safely(put(tmp_path, lambda: "text,label\n" + '"x\n",' * 5_000_000)))


def test_cells_that_take_more_memory_than_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "HELD_LIMIT", 1_000_000)
    wide = lines("text,label", *(f"😀{'x' * 500}{i},b" for i in range(800)))
    assert len(wide.encode()) < 1_000_000
    for name, content in (
        ("t.csv", wide),
        ("t.jsonl", lines(*(json.dumps({"text": f"😀{'x' * 500}{i}", "label": "b"}, ensure_ascii=False) for i in range(800)))),
        ("t.parquet", parquet_of({"text": [f"😀{'x' * 500}{i}" for i in range(800)], "label": ["b"] * 800})),
    ):
        with pytest.raises(DataError, match="of memory"):
            read_table(put(tmp_path, content, name))


def test_many_different_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsonl, "CELL_LIMIT", 10_000)
    path = put(tmp_path, lines(*(f'{{"text": "a", "k{i}": 1}}' for i in range(200))), "t.jsonl")
    assert "different keys" in str(open_safely(path))


def test_a_parquet_of_more_cells_than_memory_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = put(tmp_path, parquet_of({f"c{i}": [1] * 5_000 for i in range(200)}), "t.parquet")
    monkeypatch.setattr(parquet, "CELL_LIMIT", 100_000)
    assert "cells in 200 columns" in str(open_safely(path))


def test_a_parquet_of_so_many_rows(tmp_path: Path):
    """A few kilobytes: equal values are held as a count."""
    path = put(tmp_path, parquet_of({"text": ["a word"] * (base.ROW_LIMIT + 1), "label": ["x"] * (base.ROW_LIMIT + 1)}), "t.parquet")
    assert path.stat().st_size < 100_000
    assert "rows" in str(open_safely(path))
    path = put(tmp_path, parquet_of({"text": ["a word"] * 500_000, "label": ["x", "y"] * 250_000}), "t.parquet")
    assert isinstance(open_safely(path, laid=500_000), Dataset)


@pytest.mark.parametrize("columns", [{"text": ["a"], " text": ["b"], "label": ["x"]}, {"label": [1.0, None], "label ": [2, 3]}])
def test_parquet_columns_that_differ_by_white_space(columns: dict[str, Any], tmp_path: Path):
    assert "more than once" in str(open_safely(put(tmp_path, parquet_of(columns), "t.parquet")))


WHOLE: dict[str, Callable[[], bytes]] = {
    "t.csv": lambda: ROWS.encode(),
    "t.jsonl": lambda: b"".join(b'{"text": "words %d", "label": "%d"}\n' % (i, i % 2) for i in range(10)),
    "t.parquet": lambda: parquet_of({"text": [f"words {i}" for i in range(10)], "label": ["a", "b"] * 5}),
    "t.xlsx": lambda: xlsx([["text", "label"], *([f"words {i}", "ab"[i % 2]] for i in range(10))]),
}


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("name", list(WHOLE))
def test_a_table_that_is_cut_off(name: str, tenths: int, tmp_path: Path):
    whole = WHOLE[name]()
    open_safely(put(tmp_path, whole[: len(whole) * tenths // 10], name))


@pytest.mark.parametrize("name", list(WHOLE))
@HOSTILE
@given(changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_table_with_other_bytes(name: str, tmp_path: Path, changes: list[tuple[int, int]]):
    content = bytearray(WHOLE[name]())
    for place, value in changes:
        content[place % len(content)] = value
    open_safely(put(tmp_path, bytes(content), name))


ZIP_PARTS = ("xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml", "xl/workbook.xml", "[Content_Types].xml")
BAD_XML = {
    "entities": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>',
    "an outside entity": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x>&a;</x>',
    "nested without end": b"<a>" * 100_000,
    "nothing": b"",
    "zeros": bytes(9_000),
}


@pytest.mark.parametrize("what", list(BAD_XML))
@pytest.mark.parametrize("part", ZIP_PARTS)
def test_a_workbook_with_a_harmful_part(part: str, what: str, tmp_path: Path):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE["t.xlsx"]())) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, BAD_XML[what] if member.filename == part else source.read(member))
        if part not in source.namelist():
            target.writestr(part, BAD_XML[what])
    open_safely(put(tmp_path, out.getvalue(), "t.xlsx"))


def test_a_workbook_that_unfolds(tmp_path: Path):
    path = put(tmp_path, WHOLE["t.xlsx"](), "t.xlsx")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as target, target.open("xl/media/x.xml", "w") as part:
        for _ in range(520):
            part.write(bytes(1 << 20))
    assert path.stat().st_size < 2_000_000
    assert "unfolds to" in str(open_safely(path))


CELLS = st.text(alphabet=st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ["", " ", "nan", "1e999", "\x1b[31m", '"', "a,b", "\ud800"]
)


@HOSTILE
@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=9))
def test_any_cells_in_json(rows: list[list[str]], tmp_path: Path):
    content = lines(*(json.dumps(dict(zip(("text", "label"), row, strict=True))) for row in rows))
    found = open_safely(put(tmp_path, content, "t.jsonl"), laid=len(rows), input="text", label="label")
    if isinstance(found, Dataset):
        pass_over("text", found.examples)


# ---------------------------------------------------------------- labels


def labelled(folder: Path, labels: list[str], **more: Any) -> Any:
    rows = [{"text": f"some words {i}", "label": label} for i, label in enumerate(labels)]
    path = put(folder, lines(*(json.dumps(row) for row in rows)), "t.jsonl")
    try:
        found = open_labelled(FitSpec(data=str(path), label="label", input="text", **more), path, None)
    except RegraftError as error:
        check_error(error)
        return error
    check_left_out(found.dataset.left_out)
    assert len(found.values) == len(found.dataset.examples)
    assert len(found.dataset.examples) + len(found.dataset.left_out) == len(labels)
    for said in (*found.target.remarks(found.train_cells, balanced=False), found.target.described(found.train_cells), found.how):
        assert isinstance(said, str)
    return found


@pytest.mark.parametrize("target", [None, "class", "number", "multilabel"])
@pytest.mark.parametrize(
    "labels",
    [
        ["1", "2.5", "nan", "inf", "-inf", "1e999", "3", "4"] * 4,
        ["nan"] * 8,
        ["inf", "-inf"] * 8,
        ["1", "ant", "2", "bee", "true", "None", "[]"] * 4,
        ["1e308", "-1e308", "1e-320", "0"] * 5,
        ["1_000", "1,000", "0x10", "١٢", "½"] * 5,
        [" ", "", "\t", "\u3000"] * 5,
        ["ant", "", "bee", None] * 5,
        ["a"] * 20,
        [f"name {i}" for i in range(20)],
        ["[[[", "{}", '["a", "b"]', "a;b;c", "a|b"] * 5,
        ["x" * 100_000, "y" * 100_000] * 5,
        ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "a\nb", "\u202egnp.exe"] * 5,
        ["\ud800", "\udfff", "a"] * 5,
        [str(i / 7) for i in range(90)] + ["nan", "text", "1e400"],
    ],
    ids=lambda labels: "".join(c if c.isalnum() else "." for c in str(labels[0])[:8]) + f"-{len(labels)}-{len(set(labels))}",
)
def test_labels_that_are_hard_to_take(labels: list[str], target: str | None, tmp_path: Path):
    labelled(tmp_path, labels, target=target)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Ant", "ant", "bee"] * 5, "'Ant' (5) and 'ant' (5)"),
        (["ant bee", "ant  bee", "ox"] * 5, "'ant  bee' (5)"),
        (["straße", "STRASSE", "ox"] * 5, "'STRASSE' (5)"),
        ([" ant", "ant ", "bee"] * 5, ""),
    ],
)
def test_labels_that_differ_in_case_or_white_space_only_are_said(labels: list[str], said: str, tmp_path: Path):
    found = labelled(tmp_path, labels)
    remarks = " ".join(found.target.remarks(found.train_cells, balanced=False))
    assert said in remarks
    assert ("differ in case or white space only" in remarks) == bool(said)


@HOSTILE
@given(
    labels=st.lists(
        st.sampled_from(["a", "A", " a", "1", "1.0", "nan", "inf", "", "a,b", "[]", "\x1b"]) | st.text(max_size=3), min_size=2, max_size=12
    )
)
def test_any_labels(labels: list[str], tmp_path: Path):
    labelled(tmp_path, labels)


def test_commands_to_the_terminal_do_not_reach_it(tmp_path: Path, refused: Callable[..., str], command: Any):
    evil = "\x1b]0;title\x07\x1b[31m"
    for rows in ([f"a {evil} b,{evil}x"] * 3, [f"w{i} {evil},{evil}" for i in range(5)], [f"w,{evil}", f"v,{evil}2"]):
        refused("fit", put(tmp_path, lines("text,label", *rows)))
        refused("fit", put(tmp_path, lines(f"te{evil}xt,label", *rows)), "--label", evil)
    refused("fit", put(tmp_path, ROWS, f"{evil}.csv"), "--label", "x")
    refused("fit", tmp_path / f"{evil}-nowhere")
    refused("fit", "a\u202eb")
    refused("show", evil)
    refused("predict", evil, evil)
    answer = command("fit", tmp_path / f"{evil}-nowhere", "--json")
    assert not RAW.search(answer.out.replace("\n", ""))


def test_what_is_shown_during_a_fit_is_printable(capsys: pytest.CaptureFixture[str]):
    from regraft.cli.render import Screen, confusion_table, console, show
    from regraft.events import Done, Said, Warned

    evil = "\x1b[31mred\x07\x9b2J"
    with Screen() as screen:
        for event in (Said(evil), Warned(f"one\n{evil}"), Done("features", 1.0, evil)):
            screen(event)
    show(console(), evil, confusion_table({"labels": [evil, "b"], "rows": [[1, 2], [3, 4]]}))
    for text in capsys.readouterr():
        check_text(text, keep="\n")


# ---------------------------------------------------------------- paths in tables

PATHS: dict[str, tuple[str, bool]] = {
    # cell: (why it is left out, whether --allow-outside lets it)
    "../secret.png": ("leaves the table's folder", True),
    "a/../../secret.png": ("leaves the table's folder", True),
    "./../secret.png": ("leaves the table's folder", True),
    "../t/../secret.png": ("leaves the table's folder", True),
    "a/b/../../../secret.png": ("leaves the table's folder", True),
    "http://localhost/x.png": ("opens no connection", False),
    "https://example.org/x.png": ("opens no connection", False),
    "s3://bucket/x.png": ("opens no connection", False),
    "file:///etc/x.png": ("opens no connection", False),
    "~/x.png": ("there is no such file", False),
    "nowhere.png": ("there is no such file", False),
    "folder.png": ("not a plain file", False),
    "a\x00b.png": ("there is no such file", False),
    "a\nb.png": ("there is no such file", False),
    "x" * 300 + ".png": ("cannot be opened", False),
    "text.png/inside.png": ("there is no such file", False),
    "text.png": ("not an image", False),
    "\x1b[2J.png": ("there is no such file", False),
    "\ud800.png": ("there is no such file", False),
    "C:\\x.png": ("there is no such file", False),
    "x.png ": ("", False),
    "a/../x.png": ("", False),
    "./x.png": ("", False),
    "{folder}/x.png": ("", False),
    "{folder}/../secret.png": ("", False),
}


@pytest.mark.parametrize("cell", list(PATHS))
def test_a_path_in_a_table(cell: str, tmp_path: Path):
    from PIL import Image

    folder = tmp_path / "t"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "folder.png").mkdir()
    put(folder, "no image", "text.png")
    for place in (folder / "x.png", tmp_path / "secret.png"):
        Image.new("RGB", (4, 4)).save(place)
    reason, allowed = PATHS[cell]
    rows = [{"image": name.replace("{folder}", str(folder)), "label": label} for name, label in ((cell, "a"), ("x.png", "b"))]
    path = put(folder, lines(*(json.dumps(row) for row in rows)), "t.jsonl")
    for outside in (False, True):
        dataset = open_safely(path, laid=2, task="image", allow_outside=outside)
        assert isinstance(dataset, Dataset)
        left_out = [*dataset.left_out, *pass_over("image", dataset.examples)]
        reasons = [item.reason for item in left_out]
        if reason and not (outside and allowed):
            assert len(reasons) == 1 and reason in reasons[0], reasons
        else:
            assert not reasons


# ---------------------------------------------------------------- saved data sets


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"text": [f"words {i}" for i in range(8)], "label": ["a", "b"] * 4})
    datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


SAVED = ("dataset_dict.json", "train/dataset_info.json", "train/state.json", "train/data-00000-of-00001.arrow")
HARM: dict[str, bytes | None] = {
    "gone": None,
    "nothing": b"",
    "zeros": bytes(3_000),
    "brackets": b"[" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "wrong kinds": b'{"splits": 3, "_data_files": [{"filename": 3}], "features": [1]}',
    "names that leave": b'{"splits": ["../x", "/etc", "a\\u0000b"], "_data_files": [{"filename": "../../x.arrow"}], "features": {}}',
    "names with commands": b'{"splits": ["\\u001b[2J"], "_data_files": [{"filename": "\\u001b[2J"}], "features": {}}',
    "latin-1": '{"splits": "süß"}'.encode("latin-1"),
}


@pytest.mark.parametrize("harm", list(HARM))
@pytest.mark.parametrize("file", SAVED)
def test_a_saved_data_set_with_a_harmed_file(file: str, harm: str, saved: Path):
    content = HARM[harm]
    (saved / file).unlink()
    if content is not None:
        (saved / file).write_bytes(content)
    open_safely(saved)


@pytest.mark.parametrize("tenths", range(0, 10))
def test_a_saved_data_set_that_is_cut_off(tenths: int, saved: Path):
    path = saved / SAVED[3]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenths // 10])
    open_safely(saved)


@HOSTILE
@given(changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_saved_data_set_with_other_bytes(saved: Path, changes: list[tuple[int, int]]):
    path = saved / SAVED[3]
    whole = path.read_bytes()
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(bytes(content))
    try:
        open_safely(saved)
    finally:
        path.write_bytes(whole)


# ---------------------------------------------------------------- objects in memory

OBJECTS: list[Any] = [
    [],
    [()],
    [("a",)],
    [("a", "b", "c")],
    [None, 3],
    [("a", None), (None, "b"), (float("nan"), "c")],
    [("some words", "\ud800"), ("\udfff", "b")],
    [("some words", {"a": 1}), ("more", {"a": 2})],
    [("some words", object()), ("more", object())],
    [("some words", b"bytes"), ("more", b"other")],
    [("some words", float("inf")), ("more", float("nan")), ("most", 1)],
    [("\x1b[2J", "\x1b[31m"), ("b", "c")],
    [("a\0b.png", "x"), ("c.png", "y")],
    [(Path("../../x.png"), "x"), (Path("/nowhere.png"), "y")],
    [("", "x"), (" ", "y")],
    {"a": [1]},
    "",
    "a\0b",
    "x" * 5_000,
    b"bytes",
    3,
    None,
]


@pytest.mark.parametrize("number", range(len(OBJECTS)))
def test_an_object_that_is_no_data_set(number: int):
    source = OBJECTS[number]
    found = open_safely(source, laid=len(source) if isinstance(source, list) else None)
    if isinstance(found, Dataset):
        pass_over(found.task, found.examples)


FRAMES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda pd: pd.DataFrame(),
    "columns alone": lambda pd: pd.DataFrame({"text": [], "label": []}),
    "a column twice": lambda pd: pd.DataFrame([["a", "b", "c"]], columns=["text", "label", "label"]),
    "numbers as names": lambda pd: pd.DataFrame([["some words", "b"], ["more words", "c"]]),
    "levels of names": lambda pd: pd.DataFrame([["a", "b"]], columns=pd.MultiIndex.from_tuples([("text", "x"), ("label", "y")])),
    "missing everywhere": lambda pd: pd.DataFrame({"text": [None, float("nan"), pd.NA], "label": [None, pd.NaT, "a"]}),
    "mixed labels": lambda pd: pd.DataFrame({"text": ["a b", "c d", "e f", "g h"], "label": [1, "1", 1.0, True]}),
    "infinite labels": lambda pd: pd.DataFrame({"text": ["a b", "c d", "e f"], "label": [float("inf"), float("nan"), 1.0]}),
    "dates": lambda pd: pd.DataFrame({"text": ["a b", "c d"], "label": pd.to_datetime(["2020-01-01", None])}),
    "categories": lambda pd: pd.DataFrame({"text": ["a b", "c d"], "label": pd.Categorical(["x", None], categories=["x", "unused"])}),
    "an index of its own": lambda pd: pd.DataFrame({"text": ["a b", "c d"], "label": ["x", "y"]}, index=[7, 7]),
    "objects": lambda pd: pd.DataFrame({"text": ["a b", "c d"], "label": [object(), {"a": 1}]}),
}


@pytest.mark.parametrize("name", list(FRAMES))
def test_a_frame_that_is_odd(name: str):
    frame = FRAMES[name](pytest.importorskip("pandas"))
    found = open_safely(frame, laid=len(frame))
    if isinstance(found, Dataset):
        pass_over(found.task, found.examples)
