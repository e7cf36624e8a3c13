"""The learning curve: how errors fall with the examples, and what more of them would bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

LEVEL = 0.9
"""The part of outcomes that an interval of a forecast is to hold."""

SHARES = (0.1, 0.2, 0.4, 0.8, 1.0)
"""Parts of the examples that a curve is measured at."""

DRAWS = (5, 4, 3, 2, 1)
"""How often each is drawn: a small part depends most on which examples it holds. Together they cost about five fits of everything."""

EACH = 2
"""Examples of a class (the middle one by size) that a part must have, on average."""

LEAST = 10
"""Examples that a part must have."""

EXPONENTS = np.linspace(0.05, 1.5, 30)
"""How fast errors fall: error = floor + scale / n^exponent. Hestness et al. 2017 find 0.07 to 0.35 for networks trained whole; a
linear layer falls faster at first (1 is what theory gives it: Vapnik 1998), with few examples faster still."""

FLOORS = np.linspace(0.0, 0.975, 40)
"""What never goes away, as parts of the smallest measured error."""

MISFIT = 0.02
"""Relative error of the law itself: curves are not exactly its shape (Viering & Loog 2022, "The shape of learning curves")."""

UNSHARED = 0.3
"""Part of the variance from the judged examples that points do not share: models of two sizes err on different ones, near the end of a
curve mostly on the same."""

SCATTER = 0.03
"""Relative deviation from one draw to the next that is believed beforehand; it counts as much as two draws."""

MOST = 0.9
"""An interval of the gain that is wider than this part of the present error tells nothing."""

DEVIATES = np.array([-1.645, -1.036, -0.674, -0.385, -0.126, 0.126, 0.385, 0.674, 1.036, 1.645])
"""The middles of ten equally likely parts of a normal distribution."""


@dataclass(frozen=True)
class Measured:
    """Held-out errors (lower is better) of models that learnt from `examples`, one for each draw of them."""

    examples: int
    errors: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the draws."""
        return float(np.mean(self.errors))


@dataclass(frozen=True)
class Forecast:
    """What so many `examples` would bring: the error, and how much lower it is than with all there are; each with its 90 % interval."""

    examples: int
    error: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return {k: v if isinstance(v, int) else float(f"{v:.5g}") for k, v in vars(self).items()}


