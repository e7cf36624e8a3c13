"""Writing aside and renaming, reading JSON of strangers, run folders."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from regraft.errors import RunError
from regraft.events import STEPS_KEPT, Progress, Said
from regraft.workspace import files, runs

RESULT = {"task": "image", "model": "m", "estimate": {}, "baseline": {}, "n": 3, "seconds": 1.0}


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "deep" / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), files.written_aside(path) as aside:
        aside.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_json_is_the_same_bytes_everywhere(tmp_path: Path):
    files.write_json(tmp_path / "x.json", {"b": "größe", "a": [1, 2.5, None]})
    content = (tmp_path / "x.json").read_bytes()
    assert b"\r" not in content
    assert content.endswith(b"\n")
    assert "größe".encode() in content
    assert content.index(b'"b"') < content.index(b'"a"')


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_that_others_could_not_read_is_not_written(tmp_path: Path, value: float):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x.json", {"a": value})
    assert list(tmp_path.glob("*x.json*")) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"a": ' * 100_000], ids=lambda c: repr(c[:4]))
def test_json_that_cannot_be_parsed_is_a_value_error(tmp_path: Path, content: bytes):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError):
        files.read_json(tmp_path / "x.json")


def test_json_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "JSON_LIMIT", 10)
    (tmp_path / "x.json").write_text('"a long string"', encoding="utf-8")
    with pytest.raises(ValueError, match="more than the 10"):
        files.read_json(tmp_path / "x.json")


def test_runs_are_numbered():
    names = [runs.new_run(None, "my photos!", {}).path for _ in range(3)]
    assert names == [Path("runs") / f"my-photos-{i}" for i in (1, 2, 3)]


@pytest.mark.parametrize("name", ["", "...", "../..", "-", "/"])
def test_a_run_never_leaves_its_folder(name: str):
    path = runs.new_run(None, name, {}).path
    assert path.parent == Path("runs")
    assert path.resolve().parent == Path("runs").resolve()


def test_an_empty_folder_may_be_the_run(tmp_path: Path):
    (tmp_path / "out").mkdir()
    assert runs.new_run(str(tmp_path / "out"), "x", {}).path == tmp_path / "out"


def test_a_taken_folder_is_refused_and_untouched(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError) as raised:
        runs.new_run(str(tmp_path / "out"), "x", {})
    assert raised.value.found == f"{tmp_path / 'out'} exists already"
    assert raised.value.move
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_file_in_the_place_of_a_run(tmp_path: Path):
    (tmp_path / "out").touch()
    with pytest.raises(RunError):
        runs.new_run(str(tmp_path / "out"), "x", {})
    with pytest.raises(RunError):
        runs.new_run(str(tmp_path / "out" / "deeper"), "x", {})


def test_a_run_is_whole_once_it_has_its_result(tmp_path: Path):
    folder = runs.new_run(str(tmp_path / "out"), "x", {"data": "d"})
    folder.decide(a=1)
    folder.decide(b=2)
    folder.log(Said("hello"))
    folder.log(Progress("features", 1))
    # of the steps of a training some hundreds are kept, the last one among them
    for step in range(1, 1001):
        folder.log(Progress("training", step, 1001, 5.0, 1.0, 0.3, 1e-3))
    folder.log(Progress("training", 1001, 1001, 5.0, 0.0, 0.3, 1e-3))
    with pytest.raises(RunError, match="did not finish"):
        runs.read_run(folder.path)
    folder.finish(RESULT)
    assert runs.read_run(folder.path) == RESULT
    assert json.loads((folder.path / "decisions.json").read_text(encoding="utf-8")) == {"a": 1, "b": 2}
    assert json.loads((folder.path / "spec.json").read_text(encoding="utf-8")) == {"data": "d"}
    lines = (folder.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    first, *steps = map(json.loads, lines)
    assert first.pop("time") == pytest.approx(time.time(), abs=60) and first == {"event": "Said", "message": "hello"}
    assert len(steps) == 167 <= STEPS_KEPT and [s["done"] for s in steps] == [*range(6, 1001, 6), 1001]
    assert steps[0]["loss"] == 0.3 and steps[0]["lr"] == 1e-3


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_damaged_result_is_named(tmp_path: Path, content: str):
    folder = runs.new_run(str(tmp_path / "out"), "x", {})
    folder.finish({})
    (folder.path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"run\.json"):
        runs.read_run(folder.path)


def test_what_is_no_run(tmp_path: Path):
    with pytest.raises(RunError, match="no such folder"):
        runs.read_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"has no run\.json"):
        runs.read_run(tmp_path)


def test_runs_that_did_not_finish_are_listed_too(tmp_path: Path):
    runs.new_run(str(tmp_path / "r" / "a"), "x", {}).finish(RESULT)
    runs.new_run(str(tmp_path / "r" / "b"), "x", {}).close()
    (tmp_path / "r" / "other").mkdir()
    assert {path.name: result for path, result in runs.list_runs(tmp_path / "r")} == {"a": RESULT, "b": None}
