"""Data sets of the Hugging Face library `datasets`: its objects, and the folders that their `save_to_disk` writes.

Both are Arrow tables with a description of the columns, and are read as such: the library's own loading, decoding and formats
never run, so nothing in a folder can execute and no connection is opened.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from regraft.data.base import SPLITS, TEST, TRAIN, Asked, Dataset, Example, Reader, start_of
from regraft.data.columns import LABEL_NAMES, choose_columns, label_cells, label_columns, marking_columns, weight_of
from regraft.data.formats.base import ROW_LIMIT, SIZE_LIMIT, cell_text, check_header
from regraft.errors import DataError, MissingExtra, Unreadable, UsageError, printable
from regraft.facts import LeftOut
from regraft.modality.base import Stored, check_length
from regraft.workspace.files import read_json

SAMPLE = 2_000
"""Rows looked at to find out which column is what, spread evenly: saved data is often sorted by label."""

DICT_FILE, INFO_FILE, STATE_FILE = "dataset_dict.json", "dataset_info.json", "state.json"

MEDIA = {"Image": "image", "Audio": "audio"}
"""Features whose content a modality of regraft decodes -> its task."""


@dataclass(frozen=True)
class Split:
    """One split: an Arrow table, the rows of it that count (None: all, in order), and what its columns are said to be."""

    name: str
    table: Any
    rows: Any
    features: Mapping[str, Any]
    base: Path | None = None
    """The folder that it lies in; paths are relative to it."""
    files: tuple[tuple[Path, int], ...] = ()
    """The files that stay open while their rows are read, and their sizes."""

    def __len__(self) -> int:
        return len(self.table) if self.rows is None else len(self.rows)

    def column(self, name: str) -> Any:
        """A column as Arrow holds it, without regard to `rows`."""
        return self.table.column(name)

    def taken(self, column: Any, rows: Any = None) -> Any:
        """The values of the rows that count, or of some of these."""
        wanted = self.rows if rows is None else rows if self.rows is None else self.rows.take(rows)
        return column if wanted is None else column.take(wanted)


@dataclass(frozen=True)
class Kind:
    """What a column holds: `image`, `audio`, `plain` values, or a `list` of them; `names` of its classes, if it has any."""

    holds: str
    names: tuple[str, ...] | None = None


def fits(source: Any) -> bool:
    """An object of the library `datasets`, known by its type's name, or a folder with the files that `save_to_disk` writes."""
    if isinstance(source, Path):
        # unlike Path.is_file, this is no error where the folder may not be looked into
        there = [os.path.isfile(source / name) for name in (DICT_FILE, INFO_FILE, STATE_FILE)]
        return there[0] or (there[1] and there[2])
    return bool(_type_name(source))


def _type_name(source: Any) -> str:
    known = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return next((t.__name__ for t in type(source).__mro__ if t.__name__ in known and t.__module__.split(".")[0] == "datasets"), "")


def read(source: Any, asked: Asked) -> Dataset:
    """Every row is an example. Image and Audio columns are the input where there are any; other columns are as a table's.

    Raises DataError for what is damaged or cannot be learnt from, MissingExtra without pyarrow.
    """
    where = source.name if isinstance(source, Path) else "the data set"
    splits = list(_saved(source)) if isinstance(source, Path) else _in_memory(source)
    splits = [s for s in splits if len(s)]
    if not splits:
        raise DataError(f"{where} has no rows", expected="one row per example")
    splits, said = _known(splits, where) if asked.labelled else (splits, [])
    first = next((s for s in splits if SPLITS.get(s.name.lower()) == "train"), splits[0])
    name, label, task, split_column, found = _choose(first, asked, where)
    said += found
    decisions: dict[str, Any] = {"layout": "huggingface", "input": name, "label": label, "split": split_column}
    decisions.update({"group": asked.group, "weight": asked.weight})
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    rows = {s.name: _rows(s, (name, label), task, asked, where) for s in splits}
    if len(splits) > 1:
        parts, more = _parts({s.name: any(e.label for e in rows[s.name][0]) for s in splits}, asked)
        said += more
        decisions["splits"] = parts
        for split, part in parts.items():
            examples += [replace(e, part=part) for e in rows[split][0]]
            left_out += rows[split][1]
    else:
        examples, left_out = rows[first.name]
        if split_column:
            examples, more, others = _by_column(first, split_column, examples, asked.split or asked.usual_split)
            said += more
            left_out += others
    return Dataset(task, examples, said, left_out, decisions)


