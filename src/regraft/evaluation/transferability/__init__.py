"""transferability: scores that tell how well a network may transfer, from one pass and without training. A file a score.

In: features of labelled examples, and what the network's own output layer says of them.     Out: a number a score; higher is better.
Never: decides. The race goes by cross-validated heads (docs/how-it-decides.md says how the scores compare with them).
"""

from __future__ import annotations

from regraft.evaluation.transferability import hscore, logme, nce
from regraft.evaluation.transferability.base import Material, Score

SCORES: dict[str, Score] = {score.name: score for score in (logme.SCORE, hscore.SCORE, nce.SCORE)}
"""Every score, in the order in which people read them. One more costs one file and one entry here."""

__all__ = ["SCORES", "Material", "Score", "scores_of"]


def scores_of(material: Material) -> dict[str, float]:
    """Every score that has a value here, by its name."""
    return {name: round(score.of(material), 6) for name, score in SCORES.items() if score.can(material)}
