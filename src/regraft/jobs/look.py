"""show, runs, cache: what there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from regraft.errors import UsageError
from regraft.jobs.run import open_run
from regraft.workspace.files import folder_bytes
from regraft.workspace.runs import list_runs
from regraft.workspace.store import SpaceFacts, Store, home


def show(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Everything about a run, or about a bundle that stands alone."""
    held = open_run(run)
    model = held.model
    return {"result": dict(held.result), "bundle": model.manifest, "target": model.target.name}


def runs(folder: str | os.PathLike[str] = "runs") -> list[dict[str, Any]]:
    """The runs in a folder, oldest first; `finished` says whether they are whole."""
    out = []
    for path, result in list_runs(Path(folder)):
        row: dict[str, Any] = {"run": str(path), "finished": result is not None}
        if result is not None:
            row.update({k: result.get(k) for k in ("data", "task", "target", "model", "train", "n", "estimate", "test", "seconds")})
        out.append(row)
    return out


def cache(explain: str | None = None) -> dict[str, Any]:
    """The feature store: its folder, bound in bytes, and each space with its maker, which is what the key is made of; and the folder of
    what was fetched from hubs, which the bound does not count. `explain` asks for the one space whose key starts so.
    """
    store = Store()
    spaces = store.spaces()
    hub = home() / "hub"
    return {
        "folder": str(store.root),
        "limit": store.limit,
        "bytes": sum(s.bytes for s in spaces),
        "hub": {"folder": str(hub), "bytes": folder_bytes(hub)},
        "spaces": [s.to_json() for s in (spaces if explain is None else _one(spaces, explain))],
    }


def clear_cache(key: str | None = None) -> dict[str, Any]:
    """Empty the feature store, or remove the one space whose key starts with `key`. Returns what was removed."""
    store = Store()
    spaces = store.spaces()
    if key is not None:
        spaces = _one(spaces, key)
    for space in spaces:
        store.remove(space.key)
    return {"removed": [s.to_json() for s in spaces], "bytes": sum(s.bytes for s in spaces)}


def _one(spaces: list[SpaceFacts], key: str) -> list[SpaceFacts]:
    found = [s for s in spaces if s.key.startswith(key)]
    if len(found) != 1:
        raise UsageError(f"{len(found)} spaces of the feature store have a key that starts with {key!r}", move="regraft cache")
    return found
