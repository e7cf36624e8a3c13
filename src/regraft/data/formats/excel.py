"""Excel workbooks (.xlsx, .xlsm), through openpyxl: the first sheet that is shown, as the values that were stored."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.parsers import expat

from regraft.data.formats.base import SIZE_LIMIT, Table, TableFormat, cell_text, check_header, check_size
from regraft.errors import DataError, MissingExtra

ROW_LIMIT = 1_048_576
"""Rows of a sheet, Excel's own bound; a damaged file may number its rows beyond it, and each missing one would be made up."""

CELL_LIMIT = 20_000_000
"""Cells held in memory, the empty ones between others counted."""

ELEMENT_LIMIT = 5_000_000
"""XML elements that stand in memory at once; 5 bytes of a file become about 100 of them."""

NAME_LIMIT = 1_000
"""Characters of a name space: every name inside it repeats them."""

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"
_MANIFEST = "[Content_Types].xml"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def read(path: Path) -> Table:
    """The first row that is not blank is the header. Formulas give the value that was stored, errors in cells nothing.

    What the file unfolds to is looked at before it is read. Raises DataError, MissingExtra without openpyxl.
    """
    try:
        import openpyxl
    except ImportError:
        raise MissingExtra("reading Excel needs openpyxl", move="pip install 'regraft[excel]'") from None
    check_size(path)
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive, warnings.catch_warnings():
            # openpyxl warns of charts and rules that it does not know; none of them is read here
            warnings.simplefilter("ignore")
            _check(path, archive)
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            try:
                return _table(path, book)
            finally:
                book.close()
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} {_not_a_zip(path, error)}", move="save it again as .xlsx, or as CSV") from None
    except MemoryError:
        raise DataError(f"{path} is too large for the memory there is", move="save it as CSV, or split it") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # openpyxl raises whatever a damaged part makes it raise
        text = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise DataError(f"{path} is not an Excel workbook that can be read ({text})", move="save it again as .xlsx, or as CSV") from None


def _not_a_zip(path: Path, error: Exception) -> str:
    with open(path, "rb") as file:
        if file.read(8) == _OLE:
            return "is protected by a password, or an old .xls under another name"
    return f"is not an Excel workbook, or only a part of one ({error})"


def _table(path: Path, book: Any) -> Table:
    sheets = book.worksheets
    if not sheets:
        raise DataError(f"{path} has no sheet with cells", expected="a header row and one row per example")
    sheet = next((s for s in sheets if s.sheet_state == "visible"), sheets[0])
    said = []
    if len(sheets) > 1:
        others = ", ".join(s.title for s in sheets if s is not sheet)
        said.append(f"{path.name} has {len(sheets)} sheets: {sheet.title} is read, {others} not. Save another sheet as a file to use it")
    # the size that a sheet declares may be all that Excel could hold
    sheet.reset_dimensions()
    header: list[str] = []
    rows: list[tuple[str, list[str]]] = []
    held = 0
    for number, row in enumerate(sheet.rows, 1):
        if number > ROW_LIMIT:
            raise DataError(f"{path} numbers its rows beyond {ROW_LIMIT:,}", expected="at most so many, as Excel itself", move="split it")
        cells = _cells(row)
        if not cells:
            continue
        if not header:
            header = [name.strip() for name in cells]
            check_header(path, header)
            continue
        cells += [""] * (len(header) - len(cells))
        held += len(cells)
        if held > CELL_LIMIT:
            found = f"{path} has more than {CELL_LIMIT:,} cells in {len(rows) + 1:,} rows"
            raise DataError(found, expected="a column or two that matter", move="delete the other columns, or save it as CSV")
        rows.append((f"row {number}", cells))
    if not header:
        raise DataError(f"{path} is empty", expected="a header row and one row per example")
    return Table(header, rows, said=said)


def _cells(row: Sequence[Any]) -> list[str]:
    """The cells of a row as text, up to the last one that holds something."""
    cells = ["" if cell.data_type == "e" else _text(cell.value) for cell in row]
    while cells and not cells[-1].strip():
        cells.pop()
    return cells


def _text(value: Any) -> str:
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    return cell_text(value)


# ---------------------------------------------------------------- before anything is read


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse what would not fit in memory once unfolded, and XML that defines entities, whose text can grow without bound."""
    members = archive.infolist()
    if any(member.flag_bits & 1 for member in members):
        raise DataError(f"{path} is protected by a password", move="save it without one")
    # the sizes that a zip declares are believed: reading a member never gives more than its own
    unfolded = sum(member.file_size for member in members)
    if unfolded > SIZE_LIMIT:
        found = f"{path} unfolds to {unfolded >> 20:,} MB"
        raise DataError(found, expected=f"at most {SIZE_LIMIT >> 20} MB", move="remove pictures and sheets that nobody needs, or split it")
    kinds: dict[str, list[str]] = {}
    for member in sorted(members, key=lambda m: m.filename != _MANIFEST):
        by_rows = kinds.get("/" + member.filename) == [_SHEET_TYPE] and member.filename.startswith("xl/worksheets/")
        scan = _Scan(path, member.filename, by_rows and not member.filename.endswith(".rels"), kinds)
        with archive.open(member) as part:
            scan(part)


class _Scan:
    """Counts the elements of one part that would stand in memory at once, and refuses entities."""

    def __init__(self, path: Path, name: str, by_rows: bool, kinds: dict[str, list[str]]) -> None:
        self._where, self._by_rows, self._kinds = f"{path}, {name}", by_rows, kinds
        self._manifest = name == _MANIFEST
        self._depth = self._standing = self._of_row = 0
        self._in_row = False

    def __call__(self, part: Any) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = self._refuse_entities
        parser.StartNamespaceDeclHandler = self._check_name
        try:
            while block := part.read(1 << 20):
                parser.Parse(block, False)
        except expat.ExpatError:
            # a picture, or damaged: what reads this part stops at the same place
            return

    def _refuse_entities(self, *facts: Any) -> None:
        found = f"{self._where} defines its own XML entities or document type"
        raise DataError(found, expected="a workbook as Excel writes it, without them", move="save it again as .xlsx, or as CSV")

    def _check_name(self, prefix: str | None, name: str | None) -> None:
        if len(name or "") > NAME_LIMIT:
            raise DataError(f"{self._where} has an XML name space of {len(name or ''):,} characters", move="save it again as .xlsx")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._by_rows and self._depth == 3:
            # a row of a sheet is let go when it has been read
            self._in_row, self._of_row = name == f"{_MAIN} row", 0
        if self._in_row:
            self._of_row += 1
        else:
            self._standing += 1
        if self._standing + self._of_row > ELEMENT_LIMIT:
            found = f"{self._where} has more than {ELEMENT_LIMIT:,} XML elements to hold at once"
            raise DataError(found, expected="a table", move="save it as CSV")
        if self._manifest and "PartName" in attributes:
            self._kinds.setdefault(attributes["PartName"], []).append(attributes.get("ContentType", ""))

    def _end(self, name: str) -> None:
        if self._depth == 3:
            self._in_row, self._of_row = False, 0
        self._depth -= 1


FORMAT = TableFormat("excel", "Excel, through openpyxl (the extra regraft[excel])", (".xlsx", ".xlsm"), read)
