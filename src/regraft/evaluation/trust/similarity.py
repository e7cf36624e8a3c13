"""How similar the data is to what the network knows: a linear layer, nearest neighbours and no network, on the same held-out examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from regraft.evaluation.trust.base import Check, Evidence, HeldOut, Listing
from regraft.strategy.similarity import advice_for, similarity_of, skill_of

NEIGHBOURS = 10
"""As many vote. (Wu et al. 2018 and Caron et al. 2021 take 10 to 20 and find the same.)"""

SHARPNESS = 0.07
"""A neighbour's vote counts exp(cosine / this): the temperature of Wu et al. 2018."""

BLOCK_BYTES = 64 << 20


def neighbour_outputs(rows: np.ndarray, values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """What the nearest neighbours of each example say that do not stand in its fold: the weighted mean (m, k) of their values (m, k); NaN
    for examples that are never held out. Features are centred and brought to length one.
    """
    features = torch.from_numpy(rows)
    unit = features - features.mean(0)
    unit /= unit.norm(dim=1, keepdim=True).clamp_min(1e-12)
    truth, folds_of = torch.from_numpy(values.astype(np.float32)), torch.from_numpy(folds)
    out = torch.full(truth.shape, float("nan"))
    held = torch.from_numpy(np.flatnonzero(folds >= 0))
    step = max(1, BLOCK_BYTES // (4 * len(rows)))
    for start in range(0, len(held), step):
        asked = held[start : start + step]
        cosines = unit[asked] @ unit.T
        cosines.masked_fill_(folds_of[asked][:, None] == folds_of[None, :], -9.0)
        best = cosines.topk(min(NEIGHBOURS, len(rows)), 1)
        votes = ((best.values - best.values[:, :1]) / SHARPNESS).exp() * (best.values > -2)
        out[asked] = (votes[:, :, None] * truth[best.indices]).sum(1) / votes.sum(1, keepdim=True).clamp_min(1e-12)
    return out.numpy()


def _as_values(evidence: HeldOut) -> np.ndarray:
    """Targets as numbers (m, k) whose mean means something: one for a class that is there."""
    if evidence.kind == "class":
        return np.eye(len(evidence.outputs), dtype=np.float32)[evidence.y]
    return evidence.y.reshape(len(evidence.y), -1).astype(np.float64)


def errors_at(evidence: HeldOut, bare: np.ndarray, places: np.ndarray | None = None) -> dict[str, float]:
    """Mean held-out errors: of a linear layer, of nearest neighbours, of the layer without a network, and of always saying the same.
    Neighbours are looked for among the examples at some `places`; among all when not given.
    """
    values = _as_values(evidence)
    middle = np.median(values, axis=0) if evidence.kind == "number" else values.mean(0)
    always = np.where(np.isfinite(evidence.held), middle[None, :], np.nan)
    some = slice(None) if places is None else places
    neighbours = np.full(always.shape, np.nan)
    neighbours[some] = neighbour_outputs(evidence.rows[some], values[some], evidence.folds[some])
    outputs = {"linear": evidence.held, "neighbours": evidence.likely(neighbours), "without_network": bare}
    outputs["constant"] = evidence.likely(always)
    return {name: float(evidence.errors(o).mean()) for name, o in outputs.items()}


def skills_of(evidence: HeldOut, bare: np.ndarray, places: np.ndarray | None = None) -> tuple[float, float, float]:
    """The skills of a linear layer, of nearest neighbours and of the layer without a network, as `similarity_of` takes them."""
    errors = errors_at(evidence, bare, places)
    linear, neighbours, without = (skill_of(errors[name], errors["constant"]) for name in ("linear", "neighbours", "without_network"))
    return linear, neighbours, without


def _look(evidence: Evidence) -> tuple[dict[str, Any], None]:
    errors = errors_at(evidence, evidence.bare)
    skills = [skill_of(errors[name], errors["constant"]) for name in ("linear", "neighbours", "without_network")]
    at, earlier = evidence.earlier or ("", None)
    found = similarity_of(skills[0], skills[1], skills[2], earlier=earlier, earlier_at=at)
    each = len(evidence.y) / len(evidence.outputs) if evidence.kind == "class" else float(len(evidence.y))
    finding = {
        **found.to_json(),
        "errors": {name: round(value, 6) for name, value in errors.items()},
        "error_name": evidence.error_name,
        "examples_each": round(each, 1),
        "advice": advice_for(found.kind, each),
    }
    return finding, None


def _told(finding: Mapping[str, Any]) -> list[str | Listing]:
    errors = finding["errors"]
    names = (("a linear layer on the features", "linear"), ("nearest neighbours in the features", "neighbours"))
    names += (("the same linear layer without the network", "without_network"), ("always saying the same", "constant"))
    rows = [[words, f"{errors[key]:.3g}"] for words, key in names]
    lines: list[str | Listing] = [f"the data is {finding['kind']} to what the network knows: {'; '.join(finding['reasons'])}"]
    lines.append(Listing(["held out", finding["error_name"]], rows))
    if "earlier" in finding:
        e = finding["earlier"]
        unit = (100, " points") if finding["error_name"] != "mean absolute error" else (1, "")
        span = f"{e['low'] * unit[0]:+.3g} to {e['high'] * unit[0]:+.3g}"
        lines.append(
            f"best earlier depth: {e['at']}, {e['value'] * unit[0]:+.3g}{unit[1]} against the last ({span}); regraft profile says more"
        )
    each = f"{finding['examples_each']:,.0f} examples a class" if finding["examples_each"] else ""
    lines.append(f"the field's advice for {finding['kind']} data{' with ' + each if each else ''}: {finding['advice']}")
    return lines


CHECK = Check("similarity", _look, _told)
