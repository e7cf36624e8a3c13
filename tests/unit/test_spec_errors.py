"""What can be asked for, how faults are said, and what events hold."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from regraft import errors, events
from regraft.spec import FitSpec, help_texts, one_of, refuse


def test_the_defaults_are_the_ones_of_the_command_line():
    spec = FitSpec("d")
    assert (spec.metric, spec.train, spec.device, spec.seed) == (None, "head", "auto", 0)
    assert (spec.strict, spec.balance, spec.store) == (False, False, True)


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FitSpec("d").seed = 3  # type: ignore[misc]


def test_a_spec_survives_json():
    spec = FitSpec("d", task="image", test="0.2", threads=2, seed=5, strict=True)
    assert FitSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "imgae"}, "--task imgae: expected image, text, audio. did you mean 'image'?"),
        (
            {"metric": "acuracy"},
            "--metric acuracy: expected accuracy, balanced_accuracy, f1_macro, log_loss, f1_micro, mae, rmse, r2. did you mean 'accuracy'?",
        ),
        ({"threads": 0}, "--threads 0: expected at least 1"),
        ({"seed": -1}, "--seed -1: expected 0 to 4294967295"),
        ({"test": "1.5"}, "--test 1.5: a fraction lies between 0 and 1, such as 0.2"),
        ({"test": "0"}, "--test 0: a fraction lies between 0 and 1, such as 0.2"),
    ],
)
def test_what_cannot_be_meant_is_named(options: dict[str, Any], message: str):
    with pytest.raises(errors.UsageError) as raised:
        FitSpec("d", **options)
    assert str(raised.value) == message


def test_all_faults_are_named_at_once():
    with pytest.raises(errors.UsageError) as raised:
        FitSpec("d", task="x", seed=-1, threads=0)
    assert str(raised.value).splitlines()[0] == "3 things in what was asked for are wrong"
    assert len(raised.value.faults) == 3


@pytest.mark.parametrize(("test", "fraction"), [(None, None), ("0.2", 0.2), ("photos", None), ("nan", None), ("", None)])
def test_a_test_is_a_fraction_or_a_path(test: str | None, fraction: float | None):
    assert FitSpec("d", test=test).test_fraction == fraction


def test_an_unknown_key_is_refused_with_the_nearest():
    with pytest.raises(errors.UsageError, match="unknown key 'thraeds'. did you mean 'threads'?"):
        FitSpec.from_json({"data": "d", "thraeds": 2})


@pytest.mark.parametrize(
    "values", [{}, {"data": 3}, {"data": "d", "threads": "2"}, {"data": "d", "seed": "x"}, {"data": "d", "strict": "no"}]
)
def test_a_spec_of_the_wrong_types_is_refused_in_words(values: dict[str, Any]):
    with pytest.raises(errors.UsageError):
        FitSpec.from_json(values)


def test_every_field_has_its_help():
    texts = help_texts(FitSpec)
    assert set(texts) == {f.name for f in dataclasses.fields(FitSpec)}
    assert all(len(text) > 10 for text in texts.values())


def test_one_of_and_refuse():
    assert one_of("--x", None, ("a",)) == [] == one_of("--x", "a", ("a",))
    assert one_of("--x", "zzz", ("a", "b")) == ["--x zzz: expected a, b"]
    refuse([])


def test_a_message_has_one_thing_a_line():
    error = errors.DataError("found this", expected="that", move="do so", faults=["one", "two"])
    assert str(error) == "found this\n  - one\n  - two\n  expected: that\n  try: do so"
    assert error.to_json() == {"error": "DataError", "found": "found this", "expected": "that", "try": "do so", "faults": ["one", "two"]}


@pytest.mark.parametrize("kind", [errors.DataError, errors.ModelError, errors.MissingExtra, errors.BundleError, errors.RunError])
def test_exit_codes(kind: type[errors.RegraftError]):
    assert issubclass(kind, errors.RegraftError)
    assert kind("x").exit_code == 1
    assert errors.UsageError("x").exit_code == 2


def test_a_wrong_argument_is_a_value_error_too():
    assert issubclass(errors.UsageError, ValueError)


def test_an_unreadable_example_is_no_error_of_the_run():
    assert not issubclass(errors.Unreadable, errors.RegraftError)


@pytest.mark.parametrize(("word", "hint"), [("haed", "did you mean 'head'?"), ("zzzzz", ""), ("", "")])
def test_nearest(word: str, hint: str):
    assert errors.nearest(word, ["head", "full"]) == hint


@pytest.mark.parametrize(
    "event",
    [
        events.Started("features", 3, "images"),
        events.Progress("features", 1),
        events.HeldOut("training, fold 1 of 5", 1, 5, "accuracy", 0.84, 0.8, 0.84, 40),
        events.Done("features", 0.5, "3 computed"),
        events.Said("x"),
        events.Decided({"cut": {"after": "blocks.5"}}),
        events.Warned("y"),
        events.Measured("seconds", 1.0, 2.0, "s"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_events_are_frozen_and_plain(event: events.Event):
    held = event.to_json()
    assert held["event"] == type(event).__name__
    assert json.loads(json.dumps(held)) == held
    name = dataclasses.fields(event)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, name, "other")
    assert events.silent(event) is None
