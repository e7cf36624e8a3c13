"""The figures, with their intervals and what they are to be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regraft.evaluation.names import METRIC_NAMES, figure, judged_on
from regraft.evaluation.report.base import Report, Section, bar, table, text


def _body(report: Report) -> str:
    result, key = report.result, report.key
    columns: list[tuple[str, Mapping[str, Any]]] = [(judged_on(result), result["estimate"])]
    if test := result.get("test"):
        columns.append((f"test, {test['n']:,}", test["metrics"]))
        if fresh := test.get("without_duplicates"):
            columns.append((f"test without copies of training examples, {fresh['n']:,}", fresh["metrics"]))
    rows = [
        [text(name), *(figure(metrics[k]) if k in metrics else "" for _, metrics in columns)]
        for k, name in METRIC_NAMES.items()
        if k in result["estimate"]
    ]
    shown = table(["", *(text(title) for title, _ in columns)], rows)
    return f"{_compared(report, key)}{shown}<p class='soft'>{text(_explained(report))}</p>"


def _compared(report: Report, key: str) -> str:
    """The model beside those that know less, as bars."""
    result = report.result
    base = result["baseline"]
    says = str(base["constant"]["says"])
    lines: list[tuple[str, Mapping[str, float], str]] = [(f"this model, {METRIC_NAMES[key]}", result["estimate"][key], "")]
    if "without_network" in base:
        lines.append((f"without the network ({report.without_network})", base["without_network"]["metrics"][key], "other"))
    lines.append((f"always saying “{says[:40]}”", base["constant"]["metrics"][key], "other"))
    most = max(1.0 if key != "mae" else 0.0, *(f["high"] for _, f, _ in lines))
    rows = [[text(name), bar(f["value"], f["low"], f["high"], most, kind), figure(f)] for name, f, kind in lines]
    return table(["", "", ""], rows)


def _explained(report: Report) -> str:
    how = str(report.result["estimate_how"])
    return (
        f"Estimate: {how}. In parentheses and as the mark on a bar: the 95 % interval, how the figure would move with other examples of "
        "the same kind. It does not hold what another training set would change."
    )


SECTION = Section("How good it is", _body)
