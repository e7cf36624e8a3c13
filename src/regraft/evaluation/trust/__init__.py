"""trust: what one pass of a frozen network says about the data itself. A file a check.

In: features, held-out outputs, and a way to fit a linear layer to a part of the examples.     Out: a finding a check, plain data.
Never: opens data or a network, or decides what to do.
"""

from __future__ import annotations

from regraft.evaluation.trust import labels, learning, near_duplicates, similarity
from regraft.evaluation.trust.base import Check, Evidence, Listing

CHECKS: dict[str, Check] = {check.name: check for check in (near_duplicates.CHECK, labels.CHECK, similarity.CHECK, learning.CHECK)}
"""Every check, in the order in which people read them. One more costs one file and one entry here."""

__all__ = ["CHECKS", "Check", "Evidence", "Listing"]
