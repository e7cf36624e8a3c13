"""Near-duplicates: examples of different content that show the same, found on features and confirmed on what was decoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.evaluation.trust.base import SHOWN, Check, Evidence, Listing

NEIGHBOUR = 5
"""Which neighbour's distance is the data's own measure: copies seldom come in fives, so they do not move it."""

MEASURED_ON = 500
"""Examples that this distance is measured for; its median counts."""

LEVELS = ((0.7, 0.95), (0.5, 0.9))
"""(distance at most, as a part of the data's own; likeness at least): the closer two stand, the less alike have they to look."""

AXES = 128
"""Principal components that pairs are sought in, where there are more features. With the length of what they leave out as one column more
the product of two rows is never below their cosine, so no pair is lost."""

DIRECT = 2_000
"""Examples up to which all features are used at once: finding the components would take longer."""

BLOCK_BYTES = 64 << 20
"""Bound on a block of products."""

HITS = 64
"""Pairs of an example in a block that are looked at, the closest ones; more of them are in a chain with these anyway."""

CHECKED = 10_000
"""Pairs that are decoded and compared at most, the closest first."""

Likeness = Callable[[int, int], float | None]
"""How alike two examples are that were decoded, from 0 to 1; None when one cannot be read."""


@dataclass(frozen=True)
class NearPair:
    """Two examples that show the same. `distance` is that of their features as a part of the data's own, `likeness` is from 0 to 1."""

    one: int
    other: int
    distance: float
    likeness: float


@dataclass(frozen=True)
class NearDuplicates:
    """What was found: pairs, the closest first, and the groups they make; positions are those of the rows."""

    pairs: tuple[NearPair, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    candidates: int = 0
    """Pairs that stand close enough to be looked at."""
    checked: int = 0
    stopped: bool = False
    """Whether time ran out before all were looked at."""


def near_duplicates(
    rows: np.ndarray, identities: Sequence[bytes], likeness: Likeness, stop: Callable[[], bool] = lambda: False
) -> NearDuplicates:
    """Near-duplicates among rows of features (n, d). Exact duplicates (equal identities) count as one example, the first.

    Features are centred and brought to length one; two examples are candidates when they stand closer than LEVELS allows, measured by the
    data's own distances (the median distance to the fifth neighbour), so that neither dense data nor another network needs another number.
    Candidates are near-duplicates when `likeness` confirms it. What was found when `stop` says so is the result.
    """
    first: dict[bytes, int] = {}
    for k, identity in enumerate(identities):
        first.setdefault(identity, k)
    places = np.fromiter(first.values(), np.int64, len(first))
    if len(places) < NEIGHBOUR + 2:
        return NearDuplicates()
    pairs, distances = close_pairs(torch.from_numpy(rows), torch.from_numpy(places), stop)
    tied = _Tied()
    found: list[NearPair] = []
    checked = 0
    for (i, j), distance in zip(pairs.tolist(), distances.tolist(), strict=True):
        one, other = int(places[i]), int(places[j])
        if tied.same(one, other):
            continue
        if checked == CHECKED or stop():
            break
        checked += 1
        alike = likeness(one, other)
        if alike is not None and any(distance <= most and alike >= least for most, least in LEVELS):
            found.append(NearPair(one, other, round(distance, 4), round(alike, 4)))
            tied.tie(one, other)
    return NearDuplicates(tuple(found), tied.groups(), len(pairs), checked, stop())


class _Tied:
    """Who belongs together, through chains too."""

    def __init__(self) -> None:
        self.above: dict[int, int] = {}

    def root(self, k: int) -> int:
        while (up := self.above.setdefault(k, k)) != k:
            self.above[k] = k = self.above[up]
        return k

    def same(self, a: int, b: int) -> bool:
        return a in self.above and b in self.above and self.root(a) == self.root(b)

    def tie(self, a: int, b: int) -> None:
        a, b = sorted((self.root(a), self.root(b)))
        self.above[b] = a

    def groups(self) -> tuple[tuple[int, ...], ...]:
        together: dict[int, list[int]] = defaultdict(list)
        for k in sorted(self.above):
            together[self.root(k)].append(k)
        return tuple(tuple(members) for _, members in sorted(together.items()))


def close_pairs(features: Tensor, places: Tensor, stop: Callable[[], bool] = lambda: False) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (m, 2) of positions in `places` that stand close, and their distances (m,) as parts of the data's own; the closest first.

    All pairs of n examples are looked at, in blocks of bounded memory. 50,000 of 640 features take 12 s of one core; time grows with the
    square of the examples.
    """
    n = len(places)
    sample = places[torch.linspace(0, n - 1, min(n, DIRECT)).round().long()]
    centre = features[sample].double().mean(0).float()
    own = _own_distance(features, places, centre)
    if own <= 0 or stop():
        return np.zeros((0, 2), np.int64), np.zeros(0)
    far = max(most for most, _ in LEVELS) * own
    bound = 1 - far * far / 2
    sought = _sought(features, places, sample, centre)
    found: list[Tensor] = []
    step = max(1, BLOCK_BYTES // (4 * n))
    for start in range(0, n, step):
        if found and stop():
            break
        block = sought[start : start + step]
        products = block @ sought[start:].T
        # each pair once
        products[:, : len(block)].masked_fill_(torch.ones(len(block), len(block), dtype=torch.bool).tril_(), -2.0)
        found.append(torch.stack(_hits(products, bound), 1) + start)
    pairs = torch.cat(found)
    distances = _distances(features, places, centre, pairs)
    keep = distances <= far
    pairs, distances = pairs[keep], distances[keep] / own
    order = torch.from_numpy(np.lexsort((pairs[:, 1].numpy(), pairs[:, 0].numpy(), distances.numpy())))
    return pairs[order].numpy(), distances[order].numpy()


def _unit(rows: Tensor, centre: Tensor) -> Tensor:
    rows = rows.float() - centre
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)


def _own_distance(features: Tensor, places: Tensor, centre: Tensor) -> float:
    """The median distance to the fifth neighbour, over some examples from all over the data."""
    n = len(places)
    chosen = torch.linspace(0, n - 1, min(n, MEASURED_ON)).round().long()
    asked = _unit(features[places[chosen]], centre)
    nearest = torch.full((len(chosen), NEIGHBOUR + 1), -1.0)
    step = max(1, BLOCK_BYTES // (4 * max(features.shape[1], len(chosen))))
    for start in range(0, n, step):
        products = asked @ _unit(features[places[start : start + step]], centre).T
        nearest = torch.cat([nearest, products], 1).topk(NEIGHBOUR + 1, 1).values
    # the nearest of all is the example itself
    return float((2 - 2 * nearest[:, NEIGHBOUR]).clamp_min(0).sqrt().median())


def _sought(features: Tensor, places: Tensor, sample: Tensor, centre: Tensor) -> Tensor:
    """Rows whose products are at least the cosines: the features themselves, or their principal components and what these leave out."""
    n, d = len(places), features.shape[1]
    if n <= DIRECT or d <= AXES + 1:
        return _unit(features[places], centre)
    some = _unit(features[sample], centre)
    values, vectors = torch.linalg.eigh((some.T @ some).double())
    axes = vectors[:, -AXES:].float()
    out = torch.empty(n, AXES + 1)
    step = max(1, BLOCK_BYTES // (4 * d))
    for start in range(0, n, step):
        block = _unit(features[places[start : start + step]], centre) @ axes
        out[start : start + step, :-1] = block
        out[start : start + step, -1] = (1 - (block * block).sum(1)).clamp_min(0).sqrt()
    return out


def _hits(products: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Where products (rows, columns) reach the bound; of a row with very many the largest ones."""
    reached = products >= bound
    many = reached.sum(1) > HITS
    if many.any():
        best = products[many].topk(min(HITS, products.shape[1]), 1)
        fewer = torch.zeros_like(reached[many])
        fewer.scatter_(1, best.indices, best.values >= bound)
        reached[many] = fewer
    i, j = reached.nonzero(as_tuple=True)
    return i, j


def _distances(features: Tensor, places: Tensor, centre: Tensor, pairs: Tensor) -> Tensor:
    """Distances (m,) of pairs (m, 2), from all features."""
    out = torch.empty(len(pairs))
    step = max(1, BLOCK_BYTES // (4 * features.shape[1]))
    for start in range(0, len(pairs), step):
        part = pairs[start : start + step]
        one, other = (_unit(features[places[part[:, k]]], centre) for k in (0, 1))
        out[start : start + step] = (one - other).norm(dim=1)
    return out


def _look(evidence: Evidence) -> tuple[dict[str, Any], Listing]:
    near, names, cells, sides = evidence.near, evidence.names, evidence.cells, evidence.sides
    closest: dict[int, NearPair] = {}
    for pair in near.pairs:
        for k in (pair.one, pair.other):
            closest.setdefault(k, pair)
    crossing = [g for g in near.groups if len({sides[k] for k in g}) > 1]
    disputed = [g for g in near.groups if len({cells[k] for k in g}) > 1]

    def told(groups: Sequence[Sequence[int]]) -> list[list[dict[str, Any]]]:
        return [[{"name": names[k], "label": cells[k], "part": sides[k]} for k in g] for g in groups[:SHOWN]]

    rows = [
        [str(number), names[k], cells[k], sides[k], f"{closest[k].distance:.4f}", f"{closest[k].likeness:.4f}"]
        for number, group in enumerate(near.groups, 1)
        for k in group
    ]
    finding = {
        "groups": len(near.groups),
        "examples": sum(map(len, near.groups)),
        "candidates": near.candidates,
        "compared": near.checked,
        "closest": told([(p.one, p.other) for p in near.pairs]),
        "with_different_labels": {"groups": len(disputed), "examples": told(disputed)},
        "on_both_sides": {"groups": len(crossing), "examples": told(crossing)},
    }
    return finding, Listing(["group", "name", "label", "part", "distance", "likeness"], rows)


def _told(finding: Mapping[str, Any]) -> list[str | Listing]:
    looked = f"{finding['compared']:,} close pairs were compared"
    if finding["compared"] < finding["candidates"] and finding["compared"] == CHECKED:
        looked += f", the closest of {finding['candidates']:,}"
    if not finding["groups"]:
        return [f"near-duplicates: none ({looked})"]
    lines: list[str | Listing] = [
        f"near-duplicates: {finding['groups']:,} groups of {finding['examples']:,} examples ({looked}); in training they share a fold"
    ]
    lists = (("with different labels", finding["with_different_labels"]), ("on both sides of the split", finding["on_both_sides"]))
    for title, found in lists:
        if found["groups"]:
            lines.append(f"  {title}: {found['groups']:,}")
            lines += _lines(found["examples"])
    if not any(found["groups"] for _, found in lists):
        lines += _lines(finding["closest"])
    return lines


def _lines(groups: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    return ["    " + "; ".join(f"{e['name']} ({e['label']}, {e['part']})" for e in g[:4]) for g in groups[:5]]


CHECK = Check("near_duplicates", _look, _told)
