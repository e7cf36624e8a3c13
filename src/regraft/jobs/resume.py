"""resume: a fit that was interrupted, to its end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deadline import Deadline
from regraft.errors import UsageError
from regraft.events import Emit, Said, silent
from regraft.jobs.common import as_source
from regraft.jobs.fit import Arguments, fitted
from regraft.jobs.recording import Recorder
from regraft.jobs.run import Run
from regraft.spec import FitSpec
from regraft.workspace.runs import RESULT, unfinished_run

if TYPE_CHECKING:
    from torch import nn

    from regraft.anatomy import Net


def resume(
    run: str | os.PathLike[str],
    *,
    data: Any = None,
    test: Any = None,
    model: str | nn.Module | Net | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    on_event: Emit = silent,
) -> Run:
    """Go on with a fit that was interrupted, with the decisions that it took: the bundle is the one that it would have written.

    What was given to `fit` in memory is given again: `data`, `test`, `model`, `preprocessing`. Paths are looked for from the present
    folder. A run that is finished is returned as it is. Raises RunError when there is no run, when another process writes it, or when not
    everything is as it was (which is then named), and whatever `fit` raises.
    """
    start = time.perf_counter()
    path = Path(run)
    if (path / RESULT).is_file():
        on_event(Said(f"{path} is finished: there is nothing to resume"))
        return Run(path)
    held = unfinished_run(path)
    try:
        spec = replace(FitSpec.from_json(held.spec), allow_code=allow_code)
        given = {"data": data, "test": test, "model": model, "preprocessing": preprocessing}
        lacking = [name for name in held.objects if given[name] is None]
        if lacking:
            raise UsageError(
                f"{path} was fitted to what lay in memory: {', '.join(lacking)}",
                move=f"in Python: regraft.resume({str(path)!r}, {', '.join(f'{name}=...' for name in held.objects)})",
            )
        named = {name for name, value in given.items() if value is not None} - set(held.objects)
        if named:
            raise UsageError(f"{path} knows its own {', '.join(sorted(named))}: it was not given in memory", move="leave it away")
        arguments = Arguments(
            as_source(spec.data if data is None else data),
            spec.test if test is None else test,
            spec.model if model is None else model,
            preprocessing,
        )
        deadline = Deadline.of(spec.budget)
        deadline.before, deadline.waiting = held.seconds, bool(held.decisions)
        deadline.hush(held.replay)
        recorder = Recorder(held.folder, on_event, held.decisions, held.replay, deadline)
        recorder.emit(Said(f"going on with {path}" + ("" if held.decisions else ", which had not decided anything yet")))
        return fitted(spec, arguments, lambda: recorder, start, deadline)
    finally:
        held.folder.close()
