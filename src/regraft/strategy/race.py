"""Which network to take: a race on growing parts of the training examples. Pure: errors and seconds in, who stays and when to stop out.

Every round all networks that are left see the same examples, a head on each is judged in the same folds, and those that are behind the best
by more than chance allows are dropped; the rest see twice as many. So most of the time goes to those that could still win (successive
halving: Karnin, Koren & Somekh 2013; Jamieson & Talwalkar 2016; dropping by paired comparison: Maron & Moore 1994, Birattari et al. 2002).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from regraft.facts import Figure
from regraft.strategy.budget import LEAST_STEPS
from regraft.strategy.contrastive import contrast_for
from regraft.strategy.gains import HALF, SHARES, scaled, unscaled
from regraft.strategy.ladder import PARTS
from regraft.strategy.plan import worth
from regraft.strategy.settings import batch_for, epochs_for

Numbers = NDArray[np.float64]

FIRST, EACH = 64, 2
"""Examples of the first round, and of each class in it, at least."""

GROWTH = 2
"""How many times as many the next round sees."""

WORTHWHILE = 1.25
"""A round that sees less than so many times as many as the one before says little that is new."""

RISK = 0.05
"""Chance, over the whole race, that a network is dropped that is the best on so many examples."""

DRIFT = 0.05
"""How much two networks differ in how fast their errors fall: the standard deviation of the exponents of n, over networks on the same data.
Measured with the packaged networks: two exponents differed by 0.070 (root mean square, sampling error and all; docs/how-it-decides.md). A
network that is behind on few examples can be ahead on many (learning curves cross: Viering & Loog 2022)."""

EQUAL = 0.2
"""Part of what is worth anything (`plan.worth`) up to which two networks count as equal, so that the quicker one is taken. Little, as what
is lost with a network is lost again on every rung above it; with a half of it the networks that were raced on 26 subsets of images gave up
1.1 points in place of 0.8."""

ENOUGH = 0.5
"""Part of that up to which the expected regret is not worth another round."""

LIVE = {"norm": 0.9, "top=1": 0.2, "top=2": 0.35, "full": 1.0}
"""Part of a network's work that a rung trains: about what the cut leaves of the packaged networks (docs/cut.md)."""

HEADS_APART = 0.3
"""How much the heads of two networks differ on one data set, in log odds: the standard deviation. The packaged networks of pictures and
texts differ by 0.23 to 0.29 (22 subsets, benchmarks/judgement)."""

KINDS = ((0.97, HEADS_APART**2), (0.03, 1.5**2))
"""How likely networks are alike, and the variance of their differences then; and that one is of another kind, such as one of voices on
words (2.6 apart). How rare that is is regraft's own guess."""

SURELY = 1.5
"""Standard deviations of that by which training has to give one network less than another for it not to be looked at: a look would then be
worth 0.01 in log odds in the mean, a fifth of a point at most, and takes a tenth of two minutes."""

MOST = 8
"""Networks that race when nobody named them: those with the highest published figures."""

SHARE, LITTLE, MOST_OF_LITTLE, SECONDS = 0.15, 30.0, 0.25, 60.0
"""Part of a budget, from its start, in which the race ends, but not before so many seconds or, of a small budget, that part of it; seconds
that it takes at most without one. A round of three networks takes about 20 seconds with opening them."""

IDLE = 0.5
"""Part of a budget in which it ends where nothing that is trained below the head is promised to be worth it: then there is nothing better
to do with the time."""

WORTH_RACING = 60.0
"""Seconds of a budget from which on a fit races without being asked: opening two or three networks takes some ten of them."""

DRAWS = 20_000

NORMAL = NormalDist()


def race_seconds(budget: float | None, *, idle: bool = False) -> float:
    """Seconds after the start at which the race ends. `idle`: training is promised to give nothing."""
    if budget is None:
        return SECONDS
    usual = max(SHARE * budget, min(LITTLE, MOST_OF_LITTLE * budget))
    return max(usual, IDLE * budget) if idle else usual


