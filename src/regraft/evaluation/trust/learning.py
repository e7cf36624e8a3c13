"""The learning curve so far: held-out errors of a linear layer that learnt from smaller parts of the examples, and where they lead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from regraft.evaluation.trust.base import Check, Evidence, HeldOut, Listing, share
from regraft.strategy.learning import LEVEL, LearningCurve, Measured, fit_curve, shares_for


def measure(evidence: HeldOut) -> LearningCurve:
    """The curve: every part of the examples is drawn so that it has its share of every class, and smaller parts stand in larger ones; all
    are judged on the same held-out examples, in the same folds.
    """
    m = len(evidence.folds)
    whole = evidence.errors(evidence.held)
    noise = float(whole.std(ddof=1) / np.sqrt(len(whole))) if len(whole) > 1 else 0.0
    sizes = np.unique(evidence.strata, return_counts=True)[1].tolist() if evidence.kind == "class" else []
    shares = shares_for(sizes, m)
    kept = float(_learning(evidence.folds))
    found: dict[int, list[float]] = {}
    orders = list(_orders(evidence.strata, max((draws for _, draws in shares), default=1)))
    for part, draws in shares:
        count = round(part * m)
        for order in orders[:draws]:
            outputs = evidence.held if count == m else evidence.learn(np.sort(order[:count]))
            found.setdefault(round(count * kept), []).append(float(evidence.errors(outputs).mean()))
    return fit_curve([Measured(n, tuple(errors)) for n, errors in sorted(found.items())], noise)


def _learning(folds: np.ndarray) -> float:
    """The part of the examples that a model without one fold learns from."""
    held = folds[folds >= 0]
    return 1 - (len(held) / max(1, len(np.unique(held)))) / len(folds) if len(held) else 1.0


def _orders(strata: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Orders of the examples, each beginning of which has about the same part of every stratum."""
    for seed in range(count):
        random = np.random.default_rng(seed)
        shuffled = random.permutation(len(strata))
        own = strata[shuffled]
        by_stratum = np.argsort(own, kind="stable")
        _, starts, sizes = np.unique(own[by_stratum], return_index=True, return_counts=True)
        rank = np.empty(len(own))
        rank[by_stratum] = np.arange(len(own)) - np.repeat(starts, sizes)
        size = np.empty(len(own))
        size[by_stratum] = np.repeat(sizes, sizes)
        yield shuffled[np.argsort((rank + random.random(len(own))) / size, kind="stable")]


def _look(evidence: Evidence) -> tuple[dict[str, Any], Listing]:
    curve = measure(evidence)
    rows = [[str(p.examples), str(draw), f"{e:.6g}"] for p in curve.points for draw, e in enumerate(p.errors, 1)]
    finding = {**curve.to_json(), "error_name": evidence.error_name, "nouns": evidence.nouns}
    return finding, Listing(["examples", "draw", "error"], rows)


def _told(finding: Mapping[str, Any]) -> list[str | Listing]:
    name, points = finding["error_name"], finding["points"]
    rows = [[f"{p['examples']:,}", str(len(p["errors"])), f"{p['error']:.4g}"] for p in points]
    lines: list[str | Listing] = [
        "learning curve so far:",
        Listing([f"learnt from, {finding['nouns']}", "draws", f"held out: {name}"], rows),
    ]
    if not finding["told"]:
        return [*lines, f"what more {finding['nouns']} would bring cannot be told: {finding['reason']}"]
    for words, key in (("twice", "twice"), ("four times", "four_times")):
        f = finding["forecasts"][key]
        gain = f"{f['gain']:.3g} lower ({f['gain_low']:.3g} to {f['gain_high']:.3g})"
        lines.append(
            f"{words} as many would make the {name} {gain}: {f['error']:.3g} ({f['low']:.3g} to {f['high']:.3g}), {share(LEVEL)} intervals"
        )
    return lines


CHECK = Check("learning_curve", _look, _told)
