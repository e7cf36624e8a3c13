"""A model written for other programs: the file, how its inputs are prepared, and the proof that it says what torch says."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.artifacts.exports.base import BATCH, LENGTH, SCORES, Export, Runner
from regraft.artifacts.model import Model
from regraft.errors import ModelError, Unreadable
from regraft.modality import Prepared
from regraft.workspace.files import sha256_file, write_json, written_aside

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
"""Of the JSON beside the file."""

TOLERANCE = 1e-4
"""The largest difference to torch that is accepted, as a part of the largest score. Correct files stay below 1e-5."""

BATCHES = (1, 4, 3)
"""Sizes of the batches in which a file is checked, in turn."""

AT_MOST = 64
"""Examples that a file is checked on."""


def export_model(model: Model, export: Export, out: Path, sources: Sequence[Any], *, versions: Mapping[str, str]) -> dict[str, Any]:
    """Write `out`, the JSON of the same name beside it, and the files that preparing inputs needs. Returns what the JSON holds.

    The file is checked on `sources`, or where none can be read on made-up examples, before anything gets its final name. The JSON
    comes last: with it, the others are whole. ModelError when the network cannot be written, or differs by more than `TOLERANCE`.
    """
    examples, made_up = _prepared(model, sources)[:AT_MOST], False
    usual = _prepared(model, model.modality.made_up())
    if not examples:
        examples, made_up = usual, True
    network = model.network()
    inputs = model.modality.collate([model.modality.blank(model.preprocessing)] * 2, model.preprocessing)
    free = _free(model, usual)
    files = {name: f"{out.stem}.{name}" for name in model.files}
    about = _about(model, files, several=any(len(e.windows) > 1 for e in usual))
    notes = {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()}
    described_at = out.with_suffix(".json")
    with ExitStack() as stack:
        # the checked file gets its name when this block ends well
        aside = stack.enter_context(written_aside(out))
        recorded = export.write(network, inputs, free, notes, aside)
        checked = _compared(model, network, export.runner(aside), examples)
        if checked.largest > TOLERANCE * checked.scale:
            raise ModelError(
                f"the file would give other scores than torch: they differ by {checked.largest:.2g}",
                expected=f"at most {TOLERANCE:g} of the largest score, {checked.scale:.2g}",
                move="regraft.open_run(RUN).network() in Python gives the plain torch module, for other exporters",
            )
        sha256 = sha256_file(aside)
        with suppress(OSError):
            # that of an earlier export would be about another file
            described_at.unlink(missing_ok=True)
        for name, theirs in files.items():
            shutil.copyfile(model.files[name], stack.enter_context(written_aside(out.with_name(theirs))))
    described = {
        "format": FORMAT,
        "kind": export.name,
        "file": out.name,
        "sha256": sha256,
        **recorded,
        **about,
        "inputs": [
            {"name": name, "shape": [free[name].get(i, size) for i, size in enumerate(tensor.shape)], "dtype": _dtype(tensor)}
            for name, tensor in inputs.items()
        ],
        "outputs": [{"name": SCORES, "shape": [BATCH, len(model.labels)], "dtype": "float32"}],
        "files": sorted(files.values()),
        "checked": {
            "on": "made-up examples" if made_up else "examples of the data of its fit",
            "examples": len(examples),
            "windows": sum(len(e.windows) for e in examples),
            "largest_difference": checked.largest,
            "largest_score": checked.scale,
            "tolerance": TOLERANCE,
            "equal_decisions": checked.equal,
        },
        "versions": {**versions, **{name: importlib.metadata.version(name) for name in export.packages}},
    }
    write_json(described_at, described)
    return described


def _about(model: Model, files: Mapping[str, str], *, several: bool) -> dict[str, Any]:
    """What has to be known to use the file; `several`: an example can have several windows."""
    manifest, preprocessing = model.manifest, dict(model.preprocessing)
    if (tokenizer := str(preprocessing.get("tokenizer"))) in files:
        preprocessing["tokenizer"] = files[tokenizer]
    return {
        "task": manifest["task"],
        "labels": model.labels,
        "target": model.target.to_json(),
        "model": {key: manifest["model"].get(key, "") for key in ("name", "trained_on", "licence", "origin")},
        "preprocessing": preprocessing,
        "preparation": model.modality.in_words(model.preprocessing, files),
        "prediction": (_windows(model) if several else "") + model.target.in_words(),
    }


def _windows(model: Model) -> str:
    """How the windows of one example come together."""
    exact = model.averages_scores or model.manifest["head"].get("linear", True)
    return _WINDOWS if exact else _WINDOWS + _BEFORE_THE_HEAD


_WINDOWS = "the file takes windows; the scores of an example with several windows are the mean of theirs, by what the windows count; "

_BEFORE_THE_HEAD = "regraft itself averages the features before the head, which has several layers, so that its scores differ a little; "


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _prepared(model: Model, sources: Sequence[Any]) -> list[Prepared]:
    """The windows of those sources that can be read."""
    prepare = model.modality.preparer(model.preprocessing, model.files)
    found = []
    for source in sources:
        with suppress(Unreadable):
            found.append(prepare(model.modality.load(source).decode()))
    return found


def _free(model: Model, usual: Sequence[Prepared]) -> dict[str, dict[int, str]]:
    """Of each input the sizes that the user chooses: the batch, and what differs between examples of different lengths."""
    windows = [window for example in usual for window in example.windows]
    free: dict[str, dict[int, str]] = {}
    for name, tensor in model.modality.collate(windows[:1], model.preprocessing).items():
        shapes = {tuple(model.modality.collate([w], model.preprocessing)[name].shape) for w in windows}
        free[name] = {0: BATCH, **{i: LENGTH for i in range(1, tensor.ndim) if len({shape[i] for shape in shapes}) > 1}}
    return free


@dataclass(frozen=True)
class _Compared:
    """The largest difference of scores, the largest score, and how many examples are decided equally."""

    largest: float
    scale: float
    equal: int


def _compared(model: Model, network: nn.Module, run: Runner, examples: Sequence[Prepared]) -> _Compared:
    """Every window through both, in batches of several sizes; each example's decision by its windows together."""
    import torch

    shapes: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
    for i, example in enumerate(examples):
        for j, window in enumerate(example.windows):
            shapes[tuple((k, v.shape) for k, v in window.items())].append((i, j))
    ours: dict[tuple[int, int], np.ndarray] = {}
    theirs: dict[tuple[int, int], np.ndarray] = {}
    sizes = itertools.cycle(BATCHES)
    for places in shapes.values():
        waiting = iter(places)
        while batch := list(itertools.islice(waiting, next(sizes))):
            inputs = model.modality.collate([examples[i].windows[j] for i, j in batch], model.preprocessing)
            with torch.inference_mode():
                scores = network(**inputs).float().numpy()
            ours.update(zip(batch, scores, strict=True))
            got = run({k: v.contiguous().numpy() for k, v in inputs.items()})
            if got.shape != scores.shape:
                raise ModelError(f"the file gives {got.shape} where torch gives {scores.shape}")
            theirs.update(zip(batch, got, strict=True))
    whole = [np.stack([_mean(e, held, i) for i, e in enumerate(examples)]) for held in (ours, theirs)]
    largest = float(max(np.abs(ours[place] - theirs[place]).max() for place in ours))
    scale = float(max(np.abs(row).max() for row in ours.values())) or 1.0
    if not all(np.isfinite(row).all() for row in (*ours.values(), *theirs.values())):
        raise ModelError("the file or torch gives scores that are not numbers")
    decided = [np.asarray(model.target.decide(model.target.link(scores))).reshape(len(examples), -1) for scores in whole]
    # a number is decided equally when it is as near as scores may be
    close = np.isclose(*decided, rtol=0, atol=TOLERANCE * scale if decided[0].dtype.kind == "f" else 0)
    return _Compared(largest, scale, int(close.all(1).sum()))


def _mean(example: Prepared, scores: Mapping[tuple[int, int], np.ndarray], i: int) -> np.ndarray:
    """The scores of one example: its windows' by what they count, in float64."""
    weights = np.asarray(example.weights, np.float64)
    rows = np.stack([scores[i, j].astype(np.float64) for j in range(len(example.windows))])
    return (rows * weights[:, None]).sum(0) / weights.sum()