@dataclass(frozen=True)
class Look:
    """What a round said: `errors` (networks, n) of the held-out decisions about the same n examples, 0 for a right one; `seen` training
    examples of all were looked at. `names` are in the order in which the networks raced. `promises` are what each is expected to gain when
    it is trained, on the scale of gains of the `metric`; nothing where only heads are fitted.
    """

    names: tuple[str, ...]
    errors: Numbers
    seen: int
    promises: tuple[float, ...] = ()
    metric: str = SHARES[0]

    @property
    def means(self) -> Numbers:
        """Mean error of a head on each network."""
        return self.errors.mean(1)

    @property
    def ends(self) -> Numbers:
        """The errors that networks are compared by: those of their heads, less what training is expected to take off."""
        return trained(self.metric, self.means, self.promises)

    @property
    def believed(self) -> Numbers:
        """The same, when what was measured is drawn together with what is known before: that heads do not differ by more than a little. Of
        thirty examples hardly anything follows.
        """
        means = self.means
        return trained(self.metric, means.mean() + self.said * (means - means.mean()), self.promises)

    @property
    def said(self) -> float:
        """The part of what is measured between heads that is not chance, by how far heads lie apart."""
        means, n, share = self.means, self.errors.shape[1], self.metric in SHARES
        if len(means) < 2 or n < 2:
            return 1.0
        best = int(np.argmin(means))
        unit = float(self.errors.max()) or 1.0
        chance = float(np.delete((self.errors - self.errors[best]).var(1), best).mean()) / n + 0.5 * (unit / n) ** 2
        middle = min(1 - HALF / n, max(HALF / n, float(means.mean()))) if share else max(float(means.mean()), HALF * unit / n)
        slope = middle * (1 - middle) if share else middle
        chance, apart = chance / slope**2, float(np.ptp(means)) / slope
        # how likely the difference is where networks are alike, and where one is of another kind
        weights = [p / math.sqrt(v + chance) * math.exp(-(apart**2) / (2 * (v + chance))) for p, v in KINDS]
        parts = [v / (v + chance) for _, v in KINDS]
        return sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights) if sum(weights) else parts[-1]

    def covariance(self, examples: int, said: float = 1.0) -> Numbers:
        """How uncertain the mean errors on all `examples` are (networks, networks): other examples of the same kind could have been judged,
        and the errors fall from those that were seen to all. A network that errs nowhere, or as another does everywhere, may do so on the
        next example: one counts more. Of what is believed, only the part that was `said` is uncertain so.
        """
        n = self.errors.shape[1]
        sampled = _covariance(self.errors) / n if n > 1 else np.ones((len(self.names),) * 2)
        unit = float(self.errors.max()) or 1.0
        drift = self.means * DRIFT * math.log(max(1.0, examples / max(1, self.seen)))
        return said * sampled + np.eye(len(self.names)) * (drift**2 + 0.5 * said * (unit / n) ** 2)

    def best(self) -> int:
        """The place of the least error in the end; of equal ones the first."""
        return int(np.argmin(self.ends))

    def behind(self, of: int, examples: int) -> tuple[Numbers, Numbers]:
        """(how much more each errs than the one at a place, the standard deviation of that)."""
        return _against(self, of, examples, [*range(len(self.names))])[:2]


def _against(look: Look, of: int, examples: int, places: Sequence[int], *, believed: bool = False) -> tuple[Numbers, Numbers, Numbers]:
    """(differences from the network at `of`, their standard deviations, their covariance), for some places: as measured, or `believed`."""
    covariance, means = look.covariance(examples, look.said if believed else 1.0), look.believed if believed else look.ends
    cross = covariance[places][:, places] - covariance[places, of][:, None] - covariance[of, places][None, :] + covariance[of, of]
    return means[places] - means[of], np.sqrt(np.maximum(cross.diagonal(), 0.0)), cross


def _covariance(errors: Numbers) -> Numbers:
    apart = errors - errors.mean(1, keepdims=True)
    return apart @ apart.T / (errors.shape[1] - 1)


def passes_of(train: str, examples: int, *, cut: bool = True) -> tuple[float, float]:
    """How many times an example goes through the whole network, or as much work, until a rung is trained on so many examples and judged in
    one fold: (whatever part of the training is made, in the steps of all of it); backward is twice the forward. `cut`: the frozen part runs
    once. Nothing for what is not trained so.
    """
    if train == "contrastive":
        contrast = contrast_for(examples, 1)
        return 2 * examples, 2 * 3 * contrast.steps * contrast.batch
    epochs = epochs_for(examples, batch_for(examples))
    return (examples, examples * 2 * 3 * epochs * (LIVE[train] if cut else 1.0)) if train in LIVE else (0, 0)


