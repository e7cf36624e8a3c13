"""Choosers replayed on the cells of `decisions.py`. In come cells; out go tables. Nothing is trained, and nothing of regraft is written
again: the race is judged by `strategy.race`, the climb by `strategy.ladder` and `strategy.gains` as they are.

What counts as the outcome of a choice within a budget: of `head` its cell where the network has one, else the probe, in seconds reckoned
from the usual network's head cell (the same start) and the seconds that an example takes with this one. Of a rung in 2 min its cell in
2 min; in 30 s the same, where it ended in those; in 10 min its cell in 10 min, or that in 2 min where all steps were made (more folds
only say more of how good it is). What has no cell is never guessed: it is counted apart.

A climb is told the predictions of the plan's cell, but for rungs that the grid does not have (`top=2`, `none`). A step costs what its own
fit took beyond the head's; timing what rungs take costs what the plan took beyond the head, 15 % of what is left at most. What was
measured within a budget of its own is taken to fit into what is left of it after the head. Pilots of a race are those of `auto`.
"""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from dataclasses import replace
from functools import cache

import numpy as np
from cells import grid, paired, read, unpacked
from decisions import HERE, NETWORKS, RUNGS, SIZES, classes_of, cut_short, key, kind_of, means

from regraft.jobs.racing.promising import BEGINNING
from regraft.strategy.gains import SHIFTS, gain_of, nearness, scaled
from regraft.strategy.ladder import Prospect, Range, Room, Standing, most_promising, next_rung
from regraft.strategy.pilot import Pilot, after
from regraft.strategy.race import WORTH_RACING, Look, beyond_reach, promised, race_seconds, standing, worth_more

SECONDS = {"30 s": 30.0, "2 min": 120.0, "10 min": 600.0}
LOOKING, ENDING = 0.15, 3.0
"""Part of the time that a climb looks at what rungs take, at most; seconds that it keeps for its end."""

FIXED = ("use-multilingual-v3",)
"""Networks with a fixed table of words (jobs/racing/promising.py)."""

PACKAGED = "packaged:"
"""What the names of the networks begin with."""

SPLITS = 10
"""Ways to halve a test part, each used in both directions."""

LARGEST = {"image": "efficientnet-lite2", "text": "all-minilm-l6-v2", "audio": "whisper-tiny-en"}
"""The packaged networks with the most parameters. They are also those with the highest figure of their makers, so that two rules of
thumb are one here."""


