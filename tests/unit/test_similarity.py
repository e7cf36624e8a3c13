"""near, middling, far: the rule, case by case, and the field's advice."""

from __future__ import annotations

import pytest

from regraft.facts import Figure
from regraft.strategy.similarity import ADVICE, FAR, MIDDLING, NEAR, advice_for, similarity_of, skill_of


@pytest.mark.parametrize(
    ("linear", "neighbours", "bare", "earlier", "kind"),
    [
        (0.93, 0.92, 0.19, None, NEAR),
        (0.93, 0.70, 0.19, None, MIDDLING),  # the classes are there, but not on the surface
        (0.60, 0.58, 0.40, None, MIDDLING),  # the network helps, by a third
        (0.42, 0.42, 0.40, None, FAR),  # the network hardly helps
        (-0.1, 0.1, 0.3, None, FAR),
        (0.93, 0.92, 0.19, Figure(0.08, 0.03, 0.13), FAR),  # an earlier depth is clearly better
        (0.93, 0.92, 0.19, Figure(0.03, 0.01, 0.05), NEAR),  # better, but by too little
    ],
)
def test_kind(linear: float, neighbours: float, bare: float, earlier: Figure | None, kind: str) -> None:
    found = similarity_of(linear, neighbours, bare, earlier, "blocks.3" if earlier else "")
    assert found.kind == kind
    assert found.reasons
    assert found.to_json()["kind"] == kind


def test_every_quadrant_has_advice() -> None:
    assert set(ADVICE) == {(large, kind) for large in (False, True) for kind in (NEAR, MIDDLING, FAR)}
    far = similarity_of(0.42, 0.42, 0.40)
    assert "earlier features" in advice_for(far.kind, 20) and "all layers" in advice_for(far.kind, 1000)


def test_skill() -> None:
    assert skill_of(0.0, 0.5) == 1 and skill_of(0.5, 0.5) == 0 and skill_of(0.6, 0.5) < 0
    assert skill_of(0.0, 0.0) == 0
