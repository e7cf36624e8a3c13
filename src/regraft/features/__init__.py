"""features: the frozen part of a network, run once per example, and what it gave.

In: sources (paths, strings, objects), a modality, a network, a space of the store.     Out: rows of features, or tensors at a cut.
Never: trains, looks at labels, or decides which network.
Invariant: a row is a function of the example, the network and the settings in the space's description alone; order,
neighbours, workers and interruptions do not enter (tests/contracts/test_features.py).
"""

from regraft.features.extract import Extracted, Row, extract, stream
from regraft.features.maker import cut_maker, maker_of, summary_maker

__all__ = ["Extracted", "Row", "cut_maker", "extract", "maker_of", "stream", "summary_maker"]
