"""compare: runs on the same examples, in pairs."""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.errors import RunError, UsageError
from regraft.evaluation.classes import mean_interval
from regraft.jobs.run import Run, open_run
from regraft.targets import Target
from regraft.workspace.files import folder_bytes
from regraft.workspace.runs import OUT_OF_FOLD, bundle_folder

Key = tuple[str, int]
"""An example's name, and which one of that name it is."""


@dataclass(frozen=True)
class _Held:
    """A run with what it said of examples that it had not seen: {example: (truth, decision)}, None where it said nothing."""

    run: Run
    target: Target
    said: dict[Key, tuple[Any, Any | None]]


def compare(*runs: str | os.PathLike[str]) -> dict[str, Any]:
    """The first run with each of the others, on the training examples that both judged by cross-validation.

    Returns `runs` (model, train, estimate, n, seconds of each, and the bytes of its bundle) and `comparisons`. Each of those has `gain`,
    the mean advantage over the first run an example with a 95 % interval, paired; `n`; `only_first` and `only_other`, on how many
    examples one of them does better; and a `verdict` in words. Each run was cross-validated in folds of its own: the interval holds
    the chance of the examples, not that of the folds.

    Raises UsageError for fewer than two runs, RunError for runs of different tasks, targets, labels or examples.
    """
    if len(runs) < 2:
        raise UsageError("compare needs two runs at least", expected="regraft compare RUN RUN", move="regraft runs")
    held = [_read(path) for path in runs]
    first = held[0]
    faults = [fault for other in held[1:] for fault in _differences(first, other)]
    if faults:
        raise RunError("these runs cannot be compared", faults=faults, expected="runs of the same data", move="regraft runs")
    return {"runs": [_facts(h) for h in held], "comparisons": [_pair(first, other) for other in held[1:]]}


def _read(path: str | os.PathLike[str]) -> _Held:
    run = open_run(path)
    file = run.path / OUT_OF_FOLD
    if not run.result or not file.is_file():
        raise RunError(
            f"{path} has no {OUT_OF_FOLD}", expected="the folder of a run, with what it said of its examples", move="regraft runs"
        )
    target = run.model.target
    said: dict[Key, tuple[Any, Any | None]] = {}
    seen: Counter[str] = Counter()
    try:
        with open(file, encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            wanted = ["name", "fold", *target.cell_names]
            if (header := next(rows, [])) != wanted:
                raise ValueError(f"its header is {', '.join(header)}; expected {', '.join(wanted)}")
            for row in rows:
                if len(row) != len(wanted):
                    raise ValueError(f"line {rows.line_num} has {len(row)} cells")
                said[row[0], seen[row[0]]] = target.read_cells(row[2:])
                seen[row[0]] += 1
    except (ValueError, OSError, csv.Error) as error:
        raise RunError(f"{file} cannot be read: {error}", move="run the fit again") from None
    return _Held(run, target, said)


def _differences(first: _Held, other: _Held) -> list[str]:
    """What keeps two runs from being compared."""
    a, b = first.run.result, other.run.result
    names = f"{first.run.path} and {other.run.path}"
    faults = [f"{names}: {key} is {a[key]} and {b[key]}" for key in ("task", "target") if a[key] != b[key]]
    if faults:
        return faults
    if first.target.outputs != other.target.outputs:
        return [f"{names}: the labels differ ({', '.join(a['labels'][:5])} and {', '.join(b['labels'][:5])})"]
    shared = first.said.keys() & other.said.keys()
    if not shared:
        return [f"{names}: no example has the same name in both"]
    moved = [key for key in first.said if key in shared and first.said[key][0] != other.said[key][0]]
    if moved:
        return [f"{names}: {len(moved):,} examples of the same name have other labels, such as {moved[0][0]}"]
    if not _both(first, other):
        return [f"{names}: no example was held out in both"]
    return []


def _both(first: _Held, other: _Held) -> list[Key]:
    """The examples that both judged."""
    return [key for key, (_, decided) in first.said.items() if decided is not None and other.said.get(key, (None, None))[1] is not None]


def _pair(first: _Held, other: _Held) -> dict[str, Any]:
    target = first.target
    keys = _both(first, other)
    y = target.array([first.said[key][0] for key in keys])
    good = [target.gains(target.compared, y, target.array([held.said[key][1] for key in keys])) for held in (first, other)]
    gain = mean_interval(good[1] - good[0])
    names = str(first.run.path), str(other.run.path)
    if gain.low > 0:
        verdict = f"{names[1]} is better than {names[0]}"
    elif gain.high < 0:
        verdict = f"{names[1]} is worse than {names[0]}"
    else:
        verdict = f"no clear difference between {names[0]} and {names[1]}"
    return {
        "first": names[0],
        "other": names[1],
        "measure": target.compared,
        "gain": gain.to_json(),
        "n": len(keys),
        "left_out": max(len(first.said), len(other.said)) - len(keys),
        "only_first": int((good[0] > good[1]).sum()),
        "only_other": int((good[1] > good[0]).sum()),
        "verdict": f"{verdict}: {target.difference(gain)} on {len(keys):,} examples",
    }


def _facts(held: _Held) -> dict[str, Any]:
    result = held.run.result
    own = {key: result.get(key) for key in ("run", "model", "train", "n", "estimate", "seconds")}
    return {**own, "run": str(held.run.path), "bytes": folder_bytes(bundle_folder(Path(held.run.path)))}