@dataclass(frozen=True)
class LearningCurve:
    """A power law through measured errors, with how sure it is: laws (exponent, floor, scale), each with its weight.

    `noise` is the standard error of the last error that comes from the examples it was judged on; `reason` says why nothing can be told
    from the curve, and is empty when something can.
    """

    points: tuple[Measured, ...]
    noise: float
    reason: str = ""
    laws: Numbers = field(default_factory=lambda: np.zeros((0, 3)), repr=False)
    weights: Numbers = field(default_factory=lambda: np.zeros(0), repr=False)
    spreads: Numbers = field(default_factory=lambda: np.zeros(0), repr=False)
    """Of each law the standard error of its scale."""

    @property
    def told(self) -> bool:
        """Whether a forecast means something."""
        return not self.reason

    @property
    def exponent(self) -> float | None:
        """The mean over the laws; None where there are none."""
        return float(self.weights @ self.laws[:, 0]) if len(self.laws) else None

    @property
    def floor(self) -> float | None:
        """The error that no number of examples takes away, as the mean over the laws."""
        return float(self.weights @ self.laws[:, 1]) if len(self.laws) else None

    def forecast(self, examples: int) -> Forecast | None:
        """What so many examples would bring; None where there is no law. The interval of `error` is that of the error on new examples
        without end, that of `gain` is narrower: both sides of it were judged on the same ones.
        """
        if not len(self.laws):
            return None
        now, then = self._errors(self.points[-1].examples), self._errors(examples)
        weights = np.repeat(self.weights, len(DEVIATES)) / len(DEVIATES)
        low, gain_low = (1 - LEVEL) / 2, np.array([(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
        # the measured error is where the curve stands; what a law says of it counts for what changes from there on
        here = self.points[-1].mean
        change = np.ravel(now - then)
        gains = _quantiles(change, weights, gain_low)
        shaken = np.ravel(then)[:, None] + self.noise * DEVIATES[None, :]
        errors = _quantiles(np.ravel(shaken), np.repeat(weights, len(DEVIATES)) / len(DEVIATES), np.array([low, 0.5, 1 - low]))
        errors, gains = np.maximum(errors, 0.0), np.minimum(gains, here)
        return Forecast(examples, *map(float, (errors[1], errors[0], errors[2], gains[1], gains[0], gains[2])))

    def needed(self, error: float) -> int | None:
        """Examples at which the error is expected to be this low; None when that is beyond a hundred times what there is."""
        if not len(self.laws):
            return None
        n = self.points[-1].examples
        for factor in np.geomspace(1, 100, 60):
            found = self.forecast(round(n * factor))
            if found is not None and found.error <= error:
                return found.examples
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain data: points, exponent, floor, the forecasts of twice and four times the examples, or the reason why there is none."""
        points = [{"examples": p.examples, "error": round(p.mean, 6), "errors": [round(e, 6) for e in p.errors]} for p in self.points]
        found: dict[str, Any] = {"points": points, "noise": round(self.noise, 6), "told": self.told}
        if self.reason:
            found["reason"] = self.reason
        if len(self.laws):
            assert self.exponent is not None and self.floor is not None
            found |= {"exponent": round(self.exponent, 4), "floor": round(self.floor, 6)}
            n = self.points[-1].examples
            found["forecasts"] = {name: f.to_json() for name, k in FACTORS.items() if (f := self.forecast(k * n)) is not None}
        return found

    def _errors(self, examples: int) -> Numbers:
        """The error that each law expects (laws, deviates)."""
        exponent, floor, scale = self.laws[:, 0], self.laws[:, 1], self.laws[:, 2]
        fall: Numbers = float(examples) ** -exponent
        return np.maximum(floor + scale * fall, 0.0)[:, None] + (self.spreads * fall)[:, None] * DEVIATES[None, :]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LearningCurve:
        """The curve through the points that `to_json` gave, with `noise`; ValueError, TypeError or KeyError for anything else."""
        points = [Measured(int(p["examples"]), tuple(float(e) for e in p["errors"])) for p in values["points"]]
        return fit_curve(points, float(values["noise"]))


FACTORS: Mapping[str, int] = {"twice": 2, "four_times": 4}
"""What a curve is asked for: so many times the examples."""


def shares_for(class_sizes: Sequence[int], n: int) -> list[tuple[float, int]]:
    """(part of the examples, draws) of the curve for n examples, as far as such a part has enough of them. `class_sizes` is empty for
    numbers.
    """
    each = EACH / max(1.0, float(np.median(class_sizes))) if len(class_sizes) else 0.0
    return [(share, draws) for share, draws in zip(SHARES, DRAWS, strict=True) if share == 1 or (share >= each and share * n >= LEAST)]


def fit_curve(points: Sequence[Measured], noise: float) -> LearningCurve:
    """The power law error = floor + scale / n^exponent through measured points, in growing order, with its uncertainty.

    Every pair of an exponent and a floor on a grid gets the scale that fits best (weighted least squares, not below zero) and the weight
    that it has for explaining the points: a posterior under a flat prior. Points count by how much draws scatter, and the law is believed
    to MISFIT. `noise` is the standard error that the last point has because it was judged on so few examples: all points share it, so it
    moves the curve as a whole. (Power laws: Cortes et al. 1994; Hestness et al. 2017. How far such forecasts can be trusted: Viering & Loog
    2022.)
    """
    points = tuple(points)
    if len(points) < 3:
        return LearningCurve(points, noise, "there are too few examples to learn from smaller parts of them")
    n = np.array([p.examples for p in points], np.float64)
    means = np.array([p.mean for p in points])
    if means.max() <= 0 or means[-1] <= 0:
        return LearningCurve(points, noise, "nothing is wrong with all examples: there is no error that could fall")
    deviations = _deviations(points, noise)
    exponents: Numbers = np.repeat(EXPONENTS, len(FLOORS))
    floors: Numbers = np.tile(FLOORS * means.min(), len(EXPONENTS))
    fall: Numbers = n[None, :] ** -exponents[:, None]
    certainty = (1 / deviations**2)[None, :]
    rest: Numbers = means[None, :] - floors[:, None]
    information: Numbers = np.sum(certainty * fall**2, axis=1)
    scales: Numbers = np.maximum(np.sum(certainty * fall * rest, axis=1) / information, 0.0)
    misfit: Numbers = np.sum(certainty * (rest - scales[:, None] * fall) ** 2, axis=1)
    weights: Numbers = np.exp(-0.5 * (misfit - misfit.min()))
    weights /= weights.sum()
    kept = weights > 1e-6 * weights.max()
    laws: Numbers = np.stack([exponents, floors, scales], 1)[kept]
    curve = LearningCurve(points, noise, "", laws, weights[kept] / weights[kept].sum(), (information**-0.5)[kept])
    return LearningCurve(points, noise, _untold(curve), curve.laws, curve.weights, curve.spreads)


def _untold(curve: LearningCurve) -> str:
    """Why a curve tells nothing of twice the examples; empty when it does."""
    found = curve.forecast(2 * curve.points[-1].examples)
    assert found is not None
    first, last = curve.points[0], curve.points[-1]
    if first.mean - last.mean <= 2 * _deviations(curve.points, curve.noise)[0]:
        return "the error hardly falls from few examples to all: what more would bring cannot be told"
    if found.gain_high - found.gain_low > MOST * last.mean:
        return "the points fit too many curves: what more examples would bring cannot be told"
    return ""


def _deviations(points: Sequence[Measured], noise: float) -> Numbers:
    """The standard error of each point by itself: from one draw to the next, by the examples it was judged on, and because the law is not
    exact. An error rate's variance on so many examples grows with the rate.
    """
    squares, count = 2 * SCATTER**2, 2.0
    for p in points:
        if len(p.errors) > 1 and p.mean > 0:
            squares += float(np.sum((np.array(p.errors) / p.mean - 1) ** 2))
            count += len(p.errors) - 1
    scatter = squares / count
    last = max(points[-1].mean, 1e-6)
    judged = [UNSHARED * noise**2 * p.mean / last / len(p.errors) for p in points]
    own = [p.mean**2 * (scatter / len(p.errors) + MISFIT**2) for p in points]
    return np.sqrt(np.maximum(np.array(judged) + np.array(own), 1e-18))


def _quantiles(values: Numbers, weights: Numbers, at: Numbers) -> Numbers:
    """Weighted quantiles."""
    order = np.argsort(values)
    return np.interp(at, np.cumsum(weights[order]) - weights[order] / 2, values[order])
