"""Rungs and settings as they are asked for: by name, in a file, as a record."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regraft.jobs.written import plain_values
from regraft.spec import refuse
from regraft.strategy.rungs import Rung, rung_from
from regraft.strategy.settings import checked, named_values

FILES = (".yaml", ".yml", ".json")
"""Endings of the names of files that hold a rung."""

SHAPE = "trains: last 2 blocks, head\nsettings: {lr: 1e-4}"


def written_rung(train: str | os.PathLike[str] | Rung | Mapping[str, Any]) -> str:
    """What `--train` says as text that needs no file: the name of a rung, layers, or a rung of one's own as JSON.

    DataError for a file that cannot be read, UsageError for what it says that a rung cannot say.
    """
    if isinstance(train, Rung):
        return train.written()
    if isinstance(train, Mapping):
        return rung_from(train, "train").written()
    path = Path(train)
    if path.suffix.lower() not in FILES:
        return os.fspath(train)
    return rung_from(plain_values(path, "rung", SHAPE), path.stem).written()


def asked_settings(settings: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Settings as NAME=VALUE, each name once; UsageError with everything that is wrong."""
    faults: list[str] = []
    if isinstance(settings, Mapping):
        values: dict[str, Any] = dict(settings)
    else:
        values, faults = named_values([settings] if isinstance(settings, str) else settings)
    taken, more = checked(values, "--set")
    refuse([*faults, *more])
    return tuple(f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in taken.items())


def setting_values(texts: Sequence[str]) -> dict[str, Any]:
    """The values of settings that `asked_settings` wrote."""
    return checked(named_values(texts)[0], "--set")[0]
