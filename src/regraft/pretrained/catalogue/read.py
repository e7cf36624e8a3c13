"""The files of the catalogue made into entries, once, when the first is asked for."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regraft.facts import ModelFacts
from regraft.pretrained.catalogue.base import VALUE_NAMES, Entry, Transfer, squash

HERE = Path(__file__).resolve().parent

SAME = {
    "packaged:efficientnet-lite0": "timm:tf_efficientnet_lite0.in1k",
    "packaged:efficientnet-lite1": "timm:tf_efficientnet_lite1.in1k",
    "packaged:efficientnet-lite2": "timm:tf_efficientnet_lite2.in1k",
    "packaged:all-minilm-l6-v2": "hf:sentence-transformers/all-MiniLM-L6-v2",
}
"""Networks that regraft opens -> the catalogue's entry for the same published weights, converted by somebody else."""

PACKAGE = "package"
"""The source of facts that a network's own record holds; `origin` names it."""


def _json(name: str) -> dict[str, Any]:
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _whole(cell: str) -> int | None:
    return int(cell) if cell else None


def _published(values: Mapping[str, float]) -> str:
    """The figure that stands for all, as people read it."""
    return next((f"{values[name]:.1f} {after}" for name, after in VALUE_NAMES.items() if name in values and "images/s" not in after), "")


def _entry(row: Mapping[str, str], results: tuple[Transfer, ...]) -> Entry:
    values = {name: float(row[name]) for name in VALUE_NAMES if row[name]}
    return Entry(
        name=row["name"],
        task=row["task"],
        family=row["family"],
        trained_on=row["trained_on"],
        licence=row["licence"],
        licence_kind=row["licence_kind"],
        sources=tuple(row["sources"].split("; ")),
        published=_published(values),
        domain=row["domain"],
        parameters=_whole(row["parameters"]),
        counted=row["counted"],
        gmacs=_number(row["gmacs"]),
        gmacs_224=_number(row["gmacs_224"]),
        input_size=_whole(row["input_size"]),
        max_tokens=_whole(row["max_tokens"]),
        sample_rate=_whole(row["sample_rate"]),
        window=row["window"],
        features=_whole(row["features"]),
        amount=_whole(row["amount"]),
        amount_is_nominal=bool(row["nominal"]),
        unit=row["unit"],
        supervision=row["supervision"],
        languages=row["languages"],
        released=row["released"],
        remote_code=bool(row["remote_code"]),
        seen=_seen(row),
        values=values,
        transfer=results,
    )


def _seen(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row["seen"].split("|")) if row["seen"] else ()


@functools.cache
def entries() -> dict[str, Entry]:
    """Every entry by its name, in the order of tasks and names."""
    held = _json("transfer.json")
    datasets, ways = held.pop("datasets"), held.pop("ways")
    out = {}
    with (HERE / "networks.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            seen = {squash(name) for name in _seen(row)}
            results = []
            for place, way, n, value, *std in held.get(row["name"], ()):
                dataset, (setting, method, metric, split, source) = datasets[place], ways[way]
                known = squash(dataset.split(" (")[0]) in seen
                results.append(Transfer(dataset, n, setting, method, metric, split, value, std[0] if std else None, source, known))
            out[row["name"]] = _entry(row, tuple(results))
    return out


@functools.cache
def _sources() -> dict[str, Any]:
    return _json("sources.json")


def gathered() -> str:
    """The day the facts were gathered, as YYYY-MM-DD."""
    return _sources()["gathered"]


def source_line(key: str) -> str:
    """What a key of a source stands for, with its version and the licence of that text."""
    if key == PACKAGE:
        return "what the network's own package and papers say; see origin"
    what, version, licence = _sources()[key]
    return "; ".join(part for part in (what, version, licence and f"licence: {licence}") if part)


def entry_of(facts: ModelFacts) -> Entry:
    """The entry of a network that regraft opens: its own facts, and what the catalogue knows of the same weights."""
    known = entries()
    there = SAME.get(facts.name, facts.name.partition("@")[0])
    twin = known.get(there)
    mine: dict[str, Any] = {
        "name": facts.name,
        "task": facts.task,
        "about": facts.about,
        "trained_on": facts.trained_on,
        "published": facts.published,
        "licence": facts.licence,
        "licence_kind": _kind(facts.licence),
        "parameters": facts.parameters,
        "counted": "backbone",
        "features": facts.features,
    }
    if twin is None:
        return Entry(family="", sources=(PACKAGE,), **mine)
    if not facts.licence:
        del mine["licence_kind"]
    mine = {name: value for name, value in mine.items() if value}
    # where amounts are part of the network's own words they need not be said twice
    own = {"amount": None, "unit": "", "amount_is_nominal": False} if facts.trained_on else {}
    return replace(twin, same_as="" if there == facts.name else there, sources=(PACKAGE, *twin.sources), **mine, **own)


@functools.cache
def _kinds() -> dict[str, str]:
    return {entry.licence.casefold(): entry.licence_kind for entry in entries().values()}


def _kind(licence: str) -> str:
    return _kinds().get(licence.casefold(), "unknown")