# ---------------------------------------------------------------- where splits come from


def _in_memory(source: Any) -> list[Split]:
    kind = _type_name(source)
    if kind.startswith("Iterable"):
        raise DataError(
            f"an {kind} gives its examples once, one after the other, and regraft goes through them several times",
            expected="a datasets.Dataset or DatasetDict",
            move="load it without streaming=True, or datasets.Dataset.from_list(list(data.take(1000)))",
        )
    named = dict(source) if kind == "DatasetDict" else {str(source.split or "train"): source}
    wrong = [name for name, value in named.items() if _type_name(value) != "Dataset"]
    if wrong:
        raise DataError(f"the split {wrong[0]} is a {type(named[wrong[0]]).__name__}", expected="a datasets.Dataset in every split")
    splits = []
    for name, value in named.items():
        # the rows that shuffle, filter or select left, as numbers of rows of the table
        chosen = value._indices.column(0).combine_chunks() if value._indices is not None else None
        splits.append(_checked(Split(str(name), value.data.table, chosen, value.features.to_dict())))
    return splits


def _saved(folder: Path) -> Iterator[Split]:
    """The splits of a folder that `save_to_disk` wrote; only files inside it are opened."""
    if not (folder / DICT_FILE).is_file():
        yield _saved_split("", folder)
        return
    names = _json(folder / DICT_FILE).get("splits")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise DataError(f"{folder / DICT_FILE} names no splits", expected='{"splits": ["train", "test"]}', move="save the data set again")
    for name in names:
        yield _saved_split(name, folder / _inside(name, folder / DICT_FILE))


def _saved_split(name: str, folder: Path) -> Split:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        move = "pip install 'regraft[datasets]'"
        raise MissingExtra("reading a saved data set of the library datasets needs pyarrow", move=move) from None
    info, state = _json(folder / INFO_FILE), _json(folder / STATE_FILE)
    files = state.get("_data_files")
    if not isinstance(files, list) or not all(isinstance(f, dict) and isinstance(f.get("filename"), str) for f in files):
        raise DataError(f"{folder / STATE_FILE} names no data files", move="save the data set again with save_to_disk")
    features = info.get("features") or {}
    if not isinstance(features, dict):
        raise DataError(f"{folder / INFO_FILE} does not say what the columns are", move="save the data set again with save_to_disk")
    tables, sizes = [], []
    for file in files:
        path = folder / _inside(file["filename"], folder / STATE_FILE)
        try:
            if not path.is_file():
                # a pipe would be waited for without end
                raise ValueError("it is not a plain file" if path.exists() else "there is no such file")
            with pyarrow.memory_map(str(path)) as mapped:
                if _is_compressed(pyarrow, mapped):
                    raise DataError(f"{path} is compressed", expected="Arrow as save_to_disk writes it", move="save the data set again")
                mapped.seek(0)
                sizes.append((path, mapped.size()))
                tables.append(pyarrow.ipc.open_stream(mapped).read_all())
        except (pyarrow.ArrowException, OSError, ValueError, struct.error, EOFError) as error:
            text = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
            raise DataError(f"{path} is not an Arrow file that can be read ({text})", move="save the data set again") from None
    split = state.get("_split")
    name = printable(name or (split if isinstance(split, str) and split else "train"))
    try:
        table = pyarrow.concat_tables(tables) if tables else pyarrow.table({})
        found = _checked(Split(name, table, None, features, folder, tuple(sizes)))
        # offsets are believed from here on: a damaged one would read beyond the file
        table.select([n for n in table.column_names if _kind(found, n)]).validate(full=True)
    except (pyarrow.ArrowException, ValueError, OverflowError, KeyError) as error:
        text = str(error).strip().splitlines()[0].rstrip(".")
        raise DataError(f"{folder} holds damaged data ({text})", move="save the data set again with save_to_disk") from None
    return found