def least_passes(examples: int) -> float:
    """The same of the shortest training of everything that is made, together."""
    steps = min(LEAST_STEPS, epochs_for(examples, batch_for(examples)) * math.ceil(examples / batch_for(examples)))
    return examples + 2 * 3 * steps * min(examples, batch_for(examples))


def promised(gains: Mapping[str, float], examples: int, each: float | None, left: float, least: float = 0.0, *, cut: bool = True) -> float:
    """What training below the head is expected to add on the scale of gains: the most that a rung of those with `gains` does in the seconds
    that are `left`, where an example takes `each` second in a pass (None: not known, whatever it takes). Less than the `least` is nothing.
    """
    told = [0.0]
    for train, gain in gains.items():
        before, steps = passes_of(train, examples, cut=cut)
        fits = math.inf if each is None else (left / max(1e-9, each) - before) / max(1e-9, steps)
        told += [gain * part for share, part in PARTS.items() if share <= fits and gain * part >= least]
    return max(told)


def worth_more(metric: str, figure: float) -> float:
    """What is worth training for, on the scale of gains, above a figure."""
    more = worth(metric)
    return scaled(metric, min(1.0, figure + more)) - scaled(metric, figure) if metric in SHARES else more


def reached(look: Look) -> list[float]:
    """The figure that each network is expected to reach with what it is promised: a share that is right, or an error."""
    heads = replace(look, promises=()).believed.tolist()
    figures = [1 - e if look.metric in SHARES else e for e in heads]
    promises = look.promises or [0.0] * len(figures)
    return [unscaled(look.metric, scaled(look.metric, f) + p) for f, p in zip(figures, promises, strict=True)]


def nothing_promised(look: Look) -> bool:
    """Whether what training is expected to take off the errors is not worth it for any network."""
    heads = look.means
    ends = [_trained(look.metric, float(e), p) for e, p in zip(heads, look.promises or [0.0] * len(heads), strict=True)]
    return all(e - end < worth(look.metric) * (1.0 if look.metric in SHARES else e) for e, end in zip(heads, ends, strict=True))


def beyond_reach(promises: Mapping[str, float], of: str) -> list[str]:
    """The networks that training is promised to give so much less than the one that is named that no head would make up for it."""
    return [name for name, promise in promises.items() if promises[of] - promise > SURELY * HEADS_APART]


def trained(metric: str, errors: Numbers, promises: Sequence[float]) -> Numbers:
    """What mean errors of heads become with what training is promised to give, on the scale of gains. The least promise is left out of all:
    what they gain alike is no difference.
    """
    told = promises or [0.0] * len(errors)
    return np.array([_trained(metric, float(error), promise - min(told)) for error, promise in zip(errors, told, strict=True)])


def _trained(metric: str, error: float, more: float) -> float:
    if metric not in SHARES:
        return error * math.exp(-more)
    return min(error, 1 - unscaled(metric, scaled(metric, 1 - error) + more)) if more else error


def gaps(look: Look) -> list[Figure]:
    """How far each network is behind the best one of a round, on the examples that were seen, with the 95 % interval of the paired
    difference; ahead of it by its head is less than nothing.
    """
    values, deviations = replace(look, promises=()).behind(look.best(), look.seen)
    z = NORMAL.inv_cdf(0.975)
    return [Figure(float(v), float(v - z * d), float(v + z * d)) for v, d in zip(values, deviations, strict=True)]


def comparisons(networks: int, rounds: int) -> int:
    """How many comparisons a race makes at most."""
    return max(1, (networks - 1) * max(1, rounds))


def falling_behind(look: Look, examples: int, compared: int, slack: float = 0.0) -> list[str]:
    """The networks that are worse than the best of a round for certain, also on all examples and with `compared` comparisons (Bonferroni),
    and by more than `slack`, up to which networks count as equal.
    """
    values, deviations = look.behind(look.best(), examples)
    z = NORMAL.inv_cdf(1 - RISK / max(1, compared))
    return [name for name, v, d in zip(look.names, values, deviations, strict=True) if v > max(z * d, slack)]


def first_size(examples: int, outputs: int) -> int:
    """Examples that the first round sees."""
    return min(examples, max(FIRST, EACH * outputs))