class Cells:
    """The cells, and what follows from them."""

    def __init__(self, found):
        self.found = found
        rows = list(residuals(self))
        # what the other sets say, for each
        self.others = cache(lambda name: fitted_shifts([row for row in rows if row[0] != name]))
        self.per_example = cache(self._per_example)

    def get(self, name, n, seed, network, what):
        one = self.found.get(key(name, n, seed, network, what))
        return None if one is None or "failed" in one else one

    def _per_example(self, name, network):
        """Seconds of an example in the pass of a network, over all probes of a set."""
        own = [c for k, c in self.found.items() if k.split(" / ")[0] == name and k.endswith(f"{network} / probe") and c.get("computed")]
        return sum(c["features_seconds"] for c in own) / sum(c["computed"] for c in own) if own else None

    def head(self, name, n, seed, network):
        """(cell, seconds) of a linear head on a network."""
        one = self.get(name, n, seed, network, "head in 2m")
        if one:
            return one, one["seconds"]
        one, usual = self.get(name, n, seed, network, "probe"), NETWORKS[kind_of(name)][0]
        start, own = self.get(name, n, 0, usual, "head in 2m"), self.get(name, n, 0, usual, "probe")
        if not (one and start and own):
            return None
        each = [self.per_example(name, which) for which in (network, usual)]
        if None in each:
            return None
        return one, start["seconds"] + n * (each[0] - each[1]) + one["head_seconds"] - own["head_seconds"]

    def outcome(self, name, n, seed, network, rung, budget):
        """(which test examples are right, seconds, cell), None where it was not measured; True where it is known not to fit."""
        if rung == "head":
            found = self.head(name, n, seed, network)
        else:
            cells = [self.get(name, n, seed, network, f"{rung} in {label}") for label in ("10m", "2m")]
            one = cells[0] if budget > 120 and cells[0] else cells[1]
            if one is None:
                return None
            if budget < 120 and one["seconds"] > budget:
                return True if not one["short"] else None
            if budget > 120 and one is cells[1] and cut_short(one):
                return None
            found = one, min(one["seconds"], budget)
        if found is None:
            return None
        one, seconds = found
        return True if seconds > budget else (unpacked(one["right"]), seconds, one)

    def options(self, name, n, seed, budget):
        """{(network, rung): outcome} of everything that was measured and fits, the cheapest first."""
        tried = [(network, rung) for network in NETWORKS[kind_of(name)] for rung in ("head", *RUNGS) if means(name, n, rung)]
        known = {c: self.outcome(name, n, seed, *c, budget) for c in tried}
        there = {c: o for c, o in known.items() if isinstance(o, tuple)}
        return dict(sorted(there.items(), key=lambda item: item[1][1]))

    # choosers: (network, rung), or what stands in the way as text

    def raced(self, name, n, seed, budget=None, shifts=SHIFTS):
        """The network that a race to all examples takes: by heads alone, within a budget also by what training is promised to give."""
        networks = NETWORKS[kind_of(name)]
        probes = {network: self.get(name, n, seed, network, "probe") for network in networks}
        if None in probes.values():
            return None
        errors = np.array([[1.0 - float(b) for b in p["held_out"].replace("-", "")] for p in probes.values()])
        if len({len(row) for row in errors}) > 1:
            return None
        costs = {network: self.per_example(name, network) or 0.0 for network in networks}
        promises = ()
        if budget:
            best = 1 - errors.mean(1).min()
            plan = self.get(name, n, 0, networks[0], "plan")
            near = plan["evidence"]["near"] if plan else nearness(best, 1 / classes_of(name))
            least = worth_more("accuracy", best)
            promises = [self.promise(name, n, network, budget, near, least, costs[network], shifts) for network in networks]
            # the usual one is looked at first, and others perhaps not
            if beyond_reach(dict(zip(networks, [promises[0], max(promises[1:])], strict=False)), networks[0]):
                return networks[0]
        return standing([Look(networks, errors, n, tuple(promises))], n, costs).chosen

    def promise(self, name, n, network, budget, near, least, each, shifts):
        """What training is expected to give a network, as jobs/racing/promising.py tells a race."""
        if network in FIXED:
            return 0.0
        told = n / classes_of(name), near, (), "accuracy", kind_of(name), shifts, PACKAGED + network
        gains = {rung: gain_of(rung, *told).expected for rung in RUNGS if means(name, n, rung)}
        head = self.get(name, n, 0, network, "probe")["head_seconds"]
        left = (1 - LOOKING) * max(0.0, budget - race_seconds(budget) - BEGINNING - each * n - head)
        promise = promised({rung: gain.mean for rung, gain in gains.items()}, n, each, left, least)
        own = (self.get(name, n, 0, NETWORKS[kind_of(name)][0], "auto in 2m") or {}).get("pilots", {}).get(network)
        return after(promise, gains["full"].deviation, Pilot.from_json(own)) if own else promise

    def prospects(self, plan, name, network, shifts):
        evidence = plan["evidence"]
        made = [Prospect.from_json(p) for p in plan["prospects"] if p["train"] in RUNGS]
        told = evidence["per_class"], evidence["near"], (), "accuracy", kind_of(name), shifts, PACKAGED + network
        return [replace(p, gain=gain_of(p.train, *told).expected) for p in made]

    def climb(self, name, n, seed, network, budget, shifts):
        """(the rung that is kept, the rungs that were trained) by the pure ladder, or (None, why) where a cell is not there."""
        plan, head = self.get(name, n, seed, network, "plan"), self.outcome(name, n, seed, network, "head", budget)
        if head is True:
            return "head", []
        if plan is None or head is None:
            return None, "no plan" if plan is None else "no head"
        _, begun, cell = head
        prospects = self.prospects(plan, name, network, shifts)
        stand = Standing("accuracy", cell["estimate"])
        if most_promising(prospects, stand) is None:
            return "head", []
        used = begun + min(LOOKING * max(0.0, budget - begun - ENDING), max(0.0, plan["seconds"] - begun))
        held, path = {"head": cell["held_out"]}, []
        while True:
            room = Room(budget - used - ENDING)
            choice = next_rung(prospects, stand, room)
            if not choice.train:
                return stand.best, path
            one = self.outcome(name, n, seed, network, choice.train, budget)
            if not isinstance(one, tuple):
                return None, f"{choice.train} was not measured"
            used = min(budget, used + max(0.0, one[1] - begun))
            held[choice.train] = one[2]["held_out"]
            path.append(choice.train)
            over_head, over_best = (paired_gain(held[choice.train], held[than]) for than in ("head", stand.best))
            trained = next(p for p in prospects if p.train == choice.train)
            came = stand.weighed(trained, prospects, trained.way(room.seconds), Range(*over_best[:3]), Range(*over_head[:3]), over_best[3])
            stand = replace(stand, aim=choice.aim).with_tried(choice.train, came)


