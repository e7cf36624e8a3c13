"""regraft cache"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from regraft.cli.common import json_option, print_json

MEANING = {
    "after": "the cut comes after this layer",
    "architecture": "the network",
    "at": "where the rows are taken",
    "device": "where the network ran",
    "engine": "how it ran",
    "files": "what prepares inputs, by SHA-256",
    "inputs": "what the network takes",
    "instructions": "of the processor: kernels add in another order",
    "kept": "the precision in which the tensors are kept",
    "operations": "what the network does before the cut, by SHA-256",
    "preprocessing": "what is done to an example before the network",
    "summary": "how an example is put in numbers without a network",
    "tensors": "what is kept of a window",
    "tile": "windows that run together",
    "torch": "kernels of another version may round otherwise",
    "version": "of regraft's own part in it",
    "weights": "parameters and buffers that were used, by SHA-256",
}
"""What the parts of a key are."""

NOT_IN_IT = "Not in it: names and order of files, the training's batch size, threads and workers, and what trains after the cut."


@click.command("cache")
@click.option("--explain", metavar="KEY", help="What one entry is and what its key is made of; the start of its key is enough.")
@click.option("--empty", is_flag=True, help="Remove everything that is kept.")
@click.option("--remove", metavar="KEY", help="Remove one entry; the start of its key is enough.")
@json_option
def command(explain: str | None, empty: bool, remove: str | None, as_json: bool) -> None:
    """Show the feature store: what is kept, what made it, how much room it takes. It can always be computed again."""
    from regraft import jobs
    from regraft.cli.render import console, show
    from regraft.errors import UsageError

    if sum(map(bool, (explain, empty, remove))) > 1:
        raise UsageError("--explain, --empty and --remove exclude each other")
    if empty or remove:
        gone = jobs.clear_cache(remove)
        if as_json:
            print_json(gone)
        else:
            show(console(), f"removed {len(gone['removed'])} entries, {gone['bytes'] / 1e6:,.1f} MB")
        return
    found = jobs.cache(explain)
    if as_json:
        print_json(found)
    elif explain:
        _show_key(found["spaces"][0])
    else:
        _show_all(found)


def _show_all(found: Mapping[str, Any]) -> None:
    from regraft.cli.render import console, show, table

    out = console()
    show(
        out,
        f"{found['folder']}: {found['bytes'] / 1e6:,.1f} MB of at most {found['limit'] / 1e9:,.1f} GB (REGRAFT_CACHE_SIZE, REGRAFT_HOME)",
    )
    rows = [
        [s["key"][:8], _what(s["maker"]), str(s["maker"].get("engine", "")), f"{s['rows']:,}", f"{s['bytes'] / 1e6:,.1f} MB", _used(s)]
        for s in found["spaces"]
    ]
    if rows:
        show(out, table(["key", "what", "engine", "examples", "size", "used"], rows, (3, 4)))
        show(out, "  regraft cache --explain KEY     regraft cache --remove KEY     regraft cache --empty")
    if found["hub"]["bytes"]:
        held = f"{found['hub']['bytes'] / 1e6:,.1f} MB of networks fetched from hubs"
        show(out, f"{found['hub']['folder']}: {held}, outside the bound; --empty leaves them, and what is deleted is fetched again")


def _show_key(space: Mapping[str, Any]) -> None:
    from regraft.cli.render import console, show

    out = console()
    maker = dict(space["maker"])
    show(out, f"{space['key']}: {_what(maker)}", f"{space['rows']:,} examples, {space['bytes'] / 1e6:,.1f} MB, used {_used(space)}", "")
    maker.pop("kind", None)
    parts = {**maker, **maker.pop("cut", {})} if isinstance(maker.get("cut"), dict) else maker
    parts.pop("cut", None)
    show(out, "The key is a hash of:")
    for name, value in parts.items():
        show(out, f"  {name:<14} {_words(name, value)}" + (f"   ({MEANING[name]})" if name in MEANING else ""))
    show(out, "", "An example is known by its bytes.", NOT_IN_IT)


def _what(maker: Mapping[str, Any]) -> str:
    """In words, what a maker made."""
    architecture, cut = maker.get("architecture"), maker.get("cut")
    network = maker.get("network") or (architecture.get("name") if isinstance(architecture, dict) else None) or maker.get("modality", "?")
    if maker.get("kind") == "cut" and isinstance(cut, dict):
        return f"{network}, cut after {cut.get('after')}"
    return f"{network}, {maker.get('kind', '?')}"


def _used(space: Mapping[str, Any]) -> str:
    import time

    from regraft.cli.render import duration

    return f"{duration(max(0.0, time.time() - space['used']))} ago"


def _words(name: str, value: Any) -> str:
    """A part of a key as a line of text."""
    if name == "tensors" and isinstance(value, list):
        return ", ".join(f"{'x'.join(map(str, t['shape']))} {t['dtype']}" for t in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_words(k, v)}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(_words("", v) for v in value)
    text = str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
