"""export: a run's model as a file for other programs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regraft.data import open_data
from regraft.errors import RegraftError, UsageError
from regraft.events import Done, Emit, Said, Started, Warned, silent
from regraft.jobs.common import as_source, computing_threads, core_count, versions
from regraft.jobs.labelled import IN_MEMORY, asked_of
from regraft.jobs.run import Run, open_run
from regraft.spec import FitSpec, one_of, refuse
from regraft.workspace.bundle import MANIFEST
from regraft.workspace.files import read_json
from regraft.workspace.runs import bundle_folder


def export(
    run: str | os.PathLike[str] | Run,
    *,
    to: str = "onnx",
    out: str | os.PathLike[str] | None = None,
    allow_code: bool = False,
    threads: int | None = None,
    on_event: Emit = silent,
) -> dict[str, Any]:
    """Write a run's model, the network with its head, as one file for other programs; how inputs are prepared stands in a JSON beside it.

    `out` is the file's path; RUN/onnx/model.onnx when not given. The file is compared with torch on examples of the data of the fit
    where that is still there, else on made-up ones, and kept only when they agree. Returns what the JSON holds, and `path`. Raises
    UsageError for an `out` that cannot be meant, ModelError when the network cannot be written, MissingExtra without what it needs.
    """
    from regraft.artifacts.exporting import AT_MOST, export_model
    from regraft.artifacts.exports import EXPORTS

    refuse(one_of("--to", to, tuple(EXPORTS)))
    kind = EXPORTS[to]
    start = time.perf_counter()
    held = run if isinstance(run, Run) else open_run(run)
    model = held.model
    if allow_code:
        model.allow_code()
    path = _place(held.path, out, kind.name, kind.ending)
    said, sources = _examples(held.path, AT_MOST)
    on_event(Said(said))
    on_event(Started("export", 0, "files"))
    with computing_threads(threads or core_count()):
        found = export_model(model, kind, path, sources, versions=versions())
    checked = found["checked"]
    on_event(Done("export", time.perf_counter() - start, f"checked on {checked['examples']} {checked['on']}"))
    if checked["equal_decisions"] < checked["examples"]:
        differ = checked["examples"] - checked["equal_decisions"]
        on_event(Warned(f"{differ} of {checked['examples']} examples lie so near a border that the file decides them otherwise"))
    return {"path": str(path), **found}


def _place(run: Path, out: str | os.PathLike[str] | None, kind: str, ending: str) -> Path:
    """Where the file goes; UsageError when that cannot be meant."""
    if out is None:
        # a bundle that stands alone holds nothing but itself
        alone = bundle_folder(run) == run
        return (run.resolve().with_name(f"{run.resolve().name}-{kind}") if alone else run / kind) / f"model{ending}"
    path = Path(out)
    if path.suffix != ending:
        raise UsageError(f"--out {path}: --to {kind} writes {ending}", move=f"--out {path.with_suffix(ending)}")
    if (path.parent / MANIFEST).exists():
        raise UsageError(f"--out {path}: {path.parent} is a bundle, which holds nothing else", move=f"--out {path.name}")
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder", expected="a file")
    return path


def _examples(run: Path, count: int) -> tuple[str, Sequence[Any]]:
    """(what to say, examples of the data that a run was fitted to, evenly spread); none where the data is not there any more."""
    made_up = "so the file is checked on made-up examples"
    try:
        spec = FitSpec.from_json(read_json(run / "spec.json"))
    except (OSError, ValueError, TypeError):
        return f"nothing says here what data it was fitted to, {made_up}", []
    if spec.data == IN_MEMORY:
        return f"it was fitted to data in memory, {made_up}", []
    try:
        examples = open_data(as_source(spec.data), asked_of(spec)).examples
    except (RegraftError, OSError):
        return f"the data of its fit, {spec.data}, cannot be opened from here, {made_up}", []
    step = max(1, -(-len(examples) // count))
    return f"checked on examples of {spec.data}", [e.source for e in examples[::step]]