def paired_gain(a, b):
    """(mean, low, high, count) of what the first has right more than the second, of examples that both were held out on."""
    gains = [int(x) - int(y) for x, y in zip(a, b, strict=True) if "-" not in (x, y)]
    return (*((0.0, -1.0, 1.0) if len(gains) < 2 else paired(gains)), len(gains))


def fastai(cells, name, n, seed, budget):
    """Its recipe where it was measured on the same subset (benchmarks/rungs.py)."""
    own = next(
        (c for c in cells.found.values() if "subset" in c and cells.get(name, n, seed, NETWORKS[kind_of(name)][0], "plan") is c), None
    )
    if own is None:
        return None
    for k, c in peers().items():
        if k.startswith(f"{name} / ") and k.endswith("/ fastai") and c.get("subset") == own["subset"] and "failed" not in c:
            return (unpacked(c["right"]), c["seconds"], c) if c["seconds"] <= budget else None
    return None


@cache
def peers():
    return read(HERE.parent / "results" / "rungs.json")


def choosers(cells, name, n, seed, budget):
    """{chooser: outcome, or why there is none}."""
    kind = kind_of(name)
    usual, raced = NETWORKS[kind][0], cells.raced(name, n, seed)
    took = {
        "always head": (usual, "head"),
        "always full": (usual, "full"),
        "largest network, head": (LARGEST[kind], "head"),
        "raced network, head": (raced, "head") if raced else "no probes",
    }
    others = cells.others(name)
    race = lambda shifts: cells.raced(name, n, seed, budget, shifts) if budget >= WORTH_RACING else usual
    rules = ((OURS, race(others), others), (USUAL, usual, others), (PAPERS, race({}), {}), (AS_IT_IS, race(SHIFTS), SHIFTS))
    for said, network, shifts in rules:
        rung, why = cells.climb(name, n, seed, network, budget, shifts) if network else (None, "no probes")
        took[said] = (network, rung) if rung else why
    found = {}
    for said, choice in took.items():
        found[said] = choice if isinstance(choice, str) else cells.outcome(name, n, seed, *choice, budget)
    own = cells.outcome(name, n, seed, usual, "auto", budget) if budget == 120 else None
    found[REAL] = own
    found["fastai's recipe"] = fastai(cells, name, n, seed, budget)
    return found


