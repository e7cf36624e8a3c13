"""Excel workbooks: cells as text, the first sheet, and files made to harm."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.data.formats import excel, read_table
from regraft.data.open import open_data
from regraft.errors import DataError
from regraft.jobs.common import asked

openpyxl = pytest.importorskip("openpyxl")


def workbook(path: Path, *sheets: list[list[Any]], titles: tuple[str, ...] = ()) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(titles[number] if titles else f"s{number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def changed(path: Path, part: str, change: Callable[[bytes], bytes]) -> Path:
    """The workbook with one part of its zip changed."""
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts[part] = change(parts[part])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in parts.items():
            new.writestr(name, content)
    return path


def as_excel_saves(path: Path) -> Path:
    """The workbook with its texts in a part of their own, as Excel writes them; openpyxl may leave them in the cells."""
    with zipfile.ZipFile(path) as archive:
        if STRINGS in archive.namelist():
            return path
    texts: list[bytes] = []

    def shared(found: re.Match[bytes]) -> bytes:
        texts.append(found[2])
        return b'<c r="' + found[1] + b'" t="s"><v>' + str(len(texts) - 1).encode() + b"</v></c>"

    inline = re.compile(rb'<c r="(\w+)" t="inlineStr"><is><t>(.*?)</t></is></c>')
    changed(path, SHEET, lambda xml: inline.sub(shared, xml))
    kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    told = b'<Override PartName="/' + STRINGS.encode() + b'" ContentType="' + kind + b'"/></Types>'
    changed(path, "[Content_Types].xml", lambda xml: xml.replace(b"</Types>", told))
    table = b"".join(b"<si><t>" + text + b"</t></si>" for text in texts)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(STRINGS, b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">' + table + b"</sst>")
    return path


ROWS = [["text", "label"], ["good", "pos"], ["bad", "neg"], ["fine", "pos"]]
SHEET, STRINGS = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (7, "7"),
        (0.1234567890123, "0.1234567890123"),
        (123456789012345, "123456789012345"),
        (True, "true"),
        (False, "false"),
        (datetime.datetime(2024, 1, 2), "2024-01-02"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(hours=30), "30:00:00"),
        (None, ""),
        ("007", "007"),
        ("#N/A", ""),
        ("süß", "süß"),
    ],
    ids=str,
)
def test_a_cell_as_text(tmp_path: Path, value: Any, text: str):
    table = read_table(workbook(tmp_path / "t.xlsx", [["a", "b"], [value, "x"]]))
    assert table.rows == [("row 2", [text, "x"])]


def test_a_formula_is_its_stored_value(tmp_path: Path):
    path = workbook(tmp_path / "t.xlsx", [["text", "n"], ["a", "=1+1"], ["b", "=2+2"]])
    stored = re.compile(rb"(<f>1\+1</f>)<v ?/>|(<f>1\+1</f>)<v></v>")
    changed(path, SHEET, lambda xml: stored.sub(rb"<f>1+1</f><v>2</v>", xml))
    assert [cells for _, cells in read_table(path).rows] == [["a", "2"], ["b", ""]]


def test_the_first_sheet_that_is_shown_is_read_and_this_is_said(tmp_path: Path):
    path = workbook(tmp_path / "t.xlsx", [["hidden"], ["x"]], ROWS, [["other"]], titles=("notes", "data", "old"))
    book = openpyxl.load_workbook(path)
    book["notes"].sheet_state = "hidden"
    book.save(path)
    dataset = open_data(path, asked(None, None, None))
    assert [e.label for e in dataset.examples] == ["pos", "neg", "pos"]
    assert dataset.said[0] == "t.xlsx has 3 sheets: data is read, notes, old not. Save another sheet as a file to use it"


def test_blank_rows_are_passed_over_and_places_are_the_sheet_s(tmp_path: Path):
    table = read_table(workbook(tmp_path / "t.xlsx", [[], ["text", "label"], [], ["a", "x"], ["", " "], ["b", "y"]]))
    assert table.header == ["text", "label"]
    assert table.rows == [("row 4", ["a", "x"]), ("row 6", ["b", "y"])]


def test_a_cell_beyond_the_header_is_named(tmp_path: Path):
    dataset = open_data(workbook(tmp_path / "t.xlsx", [*ROWS, ["a", "pos", None, "odd"]]), asked(None, None, None))
    assert [(item.name, "4 cells" in item.reason) for item in dataset.left_out] == [("t.xlsx, row 5", True)]


def test_a_header_that_names_a_column_twice(tmp_path: Path):
    with pytest.raises(DataError, match="'text' occurs more than once"):
        read_table(workbook(tmp_path / "t.xlsx", [["text", "text"], ["a", "b"]]))


@pytest.mark.parametrize("rows", [[], [[]], [["", " "]]])
def test_an_empty_sheet(tmp_path: Path, rows: list[list[Any]]):
    with pytest.raises(DataError, match="is empty"):
        read_table(workbook(tmp_path / "t.xlsx", rows))


# ---------------------------------------------------------------- files that are damaged, or made to harm


def refused(path: Path, words: str) -> None:
    with pytest.raises(DataError) as raised:
        read_table(path)
    assert words in str(raised.value) and str(path) in raised.value.found
    assert "Traceback" not in str(raised.value) and raised.value.move


def test_no_zip(tmp_path: Path):
    (tmp_path / "t.xlsx").write_bytes(b"text,label\na,b\n")
    refused(tmp_path / "t.xlsx", "is not an Excel workbook")


def test_one_with_a_password(tmp_path: Path):
    (tmp_path / "t.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    refused(tmp_path / "t.xlsx", "protected by a password")


def test_a_zip_with_a_password(tmp_path: Path):
    path = workbook(tmp_path / "t.xlsx", ROWS)
    content = bytearray(path.read_bytes())
    for at in (m.start() for m in re.finditer(b"PK\x01\x02", content)):
        content[at + 8] |= 1
    path.write_bytes(content)
    refused(path, "protected by a password")


def test_one_that_is_cut_off(tmp_path: Path):
    whole = workbook(tmp_path / "t.xlsx", ROWS).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.xlsx").write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_table(tmp_path / "cut.xlsx")


def test_one_with_other_bytes_in_it(tmp_path: Path):
    """Anything but a plain error is a fault; the places are spread over the whole file."""
    whole = workbook(tmp_path / "t.xlsx", ROWS).read_bytes()
    for place in range(0, len(whole), 61):
        (tmp_path / "odd.xlsx").write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            read_table(tmp_path / "odd.xlsx")
        except DataError as error:
            assert "Traceback" not in str(error)


@pytest.mark.parametrize("part", [SHEET, "xl/workbook.xml", "[Content_Types].xml", "xl/styles.xml", STRINGS])
@pytest.mark.parametrize("content", [b"", b"<a>", b"<a/>", b"\xff\xfe\x00"])
def test_a_part_that_is_damaged(tmp_path: Path, part: str, content: bytes):
    path = changed(as_excel_saves(workbook(tmp_path / "t.xlsx", ROWS)), part, lambda old: content)
    if (part, content) == ("xl/styles.xml", b"<a/>"):
        assert len(read_table(path).rows) == 3, "a workbook without styles is whole"
        return
    with pytest.raises(DataError):
        read_table(path)


def test_a_sheet_that_is_missing(tmp_path: Path):
    path = workbook(tmp_path / "t.xlsx", ROWS)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist() if name != SHEET}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    with pytest.raises(DataError, match="no sheet with cells"):
        read_table(path)


def test_a_zip_bomb_is_refused_by_its_declared_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = workbook(tmp_path / "t.xlsx", ROWS)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/big.bin", bytes(3_000_000))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(excel, "SIZE_LIMIT", 2_000_000)
    refused(path, "unfolds to 2 MB")


def test_a_declared_size_that_is_a_lie_is_damage(tmp_path: Path):
    path = workbook(tmp_path / "t.xlsx", ROWS)
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo(SHEET).file_size
    content = path.read_bytes().replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_table(path)


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("part", [SHEET, STRINGS, "xl/workbook.xml", "xl/styles.xml"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_that_defines_entities_is_refused(tmp_path: Path, part: str, encoding: str):
    def laugh(old: bytes) -> bytes:
        text = re.sub(r"^<\?xml.*?\?>", "", old.decode("utf-8"))
        return f'<?xml version="1.0" encoding="{encoding}"?>{LAUGHS.decode()}{text}'.encode(encoding)

    refused(changed(as_excel_saves(workbook(tmp_path / "t.xlsx", ROWS)), part, laugh), "XML entities")


def test_a_sheet_that_declares_all_that_excel_could_hold(tmp_path: Path):
    path = changed(
        workbook(tmp_path / "t.xlsx", ROWS), SHEET, lambda xml: re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:XFD1048576"', xml)
    )
    assert len(read_table(path).rows) == 3


def test_a_cell_in_the_last_corner_costs_no_memory(tmp_path: Path):
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "text", "x"
    book.save(tmp_path / "t.xlsx")
    dataset_rows = read_table(tmp_path / "t.xlsx").rows
    assert [place for place, _ in dataset_rows] == ["row 1048576"]


def test_rows_numbered_beyond_what_excel_has(tmp_path: Path):
    xml = b'<row r="999999999999"><c r="A999999999999"><v>1</v></c></row></sheetData>'
    path = changed(workbook(tmp_path / "t.xlsx", ROWS), SHEET, lambda old: old.replace(b"</sheetData>", xml))
    refused(path, "beyond 1,048,576")


def test_too_many_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(excel, "CELL_LIMIT", 100)
    path = workbook(tmp_path / "t.xlsx", [["text", "label"], *([["a", "b"] + [None] * 20 + ["c"]] * 9)])
    refused(path, "more than 100 cells")


def scattered(count: int) -> bytes:
    return b"<si/>" * count


def test_elements_that_would_fill_memory_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows are let go one by one: a large sheet passes, the same number of elements elsewhere does not."""
    monkeypatch.setattr(excel, "ELEMENT_LIMIT", 1000)
    rows = [["text", "label"], *[[f"text {i}", "ab"[i % 2]] for i in range(150)]]
    path = workbook(tmp_path / "t.xlsx", rows)
    assert len(read_table(path).rows) == 150
    long = as_excel_saves(workbook(tmp_path / "s.xlsx", ROWS))
    refused(changed(long, STRINGS, lambda xml: xml.replace(b"</sst>", scattered(2000) + b"</sst>")), "more than 1,000 XML elements")
    wide = workbook(tmp_path / "w.xlsx", ROWS)
    refused(changed(wide, SHEET, lambda xml: xml.replace(b"</row>", b"<c/>" * 2000 + b"</row>", 1)), "more than 1,000 XML elements")


