"""What is mistaken for what: of classes, and of several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.evaluation.report.base import Report, Section, table, text

MOST = 30
"""Classes up to which all pairs are shown; of more, those that are mistaken most often."""


def _body(report: Report) -> str:
    if (found := report.result.get("confusion")) is not None:
        return _classes(found)
    if (found := report.result.get("each_label")) is not None:
        return _labels(found)
    return ""


def _classes(found: Mapping[str, Any]) -> str:
    labels, rows = found["labels"], found["rows"]
    if len(labels) <= MOST:
        head = ["true \\ said", *(text(label, 14) for label in labels), "right"]
        return table(head, [_row(i, label, row) for i, (label, row) in enumerate(zip(labels, rows, strict=True))], kind="confusion")
    wrong = [(n, labels[i], labels[j]) for i, row in enumerate(rows) for j, n in enumerate(row) if n and i != j]
    wrong.sort(key=lambda item: (-item[0], item[1], item[2]))
    if not wrong:
        return "<p>No mistakes.</p>"
    return table(["true", "said", "times"], [[text(a), text(b), str(n)] for n, a, b in wrong[:MOST]], right=(2,))


def _row(own: int, label: str, row: Sequence[int]) -> list[str]:
    """Of one class: each cell as dark as its part of the class."""
    total = sum(row)
    cells = [_shaded(n, n / total if total else 0.0, own == j) for j, n in enumerate(row)]
    return [text(label, 24), *cells, f"{row[own] / total:.0%}" if total else ""]


def _shaded(count: int, part: float, right: bool) -> str:
    if not count:
        return "·"
    colour = "var(--blue)" if right else "var(--mark)"
    return (
        f'<span style="background:color-mix(in srgb,{colour} {10 + round(50 * part)}%,transparent);padding:.1rem .35rem">{count:,}</span>'
    )


def _labels(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = ("precision", "recall", "f1", "average_precision")
    shown = sorted(rows, key=lambda r: -r["n"])[: 2 * MOST]
    cells = [[text(r["label"], 40), f"{r['n']:,}", *("" if r[k] is None else f"{r[k]:.3f}" for k in keys)] for r in shown]
    more = f"<p class='soft'>The commonest {len(shown)} of {len(rows)}.</p>" if len(rows) > len(shown) else ""
    return table(["label", "examples", "precision", "recall", "F1", "average precision"], cells, right=range(1, 6)) + more


SECTION = Section("What is mistaken for what", _body)
