"""report: a run as one page that stands alone."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regraft.data.base import TRAIN, Example
from regraft.errors import RegraftError, RunError
from regraft.evaluation.report import SECTIONS, Judged, Report, Shown, page
from regraft.events import Emit, Warned, silent
from regraft.jobs.common import as_source
from regraft.jobs.labelled import IN_MEMORY, Labelled, open_labelled
from regraft.jobs.recording import of_shipped
from regraft.jobs.run import open_run
from regraft.modality import MODALITIES, Modality, Sketch
from regraft.spec import FitSpec
from regraft.targets import Target
from regraft.workspace.files import read_json, write_text
from regraft.workspace.runs import OUT_OF_FOLD, PAGE, SPEC, read_decisions

WORST = 24
"""Mistakes that are shown."""


def report(
    run: str | os.PathLike[str],
    *,
    data: Any = None,
    out: str | os.PathLike[str] | None = None,
    full: bool = False,
    on_event: Emit = silent,
) -> dict[str, Any]:
    """Write what a run found as one HTML file that needs nothing else: figures, gains, costs, the learning curve, what each depth of the
    network is worth, mistakes with their pictures or texts.

    `data` is what the run was fitted to, where it lay in memory or lies elsewhere now; `out` the file, report.html in the run's folder when
    not given. The learning curve and the depths are made from features in the store; with `full` the network runs again for those that are
    missing. Returns `file`, `shown`, how many mistakes could be looked at, and `sections`, the titles of what stands on the page. Raises
    RunError where there is no finished run.
    """
    from regraft.jobs.looking_back import LookingBack

    held = open_run(run)
    if not held.result:
        raise RunError(f"{run} is a bundle by itself: it holds no figures", expected="the folder of a run", move="regraft runs")
    file = Path(out) if out is not None else held.path / PAGE
    curve: Mapping[str, Any] = {}
    profile: Mapping[str, Any] = {}
    try:
        spec = FitSpec.from_json(read_json(held.path / SPEC))
        labelled = _labelled(spec, data)
        examples, unseen = labelled.part(TRAIN)[0], ""
        curve, profile = LookingBack(spec, labelled, read_decisions(held.path), held.result.get("recipe") or (), full, on_event)()
    except RegraftError as error:
        examples, unseen = [], f"The examples could not be looked at: {error.found}."
        on_event(Warned(f"the examples are not shown: {error.found} (regraft report {held.path} --data DATA)"))
    made = _written(held.path, examples, unseen, file, curve, profile)
    shown, mistakes = sum(s.sketch is not None for s in made.wrong), sum(j.off > 0 for j in made.judged)
    return {"file": str(file), "shown": shown, "mistakes": mistakes, "sections": [s.title for s in SECTIONS if s.body(made)]}


def write_report(run: Path, examples: Sequence[Example]) -> None:
    """The page of a run that has just finished, into its folder; `examples` are those it was trained on."""
    _written(run, examples, "", run / PAGE)


def _written(
    run: Path,
    examples: Sequence[Example],
    unseen: str,
    file: Path,
    curve: Mapping[str, Any] | None = None,
    profile: Mapping[str, Any] | None = None,
) -> Report:
    held = open_run(run)
    model, result = held.model, held.result
    modality = MODALITIES[result["task"]]
    judged = read_judged(run / OUT_OF_FOLD, model.target)
    found = Report(
        result,
        of_shipped(read_decisions(run), model.manifest["train"]),
        model.manifest,
        modality.nouns,
        modality.without_network,
        judged,
        _worst(judged, examples, modality),
        unseen,
        curve=curve or {},
        profile=profile or {},
    )
    write_text(file, page(found, SECTIONS))
    return found


def read_judged(file: Path, target: Target) -> list[Judged]:
    """What a run said of the training examples that it held out, in their order; nothing where it judged in another view of its target.
    RunError for a file that was changed.
    """
    found: list[Judged] = []
    try:
        with open(file, encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            if list(rows.fieldnames or []) != ["name", "fold", *target.cell_names]:
                raise ValueError(f"its header is {', '.join(rows.fieldnames or [])}")
            for row in rows:
                if None in row or None in row.values():
                    raise ValueError(f"line {rows.line_num} has another number of cells")
                cells = {name: row[name] for name in target.cell_names}
                off = target.off(list(cells.values()))
                if off is not None:
                    found.append(Judged(row["name"], cells, off))
    except (ValueError, TypeError, OSError, csv.Error) as error:
        raise RunError(f"{file} cannot be read: {error}", move="run the fit again") from None
    return found


def _worst(judged: Sequence[Judged], examples: Sequence[Example], modality: Modality) -> list[Shown]:
    """The worst mistakes, with what they look like; the first of equally bad ones as they stand in the data."""
    times = Counter(e.name for e in examples)
    # of several examples of one name nobody knows which it was
    sources = {e.name: e.source for e in examples if times[e.name] == 1}
    worst = sorted((j for j in judged if j.off > 0), key=lambda j: -j.off)[:WORST]
    return [Shown(j, _sketch(sources[j.name], modality) if j.name in sources else None) for j in worst]


def _sketch(source: Any, modality: Modality) -> Sketch | None:
    try:
        return modality.sketch(modality.load(source).decode())
    except Exception:  # it may have gone since, or changed: a page without this picture is better than none
        return None


def _labelled(spec: FitSpec, data: Any) -> Labelled:
    """The data of a run, from where it had it or from `data`."""
    if data is None and spec.data == IN_MEMORY:
        raise RunError("the run was fitted to data in memory", move="report(run, data=...)")
    return open_labelled(spec, as_source(spec.data if data is None else data), _test_of(spec))


def _test_of(spec: FitSpec) -> Any:
    """What was tested on, where that takes examples out of the training part."""
    return spec.test_fraction