def _checked(split: Split) -> Split:
    if len(split) > ROW_LIMIT:
        found = f"the split {split.name} has {len(split):,} rows"
        raise DataError(found, expected=f"at most {ROW_LIMIT:,}", move="data.select(range(1_000_000)), or train_test_split")
    check_header(split.base or Path(split.name), split.table.column_names)
    return split


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", move="save the data set again with save_to_disk") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON as save_to_disk writes it ({error})", move="save the data set again") from None
    return value


def _inside(name: str, told_by: Path) -> str:
    """A name of a file or folder directly inside; DataError for one that leads elsewhere."""
    if name in ("", ".", "..") or any(c in name for c in "/\\:\0"):
        raise DataError(f"{told_by} names {name!r}, which leaves its folder", expected="names of files beside it")
    return name


def _is_compressed(pyarrow: Any, file: Any) -> bool:
    """Whether a batch of an Arrow stream is compressed: it could unfold to anything, and `datasets` never writes such a file.

    pyarrow does not tell, so the message's header is looked at (Arrow's format/Message.fbs: RecordBatch.compression).
    """
    while file.tell() < file.size():
        try:
            header = pyarrow.ipc.read_message(file).metadata.to_pybytes()
        except EOFError:
            return False
        (root,) = struct.unpack_from("<I", header, 0)
        kind_at, body_at = _field_at(header, root, 1), _field_at(header, root, 2)
        kind = header[kind_at] if kind_at else 0
        if kind not in (2, 3) or not body_at:
            continue
        batch = body_at + struct.unpack_from("<I", header, body_at)[0]
        if kind == 2:
            data_at = _field_at(header, batch, 1)
            batch = data_at + struct.unpack_from("<I", header, data_at)[0]
        if _field_at(header, batch, 3):
            return True
    return False