def test_a_part_that_pretends_to_be_a_sheet_is_counted_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(excel, "ELEMENT_LIMIT", 1000)
    main = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    disguised = main + (b"<row>" + scattered(400) + b"</row>") * 9 + b"</sheetData></worksheet>"
    path = as_excel_saves(workbook(tmp_path / "t.xlsx", ROWS))
    refused(changed(path, STRINGS, lambda xml: disguised), "more than 1,000 XML elements")


def test_a_name_space_that_every_name_would_repeat(tmp_path: Path):
    long = b'<sheetData xmlns:q="' + b"q" * 5000 + b'">'
    refused(changed(workbook(tmp_path / "t.xlsx", ROWS), SHEET, lambda xml: xml.replace(b"<sheetData>", long)), "name space")


def test_texts_where_excel_keeps_them(tmp_path: Path):
    path = as_excel_saves(workbook(tmp_path / "t.xlsx", ROWS))
    assert [cells for _, cells in read_table(path).rows] == ROWS[1:]


def test_without_openpyxl_the_install_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    path = workbook(tmp_path / "t.xlsx", ROWS)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(Exception, match=r"pip install 'regraft\[excel\]'"):
        read_table(path)


def test_pictures_in_a_workbook_are_passed_over(tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    content = io.BytesIO()
    image.new("RGB", (4, 4)).save(content, "PNG")
    path = workbook(tmp_path / "t.xlsx", ROWS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/media/image1.png", content.getvalue())
    assert len(read_table(path).rows) == 3
