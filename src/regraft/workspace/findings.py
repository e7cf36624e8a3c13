"""What was measured on this machine, kept beside the feature store: a JSON file that may be deleted at any time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from regraft.errors import WriteError
from regraft.workspace.files import read_json, write_json
from regraft.workspace.store import home

ENTRIES = 500
"""Findings kept; the oldest go."""


def findings_key(facts: Mapping[str, Any]) -> str:
    """The name of a finding: a hash of everything that it depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def read_finding(name: str, key: str) -> Any:
    """What was kept in `NAME.json` under a key; None when there is nothing. A damaged file holds nothing."""
    return _read(name).get(key)


def keep_finding(name: str, key: str, value: Any) -> None:
    """Keep plain data. A disk that does not take it is no fault: it is measured again."""
    held = _read(name)
    held.pop(key, None)
    held[key] = value
    with suppress(WriteError, OSError):
        write_json(home() / f"{name}.json", dict(list(held.items())[-ENTRIES:]))


def _read(name: str) -> dict[str, Any]:
    try:
        held = read_json(home() / f"{name}.json")
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
