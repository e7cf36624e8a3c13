"""Writing aside and renaming, hashing, and reading JSON that strangers may have written."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from regraft.errors import RegraftError, WriteError

JSON_LIMIT = 64 << 20
"""Bytes; a larger JSON file is refused before it is parsed."""


@contextmanager
def written_aside(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A path to write to; renamed to `path` when the block ends well, removed when it does not.

    `durable`: it is on the disk before it is renamed, so that a loss of power leaves the old file or the new one. WriteError where the disk
    does not take it.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        if durable:
            to_disk(aside)
        os.replace(aside, path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file is on the disk."""
    number = os.open(path, os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


EXCHANGE = 2
"""Flag of renameat2 (Linux 3.15): both names are exchanged at once."""

_HERE = -100
"""Of renameat2: names are meant from the present folder."""


def put_in_place(aside: Path, folder: Path) -> None:
    """Make a whole folder that was written aside the one of this name, and remove the one that was there.

    Where the system can exchange two names, there is a whole folder under the name at every moment; elsewhere the old one is renamed first,
    and a kill between the two leaves it as `.NAME.*.part`.
    """
    if not folder.exists():
        os.replace(aside, folder)
        return
    if not _exchange(aside, folder):
        old = aside.with_suffix(".old.part")
        os.replace(folder, old)
        os.replace(aside, folder)
        aside = old
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where the system or the file system has no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), EXCHANGE) == 0


def cannot_write(path: Path, error: Exception) -> Exception:
    """The error to raise when writing `path` failed; others than those of writing stay as they are."""
    number = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        # as libraries in Rust say it, in errors of their own
        number = int(found[1])
    if isinstance(error, RegraftError) or (number is None and not isinstance(error, OSError)):
        return error
    full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    move = "make room there, or name a folder on another disk" if full else "name a folder that can be written to"
    return WriteError(f"{path} cannot be written: {os.strerror(number) if number else error}", move=move)


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Write plain data, keys in the order given, so that equal values give equal bytes. `durable`: see `written_aside`."""
    with written_aside(path, durable=durable) as aside:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # a path's bytes that are no text stand in it as JSON spells them (\udcff)
        aside.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8."""
    with written_aside(path) as aside:
        aside.write_bytes(text.encode("utf-8", "backslashreplace"))


def read_json(path: Path) -> Any:
    """Parse a JSON file; ValueError when it is too large, not UTF-8, nested beyond reason or not JSON."""
    facts = path.stat()
    size = facts.st_size
    if not stat.S_ISREG(facts.st_mode):
        # a pipe would be waited for without end
        raise ValueError(f"{path.name} is not a plain file")
    if size > JSON_LIMIT:
        raise ValueError(f"{path.name} has {size} bytes, more than the {JSON_LIMIT} that such a file may have")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None


def sha256_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_bytes(folder: Path) -> int:
    """The bytes of all files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total
