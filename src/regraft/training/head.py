"""The head rung, whole: folds, probe, out-of-fold predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from regraft.training.probe import Probe, fit_probe


def assign_folds(labels: np.ndarray, identities: Sequence[bytes], folds: int, seed: int) -> np.ndarray:
    """Fold numbers (n,): every class spread evenly, equal content always together, -1 where a class has one content only.

    Decided by the seed and the examples' content, not by their order or names.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, identity in enumerate(identities):
        groups[identity].append(i)
    by_class: dict[int, list[bytes]] = defaultdict(list)
    for identity, members in groups.items():
        values, counts = np.unique(labels[members], return_counts=True)
        by_class[int(values[counts.argmax()])].append(identity)
    out = np.full(len(labels), -1, np.int64)
    sizes = np.zeros(folds, np.int64)
    rng = np.random.default_rng(seed)
    for label in sorted(by_class):
        identities_of = sorted(by_class[label])
        rng.shuffle(identities_of)
        own = np.zeros(folds, np.int64)
        if len(identities_of) < 2:
            continue
        for identity in identities_of:
            members = groups[identity]
            # the fold with the fewest of this class, then the smallest, then a fixed one
            fold = min(range(folds), key=lambda f: (own[f], sizes[f], f))
            out[members] = fold
            own[fold] += len(members)
            sizes[fold] += len(members)
    return out


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights (n,) with mean one that give every class the same sum (King & Zeng 2001; scikit-learn's "balanced")."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[labels]


def fit_head(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    *,
    score: Callable[[np.ndarray, np.ndarray], float],
    balance: bool = False,
    nested: bool = True,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Probe:
    """Fit the output layer; see `fit_probe`. `balance` gives every class the same weight."""
    weights = class_weights(labels, classes) if balance else None
    return fit_probe(features, labels, folds, classes, strengths, score=score, weights=weights, nested=nested, watch=watch)
