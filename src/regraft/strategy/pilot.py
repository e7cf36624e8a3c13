"""A pilot: a short training of a network in a race, for what longer ones would give. Pure: who is worth one, and what it lets believe.

Gains differ more from one data set to the next than rules can say, and a few steps show most of what many give: 20 steps of 16 questions
raise a network by 8.5 points where the whole training raises it by 8.6 (docs/how-it-decides.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

from regraft.strategy.gains import HALF, SHARES, Expected, drawn
from regraft.strategy.ladder import ALIKE, Prospect
from regraft.strategy.race import Look, equal

STEPS, BATCH = 20, 16
"""Steps of a pilot, and examples of each."""

LEAST = 10
"""Steps fewer than which say nothing."""

JUDGED = (40, 200)
"""Held-out examples that a pilot is judged on, at least and at most. Of fewer it would say nothing."""

SHOWN, SHORT = 0.75, 0.2
"""The part of a gain that a few steps show, on the mean, and how far the rest lies from that, in log odds: the standard deviation. Three
pilots of questions showed 0.57 to 0.62 of 0.74 to 0.88; the others, of what gains little, lay within 0.2. regraft's own guess after seven.
"""

DISAGREE = 0.6
"""Part of the decisions that could be different ones, about which two models of one data set disagree: for what a pilot is worth before it
is made. regraft's own guess."""

SHARE = 0.125
"""Part of a budget that pilots may take beyond the race's own time."""

OPENING = 3.0
"""Seconds that it takes to open a network for training, at the least."""

FOLDS = 5
"""Folds that there usually are."""

POINTS = 21
"""Outcomes of a pilot that are looked at, equally likely ones."""

NORMAL = NormalDist()


@dataclass(frozen=True)
class Pilot:
    """What a pilot gave: its `gain` over the head on the same `judged` held-out examples, on the scale of gains, with what chance has in
    it; the head's figure and its own; `steps` were made, in so many seconds.
    """

    gain: Expected
    judged: int
    head: float
    figure: float
    steps: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads."""
        told = {**vars(self), "gain": [round(self.gain.mean, 4), round(self.gain.deviation, 4)]}
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in told.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Pilot:
        """What `to_json` gave."""
        numbers: dict[str, Any] = {**values, "gain": Expected(*map(float, values["gain"]))}
        return cls(**numbers)

    @property
    def says(self) -> Expected:
        """What it says of a training of any length."""
        return Expected(self.gain.mean / SHOWN, math.hypot(self.gain.deviation / SHOWN, SHORT))


def folds_that_judge(examples: int, folds: int) -> int:
    """How many of the folds of so many examples judge a pilot, which learns from the others: half of them at most."""
    return max(1, min(folds // 2, int(1.05 * JUDGED[1] * folds / max(1, examples))))


def judges(examples: int, folds: int = FOLDS) -> int:
    """How many of so many examples judge a pilot, about."""
    return min(JUDGED[1], examples * folds_that_judge(examples, folds) // max(1, folds))


def pilot_seconds(each: float, judged: int) -> float:
    """What a pilot takes when an example takes `each` seconds in a pass; backward is twice the forward."""
    return OPENING + each * (3 * STEPS * BATCH + judged)


def after(promise: float, deviation: float, pilot: Pilot) -> float:
    """What a network is promised after its pilot; a training that loses does not ship, so that none is promised a loss."""
    return max(0.0, drawn(Expected(promise, deviation), pilot.says).mean)


def worth_of(look: Look, name: str, deviation: float, judged: int) -> float:
    """How much less the network that is taken is expected to err if this one has a pilot first, in units of the errors: a pilot may move
    its promise, which is uncertain by so much, as far as that so many examples can say anything.
    """
    place, promises = look.names.index(name), list(look.promises)
    if not deviation or not promises:
        return 0.0
    noise = math.hypot(SHORT, _chance(look, place, judged))
    moves = deviation**2 / math.hypot(deviation, noise)
    now = int(look.believed.argmin())
    gained = 0.0
    for k in range(POINTS):
        promises[place] = max(0.0, look.promises[place] + moves * NORMAL.inv_cdf((k + 0.5) / POINTS))
        ends = replace(look, promises=tuple(promises)).believed
        gained += float(ends[now] - ends.min()) / POINTS
    return gained


def _chance(look: Look, place: int, judged: int) -> float:
    """What chance has in a gain on so many examples, on the scale of gains, about."""
    error = float(look.means[place])
    if look.metric not in SHARES:
        return 1 / math.sqrt(judged)
    middle = min(1 - HALF / judged, max(HALF / judged, error))
    return math.sqrt(DISAGREE / (judged * middle * (1 - middle)))


def worth_one(look: Look, deviations: Mapping[str, float], judged: int) -> list[str]:
    """The networks whose pilot would be worth more than what networks count as equal by, the best first; none where too few would judge
    it. `deviations` are of promises, 0 for what is not trained or had one.
    """
    if judged < JUDGED[0] or len(look.names) < 2:
        return []
    worth = {name: worth_of(look, name, deviation, judged) for name, deviation in deviations.items() if deviation}
    least = equal(look.metric, float(look.ends.min()))
    return sorted((name for name, value in worth.items() if value >= least), key=lambda name: -worth[name])


def heard(prospects: Sequence[Prospect], pilot: Pilot) -> list[Prospect]:
    """What rungs are expected to give after a pilot of the network: `full`, of which it was one, by what it says, and no less than that in
    any part of its training; the others by half of the surprise, as after a rung that was trained.
    """
    whole = next((p for p in prospects if p.train == "full"), None)
    if whole is None or whole.gain.deviation <= 0:
        return list(prospects)
    told = drawn(whole.gain, pilot.says)
    surprise = (told.mean - whole.gain.mean) / whole.gain.deviation
    found: list[Prospect] = []
    for p in prospects:
        if p is whole:
            found.append(replace(p, gain=told, shown=max(0.0, told.mean), reasons=(*p.reasons, _said(pilot))))
        else:
            gain = Expected(p.gain.mean + ALIKE * surprise * p.gain.deviation, p.gain.deviation)
            found.append(replace(p, gain=gain, reasons=(*p.reasons, _said(pilot))))
    return found


def _said(pilot: Pilot) -> str:
    return f"{pilot.steps} steps in the race gave {pilot.gain.mean:+.2f} over the head, give or take {pilot.gain.deviation:.2f}"
