"""What was tried, from the fewest changes on, and what each step gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regraft.evaluation.names import duration
from regraft.evaluation.report.base import Report, Section, table, text


def _points(gain: Mapping[str, float], key: str) -> str:
    scale, unit = (1.0, "") if key == "mae" else (100.0, " points")
    value, low, high = (f"{gain[k] * scale:+.3g}" for k in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})"


def _first(gains: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """(what is measured, its figure) of the one gain in a result."""
    return next(iter(gains.items()))


def _body(report: Report) -> str:
    result = report.result
    rows: list[list[str]] = []
    measure, gain = _first(result["better_than_no_network"])
    rows.append([f"the network against none ({text(report.without_network)})", _points(gain, report.key), _verdict(gain)])
    if above := result.get("better_than_head"):
        _, gain = _first(above)
        rows.append([f"{text(result['train'])} against a linear output layer alone (head)", _points(gain, report.key), _verdict(gain)])
    if (asked := result.get("asked")) and "better_than_head" in asked:
        _, gain = _first(asked["better_than_head"])
        rows.append([f"{text(asked['train'])} (asked for, not kept) against head", _points(gain, report.key), _verdict(gain)])
    shown = table(["in pairs, on the same held-out examples", f"gain in {text(measure)}", ""], rows)
    return shown + _costs(report)


def _verdict(gain: Mapping[str, float]) -> str:
    return "clearly better" if gain["low"] > 0 else "clearly worse" if gain["high"] < 0 else "no clear difference"


def _costs(report: Report) -> str:
    """What was predicted and measured, side by side."""
    rows = []
    for name, cost in report.result["costs"].items():
        seconds = cost["unit"] == "s"
        said = [
            "" if cost[k] is None else duration(cost[k]) if seconds else f"{cost[k]:,.0f} {cost['unit']}" for k in ("predicted", "measured")
        ]
        rows.append([text(name), *map(text, said)])
    return table(["cost", "predicted", "measured"], rows, right=(1, 2)) if rows else ""


SECTION = Section("What it gained, and what it cost", _body)
