"""What was tried, from the fewest changes on, and what each step gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regraft.evaluation.names import METRIC_NAMES, duration, number
from regraft.evaluation.report.base import Report, Section, table, text
from regraft.evaluation.told import gain_said

COSTS = {"seconds": "time of the whole fit", "peak_memory_mb": "memory at most"}
"""What costs are called where their own names say little."""


def _first(gains: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """(what is measured, its figure) of the one gain in a result."""
    return next(iter(gains.items()))


def _body(report: Report) -> str:
    result = report.result
    rows: list[list[str]] = []
    measure, gain = _first(result["better_than_no_network"])
    rows.append([f"the network against none ({text(report.without_network)})", gain_said(gain, report.key), _verdict(gain)])
    if above := result.get("better_than_head"):
        _, gain = _first(above)
        rows.append([f"{text(result['train'])} against a linear output layer alone (head)", gain_said(gain, report.key), _verdict(gain)])
    if (asked := result.get("asked")) and "better_than_head" in asked:
        _, gain = _first(asked["better_than_head"])
        rows.append([f"{text(asked['train'])} (asked for, not kept) against head", gain_said(gain, report.key), _verdict(gain)])
    shown = table(["in pairs, on the same held-out examples", f"gain in {text(measure)}", ""], rows)
    return shown + _costs(report)


def _verdict(gain: Mapping[str, float]) -> str:
    return "clearly better" if gain["low"] > 0 else "clearly worse" if gain["high"] < 0 else "no clear difference"


def _costs(report: Report) -> str:
    """What was predicted and measured, side by side."""
    rows = [[COSTS.get(name, METRIC_NAMES.get(name, name)), *_said(cost)] for name, cost in report.result["costs"].items()]
    return table(["", "predicted", "measured"], [list(map(text, row)) for row in rows], right=(1, 2)) if rows else ""


def _said(cost: Mapping[str, Any]) -> list[str]:
    """Both values: as time, as an amount of something, or as the figure that it is."""
    written = {"s": duration, "": number}.get(cost["unit"], lambda value: f"{value:,.0f} {cost['unit']}")
    return ["" if cost[name] is None else written(cost[name]) for name in ("predicted", "measured")]


SECTION = Section("What it gained, and what it cost", _body)
