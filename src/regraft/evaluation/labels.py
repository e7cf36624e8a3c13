"""The usual figures where an example can have several labels, each with a 95 % interval over examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from regraft.evaluation.classes import above_zero, mean_interval, wilson
from regraft.facts import Figure

RESAMPLES = 1000

CELLS = 4_000_000
"""Bound on one block of resampled weights."""


def example_f1(y: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """F1 of each example (n,) float64: 1 where it has no label and none is said."""
    both, either = (y & decided).sum(1), y.sum(1) + decided.sum(1)
    return np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)


def _f1(tp: np.ndarray, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.where(said + true > 0, 2 * tp / np.maximum(said + true, 1e-12), 0.0)


def _mean_f1(tp: np.ndarray, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean over the labels that occur or are said; the arrays are (..., k)."""
    there = (said + true) > 0
    return (_f1(tp, said, true) * there).sum(-1) / np.maximum(there.sum(-1), 1)


def label_scores(y: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    """f1_micro and f1_macro of decisions (n, k)."""
    tp, said, true = (y & decided).sum(0), decided.sum(0), y.sum(0)
    return {"f1_micro": float(_f1(tp.sum(), said.sum(), true.sum())), "f1_macro": float(_mean_f1(tp, said, true))}


def resampled(n: int, total: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Blocks (r, n) float32 of how often each example is drawn: the bootstrap over examples (Efron 1979)."""
    rng = np.random.default_rng(0)
    total = total if n <= 20_000 else min(total, 200)
    step = max(1, CELLS // n)
    for start in range(0, total, step):
        draws = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(min(step, total - start))]
        yield np.stack(draws).astype(np.float32)


def percentiles(value: float, n: int, measure: Callable[[np.ndarray], np.ndarray], total: int = RESAMPLES) -> Figure:
    """`value` with the percentile bootstrap interval of `measure`, which makes figures (r,) of weights (r, n)."""
    values = np.concatenate([measure(block) for block in resampled(n, total)])
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975]) if np.isfinite(values).any() else (value, value)
    return Figure(value, min(value, float(low)), max(value, float(high)))


def average_precision(y: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean over the labels that occur of the area under precision over recall, by steps: (r,), or () without weights.

    y and outputs (n, k), weights (r, n). Equal outputs count together, as in scikit-learn's average_precision_score.
    """
    w = np.ones((1, len(y)), np.float32) if weights is None else weights
    total, count = np.zeros(len(w)), np.zeros(len(w))
    for k in range(y.shape[1]):
        order = np.argsort(-outputs[:, k], kind="stable")
        values = outputs[order, k]
        ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))
        drawn = w[:, order].astype(np.float64)
        found = (drawn * y[order, k]).cumsum(1)[:, ends]
        seen = drawn.cumsum(1)[:, ends]
        steps = np.diff(found, axis=1, prepend=0)
        true = found[:, -1]
        total += np.where(true > 0, (steps * found / np.maximum(seen, 1e-12)).sum(1) / np.maximum(true, 1e-12), 0)
        count += true > 0
    found = total / np.maximum(count, 1)
    return found if weights is not None else found[0]


def figures(y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Figure]:
    """f1_micro, f1_macro, mean_average_precision, exact (all labels right), log_loss (nats a decision).

    y and decided (n, k) bool, outputs (n, k) log-odds; n at least 1.
    """
    n = len(y)
    both, plain = (y & decided), label_scores(y, decided)
    parts = [a.astype(np.float32) for a in (both, decided, y)]
    perfect = (y == decided).all()
    if perfect:
        # every resample is perfect too, so the bootstrap says nothing; a proportion's interval does
        found = int(y.sum())
        low = wilson(float(found), found).low if found else 0.0
        micro, macro = (Figure(plain[name], min(low, plain[name]), plain[name]) for name in ("f1_micro", "f1_macro"))
    else:
        sums = [p.sum(1) for p in parts]
        micro = percentiles(plain["f1_micro"], n, lambda w: _f1(*(w @ s for s in sums)))
        macro = percentiles(plain["f1_macro"], n, lambda w: _mean_f1(*(w @ p for p in parts)))
    ranked = float(average_precision(y, outputs))
    if ranked == 1:
        # nothing is ranked wrongly in any resample either
        found = int(y.sum())
        order = Figure(1.0, wilson(float(found), found).low, 1.0)
    else:
        order = percentiles(ranked, n, lambda w: average_precision(y, outputs, w), 200)
    return {
        "f1_micro": micro,
        "f1_macro": macro,
        "mean_average_precision": order,
        "exact": wilson(float((y == decided).all(1).sum()), n),
        "log_loss": above_zero(mean_interval(losses(y, outputs).mean(1))),
    }


def losses(y: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The log-loss of every decision (n, k)."""
    signed = np.where(y, outputs, -outputs).astype(np.float64)
    return np.logaddexp(0, -signed)


def each_label(y: np.ndarray, outputs: np.ndarray, decided: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Of each label: its examples, precision, recall, F1 and average precision."""
    out = []
    for k, name in enumerate(names):
        tp, said, true = int((y[:, k] & decided[:, k]).sum()), int(decided[:, k].sum()), int(y[:, k].sum())
        out.append(
            {
                "label": name,
                "n": true,
                "precision": round(tp / said, 6) if said else None,
                "recall": round(tp / true, 6) if true else None,
                "f1": round(2 * tp / (said + true), 6) if said + true else None,
                "average_precision": round(float(average_precision(y[:, [k]], outputs[:, [k]])), 6) if true else None,
            }
        )
    return out
