"""What an outcome must look like, whatever was laid before regraft; and the pass with something tiny in the network's place."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings

from regraft.data import Dataset, open_data
from regraft.data.base import Example
from regraft.errors import RegraftError
from regraft.facts import LeftOut
from regraft.features.extract import stream
from regraft.jobs.common import asked
from regraft.modality import MODALITIES, Prepared

EXAMPLES = 25
"""Cases that each property makes up."""

HOSTILE = settings(
    derandomize=True,
    deadline=None,
    max_examples=EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

RAW = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NOISE = ("Traceback", "object at 0x", "[Errno", "<class", 'File "')


def check_text(text: str, keep: str = "") -> None:
    """It can be shown on a screen, and was written for people."""
    assert text.strip()
    assert not RAW.search("".join(c for c in text if c not in keep)), repr(text)
    assert not any(noise in text for noise in NOISE), text
    assert len(text) < 30_000, len(text)


def check_error(error: RegraftError) -> None:
    check_text(error.found, keep="\n")
    for text in (error.expected, error.move, *error.faults):
        if text:
            check_text(text, keep="\n")
    assert error.exit_code in (1, 2)
    check_text(str(error), keep="\n")


def check_left_out(left_out: Sequence[LeftOut]) -> None:
    for item in left_out:
        check_text(item.name)
        check_text(item.reason)


class Tiny:
    """Stands where a network would: four numbers of each window."""

    tile, side_by_side = 3, True

    def __call__(self, windows: Sequence[Any]) -> np.ndarray:
        return np.stack([np.full(4, float(np.mean(next(iter(w.values())))), np.float32) for w in windows])


PREPROCESSING = {
    "image": {"size": 16, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
    "audio": {"window_seconds": 30},
}


def prepare_text(text: str) -> Prepared:
    return Prepared([{"letters": np.frombuffer(text[:20].ljust(20).encode("utf-32-le"), np.uint32).astype(np.float32)}])


def pass_over(task: str, examples: Sequence[Example]) -> list[LeftOut]:
    """The pass over examples with the real decoding and preparation: those that could not be used. Every example gives one row."""
    modality = MODALITIES[task]
    prepare = prepare_text if task == "text" else modality.preparer(PREPROCESSING[task], {})
    with warnings.catch_warnings():
        # as the command line does; what regraft itself gives cause for is an error
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", module="regraft")
        rows = list(stream([e.source for e in examples], modality, Tiny, prepare))
    assert sorted(row.index for row in rows) == list(range(len(examples)))
    assert all(row.reason or row.known or row.features is not None for row in rows)
    left_out = [LeftOut(examples[row.index].name, row.reason) for row in rows if row.reason]
    check_left_out(left_out)
    return left_out


def open_safely(source: Any, *, laid: int | None = None, task: str | None = None, **more: Any) -> Dataset | RegraftError:
    """What opening gives: a data set in which nothing of `laid` things is lost, or an error that people can read."""
    columns = {k: more.pop(k) for k in ("input", "label") if k in more}
    try:
        dataset = open_data(source, replace(asked(task, columns.get("input"), columns.get("label")), **more))
    except RegraftError as error:
        check_error(error)
        return error
    check_left_out(dataset.left_out)
    for example in dataset.examples:
        assert not RAW.search(example.name), repr(example.name)
    for said in dataset.said:
        check_text(said)
    if laid is not None:
        assert len(dataset.examples) + len(dataset.left_out) == laid, (dataset.examples, dataset.left_out)
    return dataset


def decode_safely(task: str, source: Any) -> Any:
    """One example through the pass: its reason, or nothing when it was read."""
    found = pass_over(task, [Example("x", source, "a")])
    return found[0].reason if found else ""
