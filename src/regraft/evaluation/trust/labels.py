"""Suspicious labels: those that held-out predictions contradict most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from regraft.evaluation.trust.base import SHOWN, Check, Evidence, Listing, share
from regraft.evaluation.trust.suspicion import Suspicion, suspicious_labels, suspicious_marks, suspicious_numbers

COLUMNS = ("name", "label", "suggested", "probability", "probability of label", "score")


def _look(evidence: Evidence) -> tuple[dict[str, Any], Listing]:
    entries = _ENTRIES[evidence.kind](evidence)
    found, items = entries
    expected = sum(s.expected for s in found)
    of = max((s.of for s in found), default=0)
    finding = {
        "expected": round(expected, 1),
        "of": of,
        "share": round(expected / of, 6) if of and evidence.kind != "multilabel" else None,
        "named": sum(len(s.named) for s in found),
        "kind": evidence.kind,
        "examples": [item for item in items if item["named"]][:SHOWN],
    }
    rows = [
        [_cell(item.get(key)) for key in ("name", "label", "suggested", "probability", "probability_of_label", "score")] for item in items
    ]
    rows = [[*row, "yes" if item["named"] else ""] for row, item in zip(rows, items, strict=True)]
    return finding, Listing([*COLUMNS, "named"], rows)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _of_classes(evidence: Evidence) -> tuple[list[Suspicion], list[dict[str, Any]]]:
    found = suspicious_labels(evidence.y, evidence.readable)
    named = set(found.named.tolist())
    items = []
    for k in _by_score(found.scores, below=0.0):
        p = evidence.readable[k].copy()
        given = int(evidence.y[k])
        own, p[given] = float(p[given]), -1.0
        best = int(p.argmax())
        items.append(_item(evidence, k, evidence.outputs[best], float(p[best]), own, found.scores[k], k in named))
    return [found], items


def _of_marks(evidence: Evidence) -> tuple[list[Suspicion], list[dict[str, Any]]]:
    found = suspicious_marks(evidence.y, evidence.readable)
    items = []
    for label, own, name in zip(range(len(found)), found, evidence.outputs, strict=True):
        named = set(own.named.tolist())
        for k in _by_score(own.scores, below=0.0):
            there = bool(evidence.y[k, label])
            p = float(evidence.readable[k, label])
            suggested = f"without {name}" if there else f"with {name}"
            given, other = (p, 1 - p) if there else (1 - p, p)
            items.append(_item(evidence, k, suggested, other, given, own.scores[k], k in named))
    return found, sorted(items, key=lambda item: item["score"])


def _of_numbers(evidence: Evidence) -> tuple[list[Suspicion], list[dict[str, Any]]]:
    found = suspicious_numbers(evidence.y, evidence.readable[:, 0].astype(np.float64))
    named = set(found.named.tolist())
    places = _by_score(found.scores, below=0.0)[: max(len(named), SHOWN)]
    suggested = [f"{float(evidence.readable[k, 0]):.6g}" for k in places]
    return [found], [_item(evidence, k, s, None, None, found.scores[k], k in named) for k, s in zip(places, suggested, strict=True)]


_ENTRIES = {"class": _of_classes, "multilabel": _of_marks, "number": _of_numbers}


def _by_score(scores: np.ndarray, below: float) -> list[int]:
    places = np.flatnonzero(scores < below)
    return places[np.argsort(scores[places], kind="stable")].tolist()


def _item(
    evidence: Evidence, k: int, suggested: str, probability: float | None, own: float | None, score: float, named: bool
) -> dict[str, Any]:
    place = int(evidence.train[k])
    found: dict[str, Any] = {"name": evidence.names[place], "label": evidence.cells[place], "suggested": suggested}
    if probability is not None and own is not None:
        found |= {"probability": round(probability, 4), "probability_of_label": round(own, 6)}
    return found | {"score": round(float(score), 3), "named": named}


def _told(finding: Mapping[str, Any]) -> list[str | Listing]:
    if finding["kind"] == "number":
        head = f"suspicious values: {finding['named']:,} of {finding['of']:,} lie far outside of what held-out predictions say"
    else:
        part = f", {share(finding['share'], 1)}" if finding["share"] is not None else ""
        expected = f"about {finding['expected']:,.0f} of {finding['of']:,} are expected to be wrong{part}"
        head = (
            f"suspicious labels: {expected}; {finding['named']:,} are named, the most suspicious first"
            if finding["named"]
            else (f"suspicious labels: none is clear enough to be named ({expected})")
        )
    if not finding["examples"]:
        return [head]
    rows = [
        [
            e["name"],
            e["label"],
            e["suggested"],
            *([f"{e['probability']:.3f}", f"{e['probability_of_label']:.4f}"] if "probability" in e else []),
        ]
        for e in finding["examples"][:10]
    ]
    columns = ["suspicious", "label", "rather", "probability", "of the label"][: len(rows[0])]
    more = finding["named"] - len(rows)
    return [head, Listing(columns, rows), *([f"and {more:,} more (--out DIR lists all)"] if more > 0 else [])]


CHECK = Check("suspicious_labels", _look, _told)
