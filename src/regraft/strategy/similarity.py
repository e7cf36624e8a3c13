"""How similar data is to what a network knows, and what the field advises for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regraft.facts import Figure

NEAR, MIDDLING, FAR, UNKNOWN = "near", "middling", "far", "unknown"
"""How similar the data is; unknown where it could not be measured."""

CLOSE = 0.85
"""Of what a linear layer finds in the features, the part that nearest neighbours must find for data to be near: then classes lie apart in
the features as they are (a small gap from k nearest neighbours to a linear probe). The figure is regraft's own, set on three data sets
(docs/inspect.md)."""

HELPS = 0.5
"""Of what is still wrong without a network, the part that the network must take away for data to be near."""

HARDLY = 0.2
"""With less than this part taken away, the network knows next to nothing of the data."""

EARLIER = 0.02
"""How much better an earlier depth must be, at the low end of its interval: the last layers are then too special."""

LARGE = 250
"""Examples of a class from which data is called large: from there on training everything is the usual advice."""

ADVICE = {
    (False, NEAR): "a linear layer on the last features",
    (True, NEAR): "training all layers, gently, or a linear layer where that is good enough",
    (False, FAR): "a linear layer on earlier features, or few parameters at every depth (norm, adapters)",
    (True, FAR): "training all layers, starting from the pretrained weights",
    (False, MIDDLING): "few parameters at every depth (norm, adapters) or the last blocks, starting from the linear layer",
    (True, MIDDLING): "training all layers, starting from the linear layer",
}
"""(large, kind) -> what the field advises: the four quadrants of CS231n ("Transfer Learning"), the middle after the by-size tables of
PETL-Vision (few parameters win on small data that is not quite near)."""

WHERE = {NEAR: "near to", MIDDLING: "neither near to nor far from", FAR: "far from"}
"""How a kind of similarity is said."""


@dataclass(frozen=True)
class Similarity:
    """How similar data is to what a network knows: `kind` is near, middling or far, `reasons` say why.

    linear, neighbours, without_network: the skill of a linear layer on the last features, of nearest neighbours in them, and of the same
    linear layer without any network. Skill is held out; 0 is always saying the same, 1 is no error. `earlier` is what the best earlier
    depth gains over the last in accuracy (or its like), `earlier_at` where that is; None where depths were not looked at.
    """

    kind: str
    linear: float
    neighbours: float
    without_network: float
    earlier: Figure | None = None
    earlier_at: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def shown(self) -> float:
        """The part of the linear layer's skill that nearest neighbours have: how far the features show the classes by themselves."""
        return self.neighbours / self.linear if self.linear > 0 else 0.0

    @property
    def lead(self) -> float:
        """The part of what is wrong without a network that the network takes away."""
        return lead_of(self.linear, self.without_network)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found: dict[str, Any] = {
            "kind": self.kind,
            "skill": {
                "linear": round(self.linear, 4),
                "neighbours": round(self.neighbours, 4),
                "without_network": round(self.without_network, 4),
            },
            "shown": round(self.shown, 4),
            "lead": round(self.lead, 4),
            "reasons": list(self.reasons),
        }
        return found | ({"earlier": {"at": self.earlier_at, **self.earlier.to_json()}} if self.earlier else {})


def lead_of(linear: float, without_network: float) -> float:
    """The part of what is wrong without a network that a network takes away."""
    return (linear - without_network) / max(1e-9, 1 - without_network)


def skill_of(error: float, constant: float) -> float:
    """1 for no error, 0 for that of always saying the same."""
    return 1 - error / constant if constant > 0 else 0.0


def similarity_of(
    linear: float, neighbours: float, without_network: float, earlier: Figure | None = None, earlier_at: str = ""
) -> Similarity:
    """The rule: far when the network hardly helps or an earlier depth is clearly better than the last; near when neighbours find nearly
    all that a linear layer finds and the network takes away most of what is wrong without it; else middling. Arguments as in `Similarity`.
    (Yosinski et al. 2014: late layers are special to the old task; CS231n: *small and different: a linear classifier on earlier
    activations*. The kNN-to-probe gap as a measure of distance: Kornblith et al. 2019 and the PETL-Vision tables show where probes do.)
    """
    lead = lead_of(linear, without_network)
    reasons: list[str] = []
    shown = neighbours / linear if linear > 0 else 0.0
    if linear <= 0 or lead < HARDLY:
        kind = FAR
        less = f"{_lower(lead)}; less than {HARDLY:.0%} is hardly any help"
        reasons.append(less if lead > 0 else "the network does no better here than a model without it")
    elif earlier is not None and earlier.low > EARLIER:
        kind = FAR
        reasons.append(f"features at {earlier_at} are clearly better than the last: the last layers are too special")
    elif shown >= CLOSE and lead >= HELPS:
        kind = NEAR
        reasons.append(
            f"nearest neighbours find {min(1.0, shown):.0%} of what a linear layer finds, so the features show the labels as they are"
        )
        reasons.append(_lower(lead))
    else:
        kind = MIDDLING
        if shown < CLOSE:
            reasons.append(
                f"nearest neighbours find {max(0.0, shown):.0%} of what a linear layer finds, so the labels are there, not on the surface"
            )
        if lead < HELPS:
            reasons.append(f"{_lower(lead)}, which is less than {HELPS:.0%}")
    return Similarity(kind, linear, neighbours, without_network, earlier, earlier_at, tuple(reasons))


def _lower(lead: float) -> str:
    return f"the error is {lead:.0%} lower with the network than without it"


def advice_for(kind: str, examples_each: float) -> str:
    """What the field advises for data of this similarity with so many examples a class (for numbers and several labels: in all)."""
    return ADVICE[examples_each >= LARGE, kind]


def quadrant(kind: str, examples_each: float) -> str:
    """Where data stands in the table of the field, and what that advises, as a sentence."""
    much = "A lot of data" if examples_each >= LARGE else "Little data"
    if kind not in (NEAR, MIDDLING, FAR):
        return f"{much}; how near it is to what the network knows was not measured"
    return f"{much}, {WHERE[kind]} what the network knows: the field's advice is {advice_for(kind, examples_each)}"
