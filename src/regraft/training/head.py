"""What the head rung needs around its probe: who is bound to whom, folds, weights."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


def bound_together(identities: Sequence[bytes], groups: Sequence[str | None] | None) -> list[bytes]:
    """One name (n,) for all examples that may not be parted: equal content, or the same group, or a chain of both."""
    if groups is None:
        return list(identities)
    parent: dict[bytes, bytes] = {}

    def root(name: bytes) -> bytes:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = name = parent[above]
        return name

    for identity, group in zip(identities, groups, strict=True):
        if group is not None:
            a, b = sorted((root(b"i" + identity), root(b"g" + group.encode("utf-8", "surrogatepass"))))
            parent[b] = a
    return [root(b"i" + identity) for identity in identities]


def assign_folds(
    strata: Sequence[int] | np.ndarray | Sequence[tuple[int, ...]], names: Sequence[bytes], folds: int, seed: int
) -> np.ndarray:
    """Fold numbers (n,): equal names always together, every class spread as evenly as that allows.

    `strata` are the classes (n,), or tuples where an example has several (Sechidis et al. 2011 spread labels so too).
    -1 for what is never held out: a class that has one name only. Decided by the seed and the names, not by the order of the
    examples. Numbers have no holes; with few names there are fewer folds than asked for.
    """
    members: dict[bytes, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        members[name].append(i)
    ordered = sorted(members)
    np.random.default_rng(seed).shuffle(ordered)
    several = [s if isinstance(s, tuple) else (int(s),) for s in strata]
    counts = {name: Counter(label for i in members[name] for label in several[i]) for name in ordered}
    names_of: Counter[int] = Counter(label for count in counts.values() for label in count)
    # the largest first, so that the small ones can even out; then class by class
    ordered.sort(key=lambda name: (-len(members[name]), min(counts[name])))
    held: list[Counter[int]] = [Counter() for _ in range(folds)]
    sizes = [0] * folds
    out = np.full(len(several), -1, np.int64)
    for name in ordered:
        own = counts[name]
        if len(own) == 1 and names_of[next(iter(own))] < 2:
            continue
        # the fold with the fewest of its classes, then the smallest, then a fixed one
        fold = min(range(folds), key=lambda f: (sum(n * held[f][label] for label, n in own.items()), sizes[f], f))
        out[members[name]] = fold
        held[fold].update(own)
        sizes[fold] += len(members[name])
    used = np.unique(out[out >= 0])
    out[out >= 0] = np.searchsorted(used, out[out >= 0])
    return out


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights (n,) with mean one that give every class the same sum (King & Zeng 2001; scikit-learn's "balanced")."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[labels]
