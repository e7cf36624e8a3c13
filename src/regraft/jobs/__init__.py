"""jobs: the verbs. Each calls the rooms in order and emits events.

In: what a person asks for.     Out: facts, and folders on disk.
Never: prints, parses a command line, or holds a rule that a room could hold.
"""

from __future__ import annotations

from regraft.jobs.compare import compare
from regraft.jobs.export import export
from regraft.jobs.fit import fit
from regraft.jobs.inspect import inspect
from regraft.jobs.look import cache, clear_cache, runs, show
from regraft.jobs.network import head, load
from regraft.jobs.networks import models
from regraft.jobs.plan import plan
from regraft.jobs.profile import profile
from regraft.jobs.race import race
from regraft.jobs.report import report
from regraft.jobs.resume import resume
from regraft.jobs.run import Run, open_run
from regraft.jobs.use import evaluate, extract_features, predict

__all__ = [
    "Run",
    "cache",
    "clear_cache",
    "compare",
    "evaluate",
    "export",
    "extract_features",
    "fit",
    "head",
    "inspect",
    "load",
    "models",
    "open_run",
    "plan",
    "predict",
    "profile",
    "race",
    "report",
    "resume",
    "runs",
    "show",
]
