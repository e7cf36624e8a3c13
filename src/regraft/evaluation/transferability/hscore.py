"""H-score with a shrunk covariance: how far the means of the classes lie apart, in units of how the features vary.

Bao et al. 2019, "An information-theoretic approach to transferability in task transfer learning" (ICIP); shrinkage of the covariance:
Ibrahim, Ponomareva & Mazumder 2021, "Newer is not always better: rethinking transferability metrics, their peculiarities, stability and
performance"; how much: Ledoit & Wolf 2004.
"""

from __future__ import annotations

import numpy as np

from regraft.evaluation.transferability.base import TINY, Material, Score, principal


def hscore(material: Material) -> float:
    """trace(C^-1 (1 - s) B): B is the covariance of the classes' means, C = (1 - s) S + s t I the shrunk covariance of the features, where
    t is its mean eigenvalue and s the amount by Ledoit & Wolf. At most the number of classes less one; 0 for features that do not vary.
    """
    rows = material.rows.astype(np.float64)
    rows = rows - rows.mean(0)
    n, width = rows.shape
    rows /= max(np.sqrt((rows**2).mean()), TINY)
    scores, squares = principal(rows)
    if not len(squares) or float((rows**2).mean()) < 0.5:
        return 0.0
    variances = squares / n
    mean = variances.sum() / width
    amount = shrinkage((rows**2).sum(1), variances, n, width)
    shrunk = (1 - amount) * variances + amount * mean
    classes, counts = np.unique(material.y, return_counts=True)
    means = np.stack([scores[material.y == c].mean(0) for c in classes])
    return float((1 - amount) * ((counts / n)[:, None] * means**2 / shrunk).sum())


def shrinkage(lengths: np.ndarray, variances: np.ndarray, n: int, width: int) -> float:
    """How much of a sample covariance Ledoit & Wolf 2004 replace by its mean eigenvalue: 0 to 1. `lengths` (n,) are squared lengths of the
    centred rows, `variances` (k,) the covariance's eigenvalues above zero.
    """
    whole = float((variances**2).sum())
    apart = whole - float(variances.sum()) ** 2 / width
    noise = (float((lengths**2).sum()) / n - whole) / n
    return float(np.clip(noise / apart, 0.0, 1.0)) if apart > TINY * whole else 1.0


SCORE = Score("hscore", "H-score", "Ibrahim et al. 2021", ("class",), hscore)
