"""The feature store: rows by identity, bounded, shared, and never a reason to stop."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import UsageError
from regraft.workspace.store import Space, Store, content_id, home, size_limit

MAKER = {"kind": "features", "weights": "abc"}
A, B, C = (content_id(x) for x in (b"a", b"b", b"c"))


def row(value: float, width: int = 4) -> np.ndarray:
    return np.full(width, value, np.float32)


def filled(store: Store, maker: dict[str, object] | None = None, rows: int = 2) -> Space:
    space = store.space(maker or MAKER)
    for i in range(rows):
        space.add(content_id(str(i).encode()), row(i))
    space.flush()
    return space


def test_rows_come_back_in_the_order_asked_for(tmp_path: Path):
    space = Store(tmp_path).space(MAKER)
    space.add(A, row(1))
    space.flush()
    space.add(B, row(2), "a note")
    space.add(C, row(3))
    np.testing.assert_array_equal(space.gather([C, A, B, A])[:, 0], [3, 1, 2, 1])
    again = Store(tmp_path).space(MAKER)
    assert len(again) == 3
    assert A in again
    assert again.notes == {B: "a note"}
    np.testing.assert_array_equal(again.gather([C, A, B])[:, 0], [3, 1, 2])


def test_what_was_not_flushed_is_not_there(tmp_path: Path):
    Store(tmp_path).space(MAKER).add(A, row(1))
    assert len(Store(tmp_path).space(MAKER)) == 0


def test_another_maker_has_other_rows(tmp_path: Path):
    filled(Store(tmp_path))
    assert len(Store(tmp_path).space({**MAKER, "weights": "xyz"})) == 0


def test_two_writers_do_not_disturb_each_other(tmp_path: Path):
    one, two = Store(tmp_path).space(MAKER), Store(tmp_path).space(MAKER)
    one.add(A, row(1))
    two.add(A, row(1))
    two.add(B, row(2))
    one.flush()
    two.flush()
    np.testing.assert_array_equal(Store(tmp_path).space(MAKER).gather([A, B])[:, 0], [1, 2])


def test_keeping_nothing_writes_nothing(tmp_path: Path):
    space = filled(Store(tmp_path, keep=False))
    assert len(space) == 2
    assert list(tmp_path.glob("features/*")) == []


def test_a_missing_row_is_a_key_error(tmp_path: Path):
    with pytest.raises(KeyError):
        filled(Store(tmp_path)).gather([C])


@pytest.mark.parametrize("ending", ["ids.npy", "rows.npy", "notes.json", "space.json"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b"\x93NUMPY\x01\x00"], ids=repr)
def test_a_damaged_file_never_stops_anything(tmp_path: Path, ending: str, content: bytes):
    store = Store(tmp_path)
    space = store.space(MAKER)
    space.add(A, row(1), "a note")
    space.flush()
    for path in (tmp_path / "features").glob(f"*/*{ending}"):
        path.write_bytes(content)
    again = store.space(MAKER)
    if ending in ("ids.npy", "rows.npy"):
        assert A not in again
        assert again.damaged == 1
    again.add(B, row(2))
    np.testing.assert_array_equal(again.gather([B])[:, 0], [2])
    assert len(store.spaces()) == 1
    store.trim()


def test_rows_that_were_cut_off_are_computed_again(tmp_path: Path):
    filled(Store(tmp_path))
    (path,) = (tmp_path / "features").glob("*/*.rows.npy")
    path.write_bytes(path.read_bytes()[:-4])
    assert len(Store(tmp_path).space(MAKER)) == 0


def test_a_place_that_cannot_be_written_to_is_no_reason_to_stop(tmp_path: Path):
    (tmp_path / "features").write_text("a file where the folder should be", encoding="utf-8")
    space = filled(Store(tmp_path))
    np.testing.assert_array_equal(space.gather([content_id(b"1")])[:, 0], [1])


def test_the_least_recently_used_goes_first(tmp_path: Path):
    store = Store(tmp_path)
    for i, name in enumerate(("old", "middle", "new")):
        space = filled(store, {"weights": name})
        assert space.folder is not None
        os.utime(space.folder / "space.json", (1_000_000 + i, 1_000_000 + i))
    sizes = {str(s.maker["weights"]): s.bytes for s in store.spaces()}
    assert list(sizes) == ["new", "middle", "old"]
    small = Store(tmp_path, limit=sizes["new"] + sizes["middle"])
    assert [s.maker["weights"] for s in small.trim()] == ["old"]
    assert {str(s.maker["weights"]) for s in small.spaces()} == {"new", "middle"}


def test_what_is_in_use_is_never_removed(tmp_path: Path):
    space = filled(Store(tmp_path))
    assert space.folder is not None
    assert Store(tmp_path, limit=0).trim(protect=(space.folder.name,)) == []
    assert len(Store(tmp_path).spaces()) == 1


def test_using_a_space_makes_it_recent(tmp_path: Path):
    store = Store(tmp_path)
    for i, name in enumerate(("old", "new")):
        folder = filled(store, {"weights": name}).folder
        assert folder is not None
        os.utime(folder / "space.json", (1_000_000 + i, 1_000_000 + i))
    store.space({"weights": "old"})
    assert [s.maker["weights"] for s in store.spaces()] == ["old", "new"]


@pytest.mark.parametrize(("given", "size"), [("500M", 500 * 10**6), ("20G", 20 * 10**9), ("1.5k", 1500), ("0", 0), ("12345", 12345)])
def test_the_bound_can_be_given(monkeypatch: pytest.MonkeyPatch, given: str, size: int):
    monkeypatch.setenv("REGRAFT_CACHE_SIZE", given)
    assert size_limit() == size


@pytest.mark.parametrize("given", ["much", "-5", "M", "nan", "inf", "5X"])
def test_a_bound_that_cannot_be_meant_is_named(monkeypatch: pytest.MonkeyPatch, given: str):
    monkeypatch.setenv("REGRAFT_CACHE_SIZE", given)
    with pytest.raises(UsageError) as raised:
        size_limit()
    assert repr(given) in raised.value.found
    assert raised.value.expected


def test_the_home_is_where_the_variable_says(own_home: Path):
    assert home() == own_home