def rounds_to(examples: int, first: int) -> int:
    """How many rounds there are at most."""
    return 1 + max(0, math.ceil(math.log(max(1.0, examples / max(1, first)), GROWTH)))


def next_size(size: int, examples: int, left: float, seconds: Callable[[int], float]) -> int:
    """Examples that the next round sees: twice as many, or all where that is little more; fewer where only they fit into the seconds that
    are `left`; none more (`size`) where that would say nothing new. `seconds` is what a round of so many takes.
    """
    wanted = GROWTH * size
    wanted = examples if wanted * WORTHWHILE >= examples else wanted
    least = min(examples, math.ceil(WORTHWHILE * size))
    if size >= examples or seconds(least) > left:
        return size
    if seconds(wanted) <= left:
        return wanted
    low, high = least, wanted
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) <= left else (low, middle)
    return low


def that_fit(seconds: Mapping[str, float], left: float) -> list[str]:
    """The networks whose first round fits into the seconds that are left, all together: the slowest are left out first."""
    names = list(seconds)
    while names and sum(seconds[name] for name in names) > left:
        names.remove(max(names, key=lambda name: (seconds[name], names.index(name))))
    return names


@dataclass(frozen=True)
class Standing:
    """Where a race stands. `chosen` would be taken now; `regret` is what that is expected to lose against the best of all that raced, in
    units of the errors; `why` says what decided between it and the others.
    """

    chosen: str
    regret: float
    why: str


MEASURED, QUICKER, ALONE, TRAINED = "measured", "quicker", "alone", "trained"


def standing(looks: Sequence[Look], examples: int, costs: Mapping[str, float]) -> Standing:
    """Which network to take after some rounds: the one that is believed to err least of those that are left, but for a quicker one (by
    `costs`) that is as good as equal.
    """
    last = looks[-1]
    ends = last.believed
    best = int(np.argmin(ends))
    slack = equal(last.metric, float(ends[best]))
    able = [k for k in range(len(last.names)) if ends[k] - ends[best] < slack or k == best]
    chosen = min(able, key=lambda k: (costs[last.names[k]], ends[k], k))
    heads = replace(last, promises=()).believed
    why = ALONE if len(last.names) == 1 and len(looks) == 1 else MEASURED if chosen == best else QUICKER
    if heads[chosen] - heads.min() >= slack:
        why = TRAINED
    return Standing(last.names[chosen], expected_regret(looks, last.names[chosen], examples), why)


def equal(metric: str, error: float) -> float:
    """The difference of errors up to which two networks count as equal."""
    return EQUAL * worth(metric) * (1.0 if metric in SHARES else error)


def enough(look: Look, regret: float) -> bool:
    """Whether another round is not worth it."""
    return regret <= ENOUGH * equal(look.metric, float(look.ends.min()))


def expected_regret(looks: Sequence[Look], chosen: str, examples: int) -> float:
    """The mean of max(0, error of the chosen one - error of the best one) over what the errors on all examples are believed to be. Each
    network counts as in the last round that it was in, all of which the chosen one was in too; of two it has a closed form, of more it is
    drawn, with a fixed seed. Networks dropped in different rounds are drawn apart, which makes it larger than it is (Slepian 1962).
    """
    blocks: list[tuple[Look, list[int]]] = []
    for number, look in enumerate(looks):
        later = {name for after in looks[number + 1 :] for name in after.names}
        if places := [k for k, name in enumerate(look.names) if name != chosen and name not in later]:
            blocks.append((look, places))
    if sum(len(places) for _, places in blocks) == 1:
        look, places = blocks[0]
        values, deviations, _ = _against(look, look.names.index(chosen), examples, places, believed=True)
        return _mean_above(-float(values[0]), float(deviations[0]))
    rng = np.random.default_rng(0)
    ahead: list[Numbers] = []
    for look, places in blocks:
        values, _, covariance = _against(look, look.names.index(chosen), examples, places, believed=True)
        ahead.append(rng.multivariate_normal(-values, covariance, DRAWS, method="eigh"))
    if not ahead:
        return 0.0
    return float(np.maximum(np.concatenate(ahead, 1).max(1), 0.0).mean())


def _mean_above(mean: float, deviation: float) -> float:
    """The mean of max(0, x) for a normal x."""
    if deviation <= 0:
        return max(0.0, mean)
    z = mean / deviation
    return mean * NORMAL.cdf(z) + deviation * NORMAL.pdf(z)
