"""cut: a network divided into the frozen part, run once for each example, and the trained rest.

In: a module, what of it trains, one example batch.     Out: a Cut: two modules on the same parameters, and facts.
Never: copies or changes a parameter, or writes an exported program to disk.
Invariant: on what the trunk gave, the rest trains bit for bit as the whole network does (tests/contracts/test_cut.py).
docs/cut.md explains the method.
"""

from regraft.features.cut.find import Cut, CutTensor, find_cut, no_cut
from regraft.features.cut.identity import identity

__all__ = ["Cut", "CutTensor", "find_cut", "identity", "no_cut"]
