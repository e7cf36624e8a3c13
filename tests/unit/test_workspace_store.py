"""The feature store: rows by identity, bounded, shared, and never a reason to stop."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import UsageError, WriteError
from regraft.workspace.segments import Kept, Segment
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


@pytest.mark.parametrize("ending", [".safetensors", "space.json"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b"\x02\0\0\0\0\0\0\0{}"], ids=repr)
def test_a_damaged_file_never_stops_anything(tmp_path: Path, ending: str, content: bytes):
    store = Store(tmp_path)
    space = store.space(MAKER)
    space.add(A, row(1), "a note")
    space.flush()
    for path in (tmp_path / "features").glob(f"*/*{ending}"):
        path.write_bytes(content)
    again = store.space(MAKER)
    if ending == ".safetensors":
        assert A not in again
        assert again.damaged == 1
    again.add(B, row(2))
    np.testing.assert_array_equal(again.gather([B])[:, 0], [2])
    assert len(store.spaces()) == 1
    store.trim()


def test_rows_that_were_cut_off_are_computed_again(tmp_path: Path):
    filled(Store(tmp_path))
    (path,) = (tmp_path / "features").glob("*/*.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    assert len(Store(tmp_path).space(MAKER)) == 0


def test_one_changed_bit_anywhere_in_a_segment_is_found(tmp_path: Path):
    """In its header, the list of identities, numbers, checksum: the rows are not there any more, the others and the notes stay."""
    store = Store(tmp_path)
    filled(store)
    (path,) = (tmp_path / "features").glob("*/*.safetensors")
    whole = path.read_bytes()
    other = store.space(MAKER)
    other.add(A, row(7), "a note")
    other.flush()
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        space = store.space(MAKER)
        there = [content_id(str(i).encode()) in space for i in range(2)]
        assert not any(there) and A in space and space.damaged == 1, at
        assert space.notes == {A: "a note"} and not path.exists()
        path.write_bytes(whole)
        assert content_id(b"0") in store.space(MAKER)


def test_where_one_copy_is_damaged_the_other_is_used(tmp_path: Path):
    one, two = Space(tmp_path / "s", {}), Space(tmp_path / "t", {})
    for space in (one, two):
        space.add(A, row(1))
        space.flush()
    (copy,) = (tmp_path / "t").glob("*.safetensors")
    (own,) = (tmp_path / "s").glob("*.safetensors")
    for name in ("0", "2"):  # one before and one after it
        (tmp_path / "s" / f"{name}{own.name}").write_bytes(copy.read_bytes())
    for path in sorted((tmp_path / "s").glob("*.safetensors"))[:2]:
        content = path.read_bytes()
        path.write_bytes(content[:-25] + bytes([content[-25] ^ 1]) + content[-24:])
    space = Space(tmp_path / "s", {})
    assert A in space and space.damaged == 2
    np.testing.assert_array_equal(space.gather([A]), [row(1)])


def windows(seed: int) -> Kept:
    """One to three windows of two sorts, each with numbers, a mask, and something empty."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    sizes = rng.choice([2, 5], count)
    made = [
        {"0": rng.normal(size=(3, n)).astype(np.float32), "1": rng.random((1, n)) > 0.5, "2": np.zeros((0, n), np.int64)} for n in sizes
    ]
    return Kept(made, list(rng.dirichlet(np.ones(count))))


def test_tensors_of_windows_of_several_shapes(tmp_path: Path):
    examples = {content_id(bytes([i])): windows(i) for i in range(30)}
    space = Store(tmp_path).space(MAKER)
    for i, (identity, kept) in enumerate(examples.items()):
        space.keep(identity, kept)
        if i % 7 == 0:
            space.flush()
    order = [*reversed(examples), *list(examples)[:5]]
    for found in (space.windows(order), Store(tmp_path).space(MAKER).windows(order)):
        assert [int(n) for n in np.bincount(found.example)] == [len(examples[i].windows) for i in order]
        places = iter(range(len(found.example)))
        for identity in order:
            for window, share in zip(examples[identity].windows, examples[identity].shares, strict=True):
                w = next(places)
                assert found.share[w] == np.float32(share)
                for name, array in window.items():
                    (got,) = found.tensors[found.kind[w]][name][found.row[w : w + 1]]
                    assert got.dtype == array.dtype and got.shape == array.shape and got.tobytes() == array.tobytes()


def test_another_program_can_read_a_segment(tmp_path: Path):
    from safetensors.numpy import load_file

    space = Store(tmp_path).space(MAKER)
    space.keep(A, windows(1))
    space.flush()
    (path,) = (tmp_path / "features").glob("*/*.safetensors")
    held = load_file(path)
    assert held["ids"].tobytes() == A and held["share"].sum() == pytest.approx(1) and held["0/0"].shape[1] == 3


def test_what_is_needed_and_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    space = Space(tmp_path / "s", {}, needed=True)
    space.add(A, row(1))
    space.flush()
    space.add(B, row(2))
    with monkeypatch.context() as full:
        full.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(WriteError, match="No space left"):
            space.flush()
    assert A in Space(tmp_path / "s", {}) and not list((tmp_path / "s").glob(".*"))
    space.flush()
    np.testing.assert_array_equal(Space(tmp_path / "s", {}).gather([A, B])[:, 0], [1, 2])
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(WriteError):
        Space(tmp_path / "file" / "s", {}, needed=True)


def test_what_another_process_wrote_meanwhile_is_not_written_again(tmp_path: Path):
    one, two = Space(tmp_path / "s", {}), Space(tmp_path / "s", {})
    for space in (one, two):
        space.add(A, row(1))
    one.flush()
    two.add(B, row(2))
    two.flush()
    sizes = [len(Segment.open(path)) for path in sorted((tmp_path / "s").glob("*.safetensors"))]
    assert sizes == [1, 1]
    np.testing.assert_array_equal(two.gather([B, A])[:, 0], [2, 1])


def test_what_a_killed_process_was_writing_is_removed_when_it_is_old(tmp_path: Path):
    filled(Store(tmp_path))
    (folder,) = (tmp_path / "features").iterdir()
    for name, age in ((".old.part", 7200), (".new.part", 5)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    Store(tmp_path).space(MAKER)
    assert {p.name for p in folder.glob(".*")} == {".new.part"}


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
