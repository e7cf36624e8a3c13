"""NCE, the negative conditional entropy of the labels given the classes that the network's own output layer says.

Tran, Nguyen & Hassner 2019, "Transferability and hardness of supervised classification tasks" (ICCV). With few examples and many old
classes it flatters: a class that is said of one example alone tells its label for certain.
"""

from __future__ import annotations

import numpy as np

from regraft.evaluation.transferability.base import Material, Score


def nce(material: Material) -> float:
    """-H(y | old class), in nats: 0 where the old class tells the label, minus the entropy of the labels where it tells nothing."""
    assert material.old is not None
    pairs = np.unique(np.stack([material.old, material.y]), axis=1, return_counts=True)
    (old, _), counts = pairs
    _, own = np.unique(old, return_inverse=True)
    each = np.bincount(own, counts)[own]
    return float((counts * np.log(counts / each)).sum() / counts.sum())


SCORE = Score("nce", "NCE", "Tran et al. 2019", ("class",), nce, of_old=True)
