"""A table (CSV, TSV, JSON Lines, Parquet, Excel): a column of texts or of paths, one of labels; or a folder that holds train.csv."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regraft.data.base import SPLITS, TEST, TRAIN, Asked, Dataset, Example, Reader, ignored, listed, start_of
from regraft.data.columns import choose_columns, label_cells, label_columns, marking_columns, weight_of
from regraft.data.formats import endings, format_of, read_table
from regraft.errors import DataError
from regraft.facts import LeftOut


def table_files(folder: Path) -> dict[str, Path]:
    """The tables of a folder as split -> file: train.csv (or .jsonl, .parquet) with val and test, or a single table as train."""
    try:
        tables = sorted(p for p in folder.iterdir() if p.suffix.lower() in endings() and p.is_file() and not ignored(p.name))
    except OSError:
        return {}
    named = {SPLITS[p.stem.lower()]: p for p in tables if p.stem.lower() in SPLITS}
    if "train" in named:
        return {split: named[split] for split in ("train", "val", "test") if split in named}
    folders = any(p.is_dir() and not ignored(p.name) for p in folder.iterdir())
    return {"train": tables[0]} if len(tables) == 1 and not folders else {}


def fits(source: Any) -> bool:
    """A file that holds a table, or a folder with train.csv (or the like), or with one table and no folders."""
    if not isinstance(source, Path):
        return False
    if source.is_dir():
        return bool(table_files(source))
    return source.is_file() and format_of(source) is not None


def read(source: Path, asked: Asked) -> Dataset:
    """One table, or the tables train, val and test of a folder, each row an example."""
    files = table_files(source) if source.is_dir() else {"train": source}
    held = "test" if "test" in files else "val" if "val" in files else ""
    said: list[str] = []
    if held == "val":
        said.append(f"{files['val'].name} is treated as the test part: there is no test table")
    elif "val" in files:
        said.append(f"{files['val'].name} joins the training part: choices are cross-validated; {files['test'].name} is for testing only")
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    decisions: dict[str, Any] = {"layout": "table"}
    task = ""
    for split, path in files.items():
        table = read_table(path)
        header, rows = table.header, table.rows
        left_out += table.broken
        said += table.said
        if not rows:
            raise DataError(f"{path} has a header and no rows", expected="one line per example")
        if not task:
            name, label, task, split_column, found = choose_columns(header, [row for _, row in rows], asked, path.name)
            said += found
            decisions.update({"input": name, "label": label, "split": split_column, "group": asked.group, "weight": asked.weight})
        names = label_columns(label, header)
        absent = [c for c in (name, *names, asked.group, asked.weight) if c is not None and c not in header]
        if absent:
            raise DataError(
                f"{path.name} has no column {absent[0]!r}", expected=f"the columns of {files['train'].name}; it has {listed(header)}"
            )
        if len(names) > 1:
            header, rows, marking = _one_label(header, rows, names, str(label), decisions.get("marking", asked.marking))
            decisions["marking"] = marking
        new, broken = _rows(path, header, rows, (name, label, split_column), task, TEST if split == held else TRAIN, asked)
        examples += new
        left_out += broken
    if decisions["split"]:
        usual = asked.split is None and asked.usual_split == decisions["split"]
        examples, more, others = _by_column(examples, files["train"].name, asked.split, usual=usual)
        said += more
        left_out += others
    return Dataset(task, examples, said, left_out, decisions)


def _rows(
    path: Path,
    header: Sequence[str],
    rows: Sequence[tuple[str, list[str]]],
    columns: tuple[str, str | None, str | None],
    task: str,
    part: str,
    asked: Asked,
) -> tuple[list[Example], list[LeftOut]]:
    name, label, split = columns
    at = {c: header.index(c) for c in (*columns, asked.group, asked.weight) if c is not None and c in header}
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    for place, row in rows:
        cell = {c: row[i].strip() if i < len(row) else "" for c, i in at.items()}
        value = cell[name]
        where = f"{path.name}, {place}"
        if len(row) > len(header):
            reason = f"it has {len(row)} cells and the header {len(header)}: put quotes around a cell with a comma in it"
            left_out.append(LeftOut(where, reason))
            continue
        shown_as = f"{where}: {start_of(value)}" if task == "text" else f"{value} ({where})"
        if not value:
            left_out.append(LeftOut(where, "the text is empty" if task == "text" else "the path is empty"))
        elif label is not None and asked.labelled and not cell[label] and asked.target != "multilabel":
            left_out.append(LeftOut(shown_as, "the label is missing"))
        elif asked.group is not None and not cell[asked.group]:
            left_out.append(LeftOut(shown_as, "the group is missing"))
        elif (weight := weight_of(cell[asked.weight]) if asked.weight is not None else 1.0) is None:
            left_out.append(LeftOut(shown_as, f"its weight {cell[asked.weight or '']!r} is not a finite number from 0 on"))
        else:
            source: Any = value
            if task != "text":
                source = path.parent / value
                reason = _elsewhere(value) or ("" if asked.allow_outside else _outside(source, path.parent, value))
                if reason:
                    left_out.append(LeftOut(shown_as, reason))
                    continue
            own = cell[split].lower() if split and split in cell else ""
            group = cell[asked.group] if asked.group is not None else None
            found = cell[label] if label is not None else None
            examples.append(Example(shown_as, source, found, f"{part}:{own}" if split else part, group, weight))
    return examples, left_out


def _elsewhere(value: str) -> str:
    return "it lies elsewhere, and regraft opens no connection" if "://" in value else ""


def _outside(path: Path, base: Path, value: str) -> str:
    """Why a relative path may not be used: it leaves the table's folder."""
    if os.path.isabs(value) or ".." not in Path(value).parts:
        return ""
    inside = os.path.normpath(path).startswith(os.path.normpath(base.absolute() if path.is_absolute() else base))
    return "" if inside and not os.path.normpath(value).startswith("..") else "the path leaves the table's folder (--allow-outside lets it)"