def halves(name, count):
    """Index arrays (one half, the other half), SPLITS times in both directions."""
    for k in range(SPLITS):
        order = list(range(count))
        random.Random(f"{name} {k}").shuffle(order)
        a, b = np.array(order[: count // 2]), np.array(order[count // 2 :])
        yield from ((a, b), (b, a))


def regrets(cells, budget, seed=0):
    """{chooser: {(set, n): points given up against the best option on the half that is scored}}, {chooser: {(set, n): why not}}."""
    given_up, without = defaultdict(dict), defaultdict(dict)
    for name, sizes in SIZES.items():
        for n in sizes:
            options = cells.options(name, n, seed, budget)
            if len({rung for _, rung in options}) < 2:
                continue  # nothing to choose from
            rows = {c: np.array(o[0]) for c, o in options.items()}
            took = choosers(cells, name, n, seed, budget)
            for said, o in took.items():
                if not isinstance(o, tuple):
                    without[said][name, n] = o if isinstance(o, str) else "does not fit" if o else "not measured"
            sums = defaultdict(list)
            for first, second in halves(name, len(next(iter(rows.values())))):
                scored = {c: r[second].mean() for c, r in rows.items()}
                best = max(scored.values())
                seen = max(rows, key=lambda c: rows[c][first].mean())
                sums[FLOOR].append(best - scored[seen])
                sums["by chance"].append(best - statistics.mean(scored.values()))
                for said, o in took.items():
                    if isinstance(o, tuple):
                        sums[said].append(best - np.array(o[0])[second].mean())
            for said, values in sums.items():
                given_up[said][name, n] = 100 * statistics.mean(values)
    return given_up, without


OURS, PAPERS, AS_IT_IS = "regraft, constants from the other sets", "regraft, rules of papers alone", "regraft as it is"
USUAL = "the same, usual network"
REAL = "regraft, really run (constants from all sets)"
FLOOR = "one that sees half of the test part (floor)"

ORDER = (
    FLOOR,
    OURS,
    USUAL,
    PAPERS,
    AS_IT_IS,
    REAL,
    "raced network, head",
    "always head",
    "always full",
    "largest network, head",
    "by chance",
    "fastai's recipe",
)


def percentile(values, share=0.9):
    return float(np.quantile(list(values), share))


def regret_table(cells):
    lines = ["## What choices give up", ""]
    for label, budget in SECONDS.items():
        given_up, without = regrets(cells, budget)
        rows = []
        subsets = len(given_up.get(ORDER[0], ()))
        for said in ORDER:
            own = given_up.get(said, {})
            missing = defaultdict(int)
            for why in without[said].values():
                missing[why] += 1
            apart = ", ".join(f"{count} {why}" for why, count in sorted(missing.items()))
            figures = [f"{statistics.mean(own.values()):.2f}", f"{percentile(own.values()):.1f}"] if own else ["", ""]
            same = [given_up[OURS][k] - own[k] for k in own if k in given_up[OURS]]
            against = "" if said == OURS or not same else f"{statistics.mean(same):+.2f} on {len(same)}"
            rows.append([said, *figures, f"{len(own)} of {subsets}", against, apart])
        lines += [f"Within {label}, {subsets} subsets:", ""]
        lines += grid(("chooser", "mean, points", "90th percentile", "subsets", "regraft gives up more by", "apart"), rows)
    return lines


def compared(cells):
    """(rung, predicted seconds, measured ones, plan's option, cell) of what a plan spoke of. A head is the one after the plan, in its home;
    of a deeper rung what it takes beyond a head is compared, as both began in an empty home. Seconds are None where it was cut short.
    """
    for name, sizes in SIZES.items():
        for n in sizes:
            for network in NETWORKS[kind_of(name)]:
                plan, head = (cells.get(name, n, 0, network, what) for what in ("plan", "head in 2m"))
                if plan is None or head is None:
                    continue
                said = plan["options"]
                yield "head", said["head"]["seconds"], plan["then"]["seconds"], said["head"], {**head, "peak_mb": plan["then"]["peak_mb"]}
                for rung in RUNGS:
                    one = cells.get(name, n, 0, network, f"{rung} in 2m")
                    if one and rung in said:
                        more = [a - said["head"]["seconds"][0] for a in said[rung]["seconds"]]
                        yield rung, more, None if one["short"] else one["seconds"] - head["seconds"], said[rung], one


def inside(interval, value):
    return interval[1] <= value <= interval[2]


def share(values):
    values = list(values)
    return f"{sum(values) / len(values):.0%} of {len(values)}" if values else ""


def prediction_table(cells):
    rows = []
    pairs = list(compared(cells))
    for rung in ("head", *RUNGS, "all"):
        own = [pair[1:] for pair in pairs if rung in (pair[0], "all")]
        timed = [(said, took) for said, took, *_ in own if took is not None]
        whole = [(option, one) for *_, option, one in own if not cut_short(one)]
        if not own:
            continue
        rows.append(
            [
                rung,
                share(abs(said[0] / took - 1) <= 0.25 for said, took in timed),
                f"{statistics.median(said[0] / took for said, took in timed):.2f}" if timed else "",
                share(inside(said, took) for said, took in timed),
                share(abs(o["memory"][0] / one["peak_mb"] - 1) <= 0.2 for o, one in whole),
                f"{statistics.median(o['memory'][0] / one['peak_mb'] for o, one in whole):.2f}" if whole else "",
                share(inside(o["figure"], one["estimate"]) for o, one in whole),
                share(inside(o["figure"], one["accuracy"]) for o, one in whole),
                f"{100 * statistics.mean(o['figure'][2] - o['figure'][1] for o, _ in whole):.1f}" if whole else "",
            ]
        )
    head = (
        "",
        "seconds within 25 %",
        "predicted / measured",
        "in their interval",
        "memory within 20 %",
        "predicted / measured",
        "held-out figure in its 90 %",
        "test figure in it",
        "width, points",
    )
    plans = [c for k, c in cells.found.items() if k.endswith("/ plan") and "failed" not in c]
    lines = ["## Predictions of a plan", "", *grid(head, rows)]
    if plans:
        taken = sorted(c["seconds"] for c in plans)
        lines += [
            f"{len(plans)} plans took {taken[0]:.0f} to {taken[-1]:.0f} s, median {statistics.median(taken):.0f} s; "
            f"{share(c['seconds'] <= 18 for c in plans)} at most 15 % of two minutes.",
            "",
        ]
    return lines


# what rungs gained more than the rules of papers say


PRIOR, APART, LEAST = 0.4, 0.4, 0.1
"""Deviations in log odds: of how far a kind of rung on one kind of input is from the rules of papers, before anything is measured, and of
how far one data set is from others alike. What is less than LEAST counts as nothing."""


def residuals(cells):
    """(set, examples, rung, network, what it gained over the head in the test part, the rule of papers, the deviation of the gain by
    chance), in log odds, of fits whose steps were all made. How near the data is comes from the usual network's plan.
    """
    for name, sizes in SIZES.items():
        for n in sizes:
            networks = NETWORKS[kind_of(name)]
            plan = cells.get(name, n, 0, networks[0], "plan")
            for network in networks:
                head = cells.get(name, n, 0, network, "head in 2m")
                for rung in RUNGS:
                    one = cells.get(name, n, 0, network, f"{rung} in 2m")
                    if not (plan and head and one) or cut_short(one):
                        continue
                    rule = gain_of(rung, plan["evidence"]["per_class"], plan["evidence"]["near"], measured={}).expected
                    a, b = (smoothed(c["right"]) for c in (one, head))
                    differences = np.array(unpacked(one["right"])) - np.array(unpacked(head["right"]))
                    middle = (a + b) / 2
                    noise = max(float(differences.std()), 0.1) / len(differences) ** 0.5 / (middle * (1 - middle))
                    yield name, n, rung, network, scaled("accuracy", a) - scaled("accuracy", b), rule, noise


def smoothed(right):
    """The share of right ones, with half of a right and of a wrong one more."""
    own = unpacked(right)
    return (sum(own) + 0.5) / (len(own) + 1)


def fitted_shifts(rows):
    """By kind of rung and task how much more than the rules was gained on the usual networks, and by kind of rung and network on the
    others, from some residuals. The prior is that the papers are right, give or take PRIOR; fits on one set share what is its own. Of
    networks that were not measured nothing is known but the task.
    """
    found = {}
    for rung in RUNGS:
        for task, (usual, *others) in NETWORKS.items():
            kind = rung.partition("=")[0]
            own = [row for row in rows if row[2] == rung]
            usually = _shift([row for row in own if row[3] == usual])
            if abs(usually) >= LEAST:
                found[kind, task] = round(usually, 2)
            for network in others:
                there = [row for row in own if row[3] == network]
                more = _shift(there)
                if there and abs(more - found.get((kind, task), 0.0)) >= LEAST:
                    found[kind, PACKAGED + network] = round(more, 2)
    return found


def _shift(rows):
    """How much more than the rules these say was gained."""
    by_set = defaultdict(list)
    for name, _, _, _, gain, rule, noise in rows:
        by_set[name].append((gain - rule.mean, noise))
    certainty, weighted = 1 / PRIOR**2, 0.0
    for own in by_set.values():
        spread = APART**2 + statistics.mean(noise**2 for _, noise in own) / len(own)
        certainty += 1 / spread
        weighted += statistics.mean(more for more, _ in own) / spread
    return weighted / certainty


def shift_table(cells):
    """What the rules of papers say and what came out, and the shifts from all sets."""
    rows = list(residuals(cells))
    body = [
        [f"{name}, {n}", rung, network, f"{rule.mean:+.2f} ({rule.deviation:.2f})", f"{gain:+.2f} ({noise:.2f})"]
        for name, n, rung, network, gain, rule, noise in rows
    ]
    shifts = fitted_shifts(rows)
    lines = ["## What rungs gain over the head", "", "In log odds of being right in the test part; in brackets deviations.", ""]
    lines += grid(("set, examples", "rung", "network", "rule of papers", "gained"), body)
    return [
        *lines,
        *grid(("rung", "input or network", "more than the rules"), [[*k, f"{more:+.2f}"] for k, more in shifts.items()]),
    ]


def accuracy_table(cells):
    """Test accuracy of everything on the usual network, and the rung that regraft keeps in two minutes."""
    rows = []
    for name, sizes in SIZES.items():
        for n in sizes:
            usual = NETWORKS[kind_of(name)][0]
            got = {rung: cells.get(name, n, 0, usual, f"{rung} in 2m") for rung in ("head", *RUNGS)}
            if not any(got.values()):
                continue
            rung, path = cells.climb(name, n, 0, usual, 120.0, cells.others(name))
            plan = cells.get(name, n, 0, usual, "plan")
            own = cells.get(name, n, 0, usual, "auto in 2m")
            did = f"{own.get('network', usual)}, {', '.join(own['climbed'])}: {own['accuracy']:.3f}, {own['seconds']:.0f} s" if own else ""
            took = f"{rung}" + (f" (trained: {', '.join(path)})" if path else "") if rung else f"{path}"
            shown = [
                f"{c['accuracy']:.3f}, {c['seconds']:.0f} s" + ("*" if cut_short(c) else "") if c else "" if means(name, n, r) else "-"
                for r, c in got.items()
            ]
            rows.append([f"{name}, {n}", *shown, took, did, plan["evidence"]["near"] if plan else ""])
    return [
        "## The usual network, in two minutes",
        "",
        *grid(("set, examples", "head", *RUNGS, "regraft, replayed", "regraft, trained", "data is"), rows),
        "`*`: fewer steps than the whole schedule.",
        "",
    ]


def network_table(cells):
    """Which network a race takes, over all seeds, against what the test part says of heads."""
    rows = []
    for name, sizes in SIZES.items():
        for n in sizes:
            for seed in (0, 1, 2):
                networks = NETWORKS[kind_of(name)]
                probes = {k: cells.get(name, n, seed, k, "probe") for k in networks}
                raced = cells.raced(name, n, seed)
                if raced:
                    best = max(p["accuracy"] for p in probes.values())
                    rows.append({k: best - probes[c]["accuracy"] for k, c in (("raced", raced), *((c, c) for c in networks))})
    lines = ["## Networks, by their heads", "", f"{len(rows)} subsets with all networks measured. Given up against the best head:", ""]
    body = []
    images = [r for r in rows if "efficientnet-lite0" in r]
    for label, own in (
        ("images", images),
        ("texts", [r for r in rows if NETWORKS["text"][0] in r]),
        ("sounds", [r for r in rows if "resemblyzer" in r]),
    ):
        for k in own[0] if own else ():
            values = [100 * r[k] for r in own]
            body.append([label, k, f"{statistics.mean(values):.2f}", f"{percentile(values):.1f}", str(len(values))])
    return [*lines, *grid(("", "network", "mean, points", "90th percentile", "subsets"), body)]


def tables(found):
    cells = Cells(found)
    failed = {k: c["failed"] for k, c in found.items() if "failed" in c}
    lines = [f"{len(found)} cells, {len(failed)} failed.", *(f"- {k}: {why}" for k, why in failed.items()), ""]
    return [*lines, *regret_table(cells), *prediction_table(cells), *accuracy_table(cells), *shift_table(cells), *network_table(cells)]