def _field_at(header: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table stands, 0 when it is absent."""
    (back,) = struct.unpack_from("<i", header, table)
    (size,) = struct.unpack_from("<H", header, table - back)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", header, table - back + 4 + 2 * number)
    return table + offset if offset else 0


# ---------------------------------------------------------------- which column is what


def _kind(split: Split, name: str) -> Kind | None:
    """What a column holds, by its feature and its Arrow type; None for one that is not read."""
    import pyarrow

    feature, kind = split.features.get(name), split.table.schema.field(name).type
    says = feature.get("_type") if isinstance(feature, dict) else None
    if says in MEDIA:
        return Kind(MEDIA[says]) if _holds_files(pyarrow.types, kind) else None
    if _is_plain(pyarrow.types, kind) or pyarrow.types.is_null(kind):
        return Kind("plain", _names(feature, name))
    types = pyarrow.types
    if (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)) and _is_plain(types, kind.value_type):
        inner = feature.get("feature") if isinstance(feature, dict) else feature[0] if isinstance(feature, list) and feature else None
        return Kind("list", _names(inner, name))
    return None


def _is_plain(types: Any, kind: Any) -> bool:
    checks = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean, types.is_date)
    return any(check(kind) for check in (*checks, types.is_timestamp, types.is_time))


def _holds_files(types: Any, kind: Any) -> bool:
    """Bytes, a path, or both in one: what an Image or Audio column is kept as."""
    if types.is_struct(kind):
        inside = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        known = [_holds_files(types, inside[n]) and not types.is_struct(inside[n]) for n in ("bytes", "path") if n in inside]
        return bool(known) and all(known)
    return any(check(kind) for check in (types.is_binary, types.is_large_binary, types.is_string, types.is_large_string))


def _names(feature: Any, column: str) -> tuple[str, ...] | None:
    """The classes of a ClassLabel; None for other features, and for one that knows no names."""
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel" or feature.get("names") is None:
        return None
    names = feature["names"]
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise DataError(f"the classes of the column {column!r} are damaged", expected="a list of names", move="save the data set again")
    return tuple(names)


def _choose(split: Split, asked: Asked, where: str) -> tuple[str, str | None, str, str | None, list[str]]:
    import pyarrow

    kinds = {n: kind for n in split.table.column_names if (kind := _kind(split, n))}
    media = {n: kind.holds for n, kind in kinds.items() if kind.holds in MEDIA.values()}
    chosen = asked.input if asked.input in media else None
    if asked.input is None:
        chosen = next((n for n, task in media.items() if asked.task in (None, task) and n != asked.label), None)
    given = asked
    if chosen is not None:
        if asked.task not in (None, media[chosen]):
            raise UsageError(f"--task {asked.task}: the column {chosen} of {where} holds {_nouns(media[chosen])}")
        given = replace(given, input=chosen, task=media[chosen])
    if asked.label in media:
        raise DataError(f"the column {asked.label} of {where} holds {_nouns(media[asked.label])}, not labels", move="--label COLUMN")
    if asked.label is None and not any(n.lower() in LABEL_NAMES for n in kinds):
        classes = [n for n, kind in kinds.items() if kind.holds == "plain" and kind.names and n not in (asked.input, asked.group)]
        given = replace(given, label=classes[0] if classes else None)
    step = max(1, len(split) // SAMPLE)
    at = pyarrow.array(range(0, len(split), step)[:SAMPLE])
    cells = {n: [""] * len(at) if n in media else _cells(split, n, kind, at) for n, kind in kinds.items()}
    name, label, task, split_column, said = choose_columns(list(cells), list(zip(*cells.values(), strict=True)), given, where)
    if chosen is not None:
        said = [f"input column: {chosen} ({_nouns(media[chosen])})", *said[1:]]
    return name, label, task, split_column, said


def _nouns(task: str) -> str:
    return "images" if task == "image" else "sounds"


def _known(splits: list[Split], where: str) -> tuple[list[Split], list[str]]:
    """The splits whose names say what they are for, and what is said of the others; one alone is used whatever its name."""
    if len(splits) == 1:
        return splits, []
    known: dict[str, Split] = {}
    for split in splits:
        means = SPLITS.get(split.name.lower())
        if means in known:
            found = f"{known[means].name} and {split.name} in {where} are two names for one part"
            raise DataError(found, move="rename or merge one of them")
        if means:
            known[means] = split
    others = [s.name for s in splits if s not in known.values()]
    if others and "train" not in known:
        raise DataError(
            f"{where} has the splits {', '.join(s.name for s in splits)}",
            expected="train, and test or validation",
            move=f"data[{others[0]!r}] alone in Python, or the folder {others[0]}, for one of them",
        )
    said = [f"the split{'s' * (len(others) > 1)} {', '.join(others)} {'are' if len(others) > 1 else 'is'} not used"] if others else []
    return [known[means] for means in ("train", "val", "test") if means in known], said


def _parts(labelled: Mapping[str, bool], asked: Asked) -> tuple[dict[str, str], list[str]]:
    """Split -> part, and what to say. `labelled` tells of each split whether any of its rows has a label."""
    if not asked.labelled:
        several = len(labelled) > 1
        return {name: TEST if several and SPLITS.get(name.lower()) == "test" else TRAIN for name in labelled}, []
    by_meaning = {SPLITS[name.lower()]: name for name in labelled}
    said = []
    for means in ("test", "val"):
        # the test rows of public contests come without labels
        if means in by_meaning and not labelled[by_meaning[means]] and len(by_meaning) > 1:
            said.append(f"{by_meaning.pop(means)} has no labels and is not used")
    held = "test" if "test" in by_meaning else "val" if "val" in by_meaning else ""
    if by_meaning.keys() == {held}:
        held = ""
    if held == "val":
        said.append(f"{by_meaning['val']} is treated as the test part: there is no test split")
    elif held and "val" in by_meaning:
        said.append(f"{by_meaning['val']} joins the training part: choices are cross-validated; {by_meaning['test']} is for testing only")
    return {name: TEST if means == held else TRAIN for means, name in by_meaning.items()}, said


def _by_column(split: Split, column: str, examples: list[Example], asked: str | None) -> tuple[list[Example], list[str], list[LeftOut]]:
    """Use a split column of the only split, as in a table: in one that was named, rows that say something else are left out."""
    kind = _kind(split, column)
    assert kind is not None, column
    own = [SPLITS.get(v.strip().lower(), "" if asked else "train") for v in _cells(split, column, kind)]
    held = "test" if "test" in own else "val" if "val" in own else ""
    if asked and "train" not in own and "test" not in own:
        raise DataError(
            f"no row is for training by the column {asked!r}", expected="train, val (or valid, dev) and test", move="--split COLUMN"
        )
    if not asked and (not held or set(own) == {held}):
        return examples, [], []
    at = {e.name: own[int(e.name[len(split.name) + 1 :].partition("]")[0])] for e in examples}
    moved = [replace(e, part=TEST if at[e.name] == held else TRAIN) for e in examples if at[e.name]]
    said = [f"{split.name} has a split column: its {held} rows are the test part"] if held else []
    return moved, said, [LeftOut(e.name, "the split column says neither train, val nor test") for e in examples if not at[e.name]]


# ---------------------------------------------------------------- rows


def _rows(split: Split, columns: tuple[str, str | None], task: str, asked: Asked, where: str) -> tuple[list[Example], list[LeftOut]]:
    name, label = columns
    there = split.table.column_names
    several = label_columns(label, there)
    kinds = {n: _kind(split, n) for n in (name, *several, asked.group, asked.weight) if n is not None and n in there}
    needed = (name, *(several if asked.labelled else ()), asked.group, asked.weight)
    absent = [n for n in needed if n is not None and kinds.get(n) is None]
    if absent:
        found = f"the split {split.name} of {where} has no column {absent[0]!r} that can be read"
        raise DataError(found, expected=f"the same columns in every split; it has {', '.join(split.table.column_names)}")
    texts = {n: _cells(split, n, k) for n, k in kinds.items() if k is not None and n != name}
    if label is not None and len(several) > 1 and all(n in texts for n in several):
        cells = {n: [cell.strip() for cell in texts[n]] for n in several}
        texts[label] = label_cells(cells, marking_columns(cells) if asked.marking is None else asked.marking)
    kind = kinds[name]
    assert kind is not None, name
    of_files = kind.holds in MEDIA.values()
    inputs = _files(split, name) if of_files else [(v, None) for v in _cells(split, name, kind)]
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    for i, (value, content) in enumerate(inputs):
        value = value.strip()
        told = PurePosixPath(value.replace("\\", "/")).name if of_files else value
        shown_as = f"{split.name}[{i}]" + (f": {start_of(told)}" if told else "")
        own = texts[label][i].strip() if label is not None and label in texts else None
        group = texts[asked.group][i].strip() if asked.group is not None else None
        source: Any = value
        reason = ""
        if content is not None:
            source = Stored(shown_as, content)
        elif not value:
            reason = "the text is empty" if task == "text" else "there is neither content nor a path"
        elif task != "text":
            source = (split.base or Path()) / value
            reason = _elsewhere(value, None if asked.allow_outside else split.base)
        if reason:
            left_out.append(LeftOut(shown_as, reason))
        elif asked.labelled and label is not None and not own and asked.target != "multilabel":
            left_out.append(LeftOut(shown_as, "the label is missing"))
        elif asked.group is not None and not group:
            left_out.append(LeftOut(shown_as, "the group is missing"))
        elif (weight := weight_of(texts[asked.weight][i]) if asked.weight is not None else 1.0) is None:
            left_out.append(LeftOut(shown_as, f"its weight {texts[asked.weight or ''][i]!r} is not a finite number from 0 on"))
        else:
            examples.append(Example(shown_as, source, own or None, TRAIN, group, weight))
    return examples, left_out


def _elsewhere(value: str, base: Path | None) -> str:
    """Why a path may not be used: it is an address, or leaves the folder that names it."""
    if "://" in value:
        return "it lies elsewhere, and regraft opens no connection"
    if base is not None and ".." in Path(value).parts:
        return "the path leaves the data set's folder"
    return ""


def _files(split: Split, name: str) -> Iterator[tuple[str, Any]]:
    """(path or empty, a function that gives the content or None) of each row of an Image or Audio column."""
    import pyarrow
    import pyarrow.compute

    # its functions are made when it is imported: type checkers see none
    compute: Any = pyarrow.compute
    types, column = pyarrow.types, split.column(name)
    kind = column.type
    if types.is_struct(kind):
        contents = compute.struct_field(column, "bytes") if kind.get_field_index("bytes") >= 0 else None
        paths = compute.struct_field(column, "path") if kind.get_field_index("path") >= 0 else None
    elif types.is_binary(kind) or types.is_large_binary(kind):
        contents, paths = column, None
    else:
        contents, paths = None, column
    count = len(split)
    told = _texts_of(split.taken(paths)) if paths is not None else iter([""] * count)
    there = split.taken(compute.is_valid(contents)).to_pylist() if contents is not None else [False] * count
    numbers = range(count) if split.rows is None else split.rows.to_pylist()
    for path, has_content, number in zip(told, there, numbers, strict=True):
        yield path, partial(_content, contents, number, split.files) if has_content else None


def _content(column: Any, row: int, files: Sequence[tuple[Path, int]]) -> bytes:
    """The bytes of one row, copied only now; the file itself stays on disk.

    Where a file has become shorter meanwhile, reading beyond its end would end the process.
    """
    for path, size in files:
        if path.stat().st_size < size:
            raise Unreadable(f"{path.name} has become shorter since it was opened")
    value = column[row].as_buffer()
    if value is None:
        raise Unreadable("there is no content")
    check_length(value.size)
    return value.to_pybytes()


def _texts_of(column: Any) -> Iterator[str]:
    """The values of a plain column as text."""
    for chunk in column.chunks if hasattr(column, "chunks") else [column]:
        for value in chunk.to_pylist():
            yield value.decode("utf-8", "replace") if isinstance(value, bytes) else cell_text(value)


def _cells(split: Split, name: str, kind: Kind, rows: Any = None) -> list[str]:
    """A column as text: the names of classes, lists as JSON; nothing for null, and for -1 where there are classes."""
    column = split.taken(split.column(name), rows)
    names = kind.names
    if kind.holds == "plain":
        return [_named(v, names, name) for v in column.to_pylist()] if names is not None else list(_texts_of(column))
    cells: list[str] = []
    written = 0
    for start in range(0, len(column), 10_000):
        for items in column.slice(start, 10_000).to_pylist():
            plain = None if items is None else [_named(v, names, name) if names is not None else _item(v) for v in items]
            cells.append(cell_text(plain))
            written += len(cells[-1])
        if written > SIZE_LIMIT:
            raise DataError(f"the lists of the column {name!r} are more than {SIZE_LIMIT >> 20} MB of text", move="leave the column away")
    return cells


def _item(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else cell_text(value)


def _named(value: Any, names: Sequence[str], column: str) -> str:
    if isinstance(value, str):
        return value
    if value is None or value == -1:
        return ""
    if not 0 <= value < len(names):
        raise DataError(f"the column {column!r} holds {value}, and it has {len(names)} classes", move="save the data set again")
    return names[int(value)]


READER = Reader("huggingface", "an object of the library datasets, or a folder that its save_to_disk wrote", fits, read)