def _one_label(
    header: Sequence[str], rows: Sequence[tuple[str, list[str]]], names: Sequence[str], joined: str, marking: Sequence[str] | None
) -> tuple[list[str], list[tuple[str, list[str]]], list[str]]:
    """The table with one column more, all label columns in one cell, and which of them say yes and no.

    That is found out once, in the training table: a test table may happen to hold nothing else. Rows of a wrong length stay as they are.
    """
    at = [header.index(n) for n in names]
    whole = [k for k, (_, row) in enumerate(rows) if len(row) <= len(header)]
    cells = {n: [(rows[k][1][i].strip() if i < len(rows[k][1]) else "") for k in whole] for n, i in zip(names, at, strict=True)}
    out = list(rows)
    chosen = marking_columns(cells) if marking is None else list(marking)
    if whole:
        for k, cell in zip(whole, label_cells(cells, chosen), strict=True):
            place, row = rows[k]
            out[k] = (place, [*row, *[""] * (len(header) - len(row)), cell])
    for k, (place, row) in enumerate(rows):
        if len(row) > len(header):
            out[k] = (place, [*row, ""])
    return [*header, joined], out, chosen


def _by_column(examples: list[Example], table: str, asked: str | None, *, usual: bool) -> tuple[list[Example], list[str], list[LeftOut]]:
    """Use a split column: the test rows, or the val rows where there are none, are the test part.

    In a column that was named (`asked`, or `usual`: by an earlier fit), rows that say something else are left out; DataError when
    that leaves no training rows of one that was asked for.
    """
    values = Counter(e.part.partition(":")[2] for e in examples)
    found = {SPLITS[v] for v in values if v in SPLITS}
    held = "test" if "test" in found else "val" if "val" in found else ""
    left_out: list[LeftOut] = []
    if asked is not None or usual:
        strangers = {v: n for v, n in values.items() if v not in SPLITS}
        if "train" not in found and not usual:
            shown = ", ".join(f"{v or '(empty)'} ({n})" for v, n in values.most_common(5))
            raise DataError(
                f"no row of {table} is for training by the column {asked!r}: it says {shown}",
                expected="train, val (or valid, dev) and test",
                move="--split COLUMN for another column",
            )
        if strangers:
            left_out = [LeftOut(e.name, "the split column says neither train, val nor test") for e in _saying(examples, strangers)]
            examples = [e for e in examples if e.part.partition(":")[2] not in strangers]
    if asked is None and (held == "" or found == {held}):
        return [replace(e, part=TRAIN) for e in examples], [], left_out
    out = []
    for e in examples:
        part, _, own = e.part.partition(":")
        out.append(replace(e, part=TEST if part == TEST or (held and SPLITS.get(own, "train") == held) else TRAIN))
    return out, [f"{table} has a split column: its {held} rows are the test part"] if held else [], left_out


def _saying(examples: Sequence[Example], values: Mapping[str, int]) -> list[Example]:
    return [e for e in examples if e.part.partition(":")[2] in values]


READER = Reader("table", "a table with a column of texts or paths and a column of labels; train.csv and test.csv in a folder", fits, read)
