"""Checkpoints: when they are due, whole or the one before, and refused where they belong to another training, with what differs."""

from __future__ import annotations

import inspect
import time

import numpy as np
import pytest

from regraft.errors import RunError, WriteError
from regraft.workspace import checkpoints
from regraft.workspace.checkpoints import EVERY, SHARE, Checkpoint, differences

WHOSE = {"examples": {"train": 24, "sha256": "ab"}, "model": "small", "recipe": [{"op": "remove", "path": "a"}], "settings": {"lr": 1e-3}}


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_is_due_after_a_while_and_later_where_saving_is_slow(tmp_path, clock, monkeypatch):
    held = Checkpoint(tmp_path / "a.safetensors", WHOSE, clock)
    assert not held.due
    clock.now += EVERY
    assert held.due
    held.save({"x": np.zeros(2)}, {})
    assert not held.due
    clock.now += EVERY
    assert held.due
    plain = checkpoints.written_aside

    def slow(*given, **options):
        clock.now += 10
        return plain(*given, **options)

    monkeypatch.setattr(checkpoints, "written_aside", slow)
    held.save({"x": np.zeros(2)}, {})
    clock.now += 10 / SHARE - 1
    assert not held.due
    clock.now += 1
    assert held.due


def test_the_clock_on_the_wall_has_no_part_in_it(tmp_path, monkeypatch):
    assert inspect.signature(Checkpoint).parameters["clock"].default is time.monotonic
    held = Checkpoint(tmp_path / "a.safetensors", WHOSE)
    for jump in (-1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        assert not held.due
        held.save({"x": np.zeros(2)}, {})
        assert not held.due and held.read() is not None


def test_what_was_saved_comes_back_with_its_shapes(tmp_path):
    held = Checkpoint(tmp_path / "a.safetensors", WHOSE)
    assert held.read() is None
    given = {"x": np.arange(6, dtype=np.float32).reshape(2, 3).T, "counter": np.array(3)}
    held.save(given, {"step": 5})
    tensors, facts = held.read()
    assert facts == {"step": 5}
    assert all(np.array_equal(tensors[k], v) and tensors[k].shape == v.shape and tensors[k].dtype == v.dtype for k, v in given.items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"examples": {"train": 24, "sha256": "cd"}}, 'examples.sha256 was "ab", and is now "cd"'),
        ({"recipe": []}, "recipe was"),
        ({"settings": {"lr": 1e-4}}, "settings.lr was 0.001, and is now 0.0001"),
        ({"seed": 1}, "seed was null, and is now 1"),
    ],
)
def test_one_of_another_training_is_refused_with_what_differs(tmp_path, change, says):
    Checkpoint(tmp_path / "a.safetensors", WHOSE).save({"x": np.zeros(2)}, {})
    with pytest.raises(RunError, match="belongs to another training") as error:
        Checkpoint(tmp_path / "a.safetensors", {**WHOSE, **change}).read()
    assert len(error.value.faults) == 1 and error.value.faults[0].startswith(says) and "remove" in error.value.move


def test_a_disk_that_is_full_leaves_the_one_before(tmp_path, monkeypatch):
    held = Checkpoint(tmp_path / "a.safetensors", WHOSE)
    held.save({"x": np.zeros(2)}, {"step": 1})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(WriteError):
        held.save({"x": np.ones(2)}, {"step": 2})
    assert held.read()[1] == {"step": 1} and [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_differences_name_each_key():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 1}, "c": 2}) == []
    assert differences({"a": {"b": 1, "d": 0}}, {"a": {"b": 2, "d": 0}}) == ["a.b was 1, and is now 2"]
    (found,) = differences({"a": list(range(100))}, {"a": []})
    assert found.endswith("..., and is now []") and len(found) < 120
