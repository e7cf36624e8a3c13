"""regraft: transfer learning by evidence. The public names, loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "compare": "regraft.jobs",
    "fit": "regraft.jobs",
    "head": "regraft.jobs",
    "inspect": "regraft.jobs",
    "load": "regraft.jobs",
    "plan": "regraft.jobs",
    "predict": "regraft.jobs",
    "profile": "regraft.jobs",
    "race": "regraft.jobs",
    "evaluate": "regraft.jobs",
    "export": "regraft.jobs",
    "extract_features": "regraft.jobs",
    "open_run": "regraft.jobs",
    "report": "regraft.jobs",
    "resume": "regraft.jobs",
    "show": "regraft.jobs",
    "models": "regraft.jobs",
    "runs": "regraft.jobs",
    "cache": "regraft.jobs",
    "clear_cache": "regraft.jobs",
    "Run": "regraft.jobs",
    "Prediction": "regraft.facts",
    "RegraftError": "regraft.errors",
    "Rung": "regraft.strategy.rungs",
}

if TYPE_CHECKING:
    from regraft.errors import RegraftError
    from regraft.facts import Prediction
    from regraft.jobs import (
        Run,
        cache,
        clear_cache,
        compare,
        evaluate,
        export,
        extract_features,
        fit,
        head,
        inspect,
        load,
        models,
        open_run,
        plan,
        predict,
        profile,
        race,
        report,
        resume,
        runs,
        show,
    )
    from regraft.strategy.rungs import Rung

__all__ = [
    "Prediction",
    "RegraftError",
    "Run",
    "Rung",
    "__version__",
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


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'regraft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
