"""Claims, stated before measuring. On fixed subsets of 200 and 1,000 training examples (`subsets.py`), the same for all sides,
judged by accuracy on the same test examples:

1. On each set the best rung of regraft is at least as good as the best peer: the 95 % interval of the difference, paired by
   example, does not lie below 0. Peers: fastai's fine_tune(4), transformers' Trainer (3 epochs by its documentation, and with a
   sweep of 3 learning rates), SetFit (texts at 8 and 16 a class), the by-hand probe.
2. Far from what the network was trained on (omniglot, cifar10, and fsdd with a network of voices), `full`, `top=1` or `top=2` is
   better than `head`: the interval lies above 0.
3. On the other sets the best of those three is not worse than `head`: the interval does not lie below 0.
4. With 200 examples and `--budget 2m` alone, regraft ends in two minutes, at least as good as the best peer at its own time: the interval
   does not lie below 0. (`in 2m`, which chooses the network, too; `usual in 2m` has the usual one. One thread on a core of its own, as a
   budget is in seconds of a clock; not among the best rungs.)

    REGRAFT_DATA=DIR python benchmarks/rungs.py [--only REGEX] [--minutes M]     measures the cells that are missing, in order
    python benchmarks/rungs.py --table                                           prints the tables, writes docs/benchmarks.md

A cell is one side on one subset with one seed: a whole process from an empty store, at most LIMIT seconds of CPU time (ten
minutes on both of two cores; wall time says little on a machine that others use too), two threads, OMP_WAIT_POLICY=passive on
every side. The peers run in an environment of their own, .venv-peers (`make peers`). Cells that are there are skipped; one that
failed or ran into the limit is kept as that, until it is taken out with --again REGEX. The seed draws the training examples and
is the side's own. Seeds 0, 1 and 2 where a cell with seed 0 took less than MINUTE seconds of CPU time, else 0 alone. Everything
is at its defaults but for FITTED; nothing was chosen on test examples.

regraft writes a model and judges it by cross-validation; its cells hold that too, and predict in a second process that is not
counted. "chosen" is the rung that gains most over `head` on held-out training examples (paired; the fewest changes among equals):
what one gets without looking at the test part. "best rung" and "best peer" are those with the most right in the test part, so
both flatter."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cells import bits, grid, held_out, inputs_of, keep, measured, paired, read, unpacked
from subsets import IMAGES, TEXTS, write

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "rungs.json"
SPEED = HERE / "results" / "training_speed.json"
PAGE = HERE.parent / "docs" / "benchmarks.md"
PEERS_PYTHON = HERE.parent / ".venv-peers" / "bin" / "python"
LIMIT, MINUTE, WALL = 1200, 120, 3600

FEW = (("trec6", 48), ("subj", 16), ("trec6", 96), ("subj", 32))
SMALL = tuple((name, 200) for name in ("trec6", "banking77", "subj", "fsdd", "omniglot", "hymenoptera", "cifar10", "flowers5"))
LARGE = (*((name, 1000) for name in ("trec6", "banking77", "subj", "fsdd")), ("omniglot", 600), ("cifar10", 1000), ("flowers5", 1000))
VOICES = ("fsdd, voices", 200), ("fsdd, voices", 1000)
"""fsdd with a network that tells speakers apart."""

FAR = ("omniglot", "cifar10", "fsdd, voices")
RUNGS = ("none", "head", "norm", "top=1", "top=2", "contrastive", "full")
DEEP = ("top=1", "top=2", "full")
ALONE = ("regraft in 2m", "regraft usual in 2m")
USUAL = {"image": "efficientnet-lite0", "text": "all-minilm-l6-v2", "audio": "whisper-tiny-en"}
PEERS = ("by hand", "Trainer", "Trainer, sweep", "SetFit", "fastai")


FITTED = {
    "image": {1000: 6},
    "audio": {1000: 4},
    "subj": {1000: 5},
}
"""Epochs of `full` and `norm` where those of regraft's rule (12 at 1,000 examples) would not end within LIMIT on two cores
without instructions for bfloat16. Reckoned from the seconds that a training example takes, not from any accuracy."""


def fitted(name, kind, n, rung):
    return FITTED.get(name, FITTED.get(kind, {})).get(n) if rung in ("full", "norm") else None


def source(name):
    return name.split(",")[0]


def sides(name, n):
    """The sides that make sense for a subset, cheap ones first."""
    voices, few = name == "fsdd, voices", (name, n) in FEW
    images, texts = name in IMAGES, name in TEXTS
    rungs = [r for r in RUNGS if (r != "none" or images) and (r != "contrastive" or texts and n <= 200) and (r != "norm" or not voices)]
    if voices:
        return [f"regraft {r}" for r in rungs if r != "top=2"]
    peers = ["by hand", "Trainer", *(["SetFit"] if few else []), *(["fastai"] if images else []), "Trainer, sweep"]
    return [
        "by hand",
        *(f"regraft {r}" for r in rungs if r in ("none", "head")),
        *peers[1:],
        *(f"regraft {r}" for r in rungs[1 + images :]),
    ]


CHEAP = ("by hand", "regraft none", "regraft head")
THEN = ("fastai", "regraft top=2", "regraft contrastive", "SetFit", "Trainer")
LAST = ("regraft full", "Trainer, sweep", "regraft top=1", "regraft norm")


def cells():
    """(side, set, n, seed) in the order in which they are measured: small sets and cheap sides first."""
    images, others, voices = SMALL[4:], SMALL[:4], VOICES[:1]
    steps = (
        (FEW[:1] + images + others[:2] + voices, (0,), CHEAP),
        (FEW[:1] + images + others[:2] + voices, (0,), THEN),
        (voices + images + others[:2], (0,), LAST),
        (FEW + others[2:], (0,), CHEAP + THEN),
        (FEW + others[2:], (0,), LAST),
        (FEW + others, (1, 2), CHEAP + THEN + LAST),
        (SMALL, (0,), ALONE),
        (LARGE + VOICES[1:], (0,), CHEAP),
        (LARGE + VOICES[1:], (0,), THEN),
        (LARGE + VOICES[1:], (0,), LAST),
        (images + LARGE + VOICES, (1, 2), CHEAP + THEN + LAST),
    )
    return [
        (side, name, n, seed)
        for subsets, seeds, group in steps
        for name, n in subsets
        for seed in seeds
        for side in group
        if side in sides(name, n) or side in ALONE
    ]


def key(side, name, n, seed):
    return f"{name} / {n} / {seed} / {side}"


KEPT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_ARENA_MAX": "1"}
"""For the peers: glibc keeps memory that was freed, as regraft asks of it by itself; else the kernel clears pages in every step."""


def peer(side, subset, seed, folder):
    """(exit code, cost, predictions, more) of a peer."""
    out = folder / "out.json"
    if side == "by hand":
        kind = json.loads((subset / "truth.json").read_text())["kind"]
        code, cost = measured(
            [str(PEERS_PYTHON), str(HERE / "by_hand.py"), kind, str(subset)], folder, {**KEPT, "PREDICTIONS_OUT": str(out)}
        )
        return code, cost, json.loads(out.read_text()) if code == 0 else [], {}
    script, *more = {"SetFit": ["setfit_texts"], "fastai": ["fastai_images"], "Trainer": ["trainer"]}.get(side, ["trainer", "--sweep", "1"])
    code, cost = measured(
        [str(PEERS_PYTHON), str(HERE / "peers" / f"{script}.py"), str(subset), str(out), "--seed", str(seed), *more], folder
    )
    if code:
        return code, cost, [], {}
    said = json.loads(out.read_text())
    training = {k: round(v, 1) for k, v in (said["training"] or {}).items()}
    return code, cost, said["predictions"], {"settings": said["settings"], "versions": said["versions"], "training": training}


def regraft(side, name, n, subset, truth, seed, folder):
    """The same of a rung, with which held-out examples it has right."""
    env = {"REGRAFT_HOME": str(folder / "home")}
    rung, run = side.removeprefix("regraft "), folder / "run"
    data = subset / "fsdd.csv" if truth["kind"] == "audio" else subset
    command = [sys.executable, "-m", "regraft", "fit", str(data), "--json", "--out", str(run), "--seed", str(seed)]
    command += ["--budget", "2m", "--threads", "1"] if side in ALONE else ["--train", rung]
    command += ["--model", USUAL[truth["kind"]]] if rung.startswith("usual") else []
    command += ["--label", "digit", "--input", "path"] if truth["kind"] == "audio" else []
    command += ["--model", "resemblyzer"] if name == "fsdd, voices" else []
    if epochs := fitted(name, truth["kind"], n, rung):
        command += ["--set", f"epochs={epochs}"]
    code, cost = measured(command, folder, env, LIMIT, WALL)
    if code:
        return code, cost, [], {}
    result, decided = json.loads((run / "run.json").read_text()), json.loads((run / "decisions.json").read_text())
    inputs = inputs_of(truth["kind"], subset, data) + (["--input", "text"] if truth["kind"] == "text" else [])
    done = subprocess.run(
        [sys.executable, "-m", "regraft", "predict", str(run), *inputs, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, **env, "OMP_WAIT_POLICY": "passive"},
    )
    said = [row["label"] for row in json.loads(done.stdout)] if done.returncode == 0 else []
    right = sum(a == b for a, b in zip(said, truth["test"])) / len(truth["test"])
    # engines may differ by rounding between the two processes, in an example or two
    if abs(right - result["test"]["metrics"]["accuracy"]["value"]) > 2.5 / len(truth["test"]):
        raise SystemExit(
            f"{side}: {right:.4f} predicted, {result['test']['metrics']['accuracy']['value']:.4f} in run.json\n{done.stderr[-2000:]}"
        )
    settings = {k: v for k, v in (decided.get("settings") or {}).items() if k in ("epochs", "batch", "lr", "layer_decay", "adapt")}
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [e["seconds"] for e in events if e["event"] == "Done" and "training" in e["stage"] and "all examples" in e["stage"]]
    training = {"examples": settings["epochs"] * result["n"], "seconds": round(last[-1], 1)} if last and "epochs" in settings else {}
    more = {
        "settings": settings,
        "versions": decided["versions"],
        "training": training,
        "held_out": held_out(run),
        "estimate": result["estimate"]["accuracy"]["value"],
        "ships": result["train"] if side in ALONE else decided.get("ships", rung),
        **({"model": result["model"]} if side in ALONE else {}),
        "engine": decided["engine"]["name"],
    }
    return code, cost, said, more


def cell(side, name, n, seed, data, subsets, commit):
    subset = subsets / f"{source(name)}-{n}-{seed}"
    truth = write(source(name), n, seed, data, subset)
    with tempfile.TemporaryDirectory(dir=subsets) as scratch:
        folder = Path(scratch)
        if side.startswith("regraft"):
            code, cost, said, more = regraft(side, name, n, subset, truth, seed, folder)
        else:
            code, cost, said, more = peer(side, subset, seed, folder)
        found = {"n": truth["train"], "n_test": len(truth["test"]), "subset": truth["sha256"][:16], "commit": commit, **cost}
        if code:
            # ended by the limit, or by a fault that its last line tells
            over = cost["cpu_seconds"] >= 0.98 * LIMIT or cost["seconds"] >= WALL
            lines = (folder / "stderr").read_text().strip().splitlines()
            return {**found, "failed": "limit" if over else f"exit {code}: {lines[-1] if lines else ''}"[:300]}
    right = [a == b for a, b in zip(said, truth["test"], strict=True)]
    return {**found, "accuracy": round(sum(right) / len(right), 4), "right": bits(right), **more}


def wanted(found, side, name, n, seed):
    """Whether a cell is still to be measured: further seeds only where the first took less than a minute."""
    if key(side, name, n, seed) in found or n == 200 and name == "hymenoptera" and side == "by hand" and seed:
        return False
    first = found.get(key(side, name, n, 0))
    return not seed or first is not None and "failed" not in first and first["cpu_seconds"] < MINUTE


def measure(only, minutes, again):
    if not os.environ.get("REGRAFT_DATA"):
        raise SystemExit("REGRAFT_DATA does not name the folder of data sets: nothing is measured")
    if not PEERS_PYTHON.exists():
        raise SystemExit(f"{PEERS_PYTHON} is not there: make peers")
    data, begun = Path(os.environ["REGRAFT_DATA"]), time.perf_counter()
    commit = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    found = {k: v for k, v in read(RESULTS).items() if not (again and re.search(again, k))}
    subsets = Path(tempfile.mkdtemp(prefix="subsets-"))
    try:
        for side, name, n, seed in cells():
            this = key(side, name, n, seed)
            if not wanted(found, side, name, n, seed) or only and not re.search(only, this):
                continue
            if time.perf_counter() - begun > minutes * 60:
                break
            one = cell(side, name, n, seed, data, subsets, commit)
            # another process may have measured others meanwhile
            found = {**found, **({} if again else read(RESULTS)), this: one}
            keep(RESULTS, found)
            told = one.get("failed") or f"{one['accuracy']:.3f}"
            print(f"{this:44} {told:>8}  {one['seconds']:6.0f} s  {one['cpu_seconds']:6.0f} CPU s  load {one['load']}", flush=True)
    finally:
        shutil.rmtree(subsets, ignore_errors=True)


# the tables


def good(found, side, name, n):
    """{seed: cell} of the cells that came to an end."""
    cells_of = {seed: found.get(key(side, name, n, seed)) for seed in (0, 1, 2)}
    return {seed: one for seed, one in cells_of.items() if one and "failed" not in one}


def accuracy(found, side, name, n):
    own = good(found, side, name, n)
    return statistics.mean(one["accuracy"] for one in own.values()) if own else None


def difference(a, b):
    """(mean, low, high) of what `a` has right and `b` has not, over their common seeds, paired by example; each {seed: right or not}."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    by_example = [
        statistics.mean(x - y for x, y in pairs) for pairs in zip(*(list(zip(a[s], b[s], strict=True)) for s in seeds), strict=True)
    ]
    return paired(by_example)


def rights(found, side, name, n):
    return {seed: unpacked(one["right"]) for seed, one in good(found, side, name, n).items()}


def chosen(found, name, n):
    """{seed: the rung that its held-out examples speak for}: the most gained over `head` on the same examples."""
    taken = {}
    heads = good(found, "regraft head", name, n)
    for seed, head in heads.items():
        gains = {}
        for rung in RUNGS:
            one = good(found, f"regraft {rung}", name, n).get(seed)
            pairs = [(a, b) for a, b in zip(one["held_out"], head["held_out"], strict=True) if "-" not in (a, b)] if one else []
            if pairs:
                gains[rung] = sum(int(a) - int(b) for a, b in pairs) / len(pairs)
        taken[seed] = max(gains, key=lambda rung: (gains[rung], -RUNGS.index(rung)))
    return taken


def best(found, of, name, n):
    there = [side for side in of if accuracy(found, side, name, n) is not None]
    return max(there, key=lambda side: accuracy(found, side, name, n)) if there else None


def said(triple):
    return "not measured" if triple is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in triple))


def shown(found, side, name, n, what="accuracy"):
    if side not in sides(name, n):
        return ""
    own = good(found, side, name, n)
    if not own:
        failed = found.get(key(side, name, n, 0))
        return "not measured" if failed is None else "over the limit" if failed["failed"] == "limit" else "failed"
    if what == "accuracy":
        return f"{accuracy(found, side, name, n):.3f}" + (f" x{len(own)}" if len(own) > 1 else "")
    return f"{statistics.median(one[what] for one in own.values()):,.0f}"


ROWS = (*FEW, *(row for pair in ((s, *[x for x in LARGE if x[0] == s[0]]) for s in SMALL) for row in pair), *VOICES)


def compared(found, name, n):
    """(best rung, best peer, the difference, the chosen rungs, theirs against the best peer)."""
    rung = best(found, [f"regraft {r}" for r in RUNGS], name, n)
    other = best(found, PEERS, name, n)
    taken = chosen(found, name, n)
    own = {seed: rights(found, f"regraft {r}", name, n)[seed] for seed, r in taken.items()}
    if other is None or rung is None:
        return rung, other, None, taken, own, None
    against = rights(found, other, name, n)
    return rung, other, difference(rights(found, rung, name, n), against), taken, own, difference(own, against)


def tables(found):
    """The page, as lines."""
    lines = ["<!-- written by benchmarks/rungs.py --table -->", "# Rungs against other tools", ""]
    about, _, _ = (__doc__ or "").partition("\n    REGRAFT_DATA")
    lines += [
        about.strip(),
        "",
        "How: `benchmarks/rungs.py` (what a cell is, the limits), `benchmarks/subsets.py` (which examples), `benchmarks/peers/` (the other",
        "tools' recipes, each by its documentation), `benchmarks/results/rungs.json` (every cell, with which test examples it has right).",
        "What was not measured yet is left visible. `x3`: mean of three seeds.",
        "",
    ]
    there = sum(1 for one in found.values() if "failed" not in one)
    lines += [f"{there} cells, {len(found) - there} ended by the limit or a fault.", "", "## Best rung and best peer", ""]
    rows, claims = [], {1: [], 2: [], 3: []}
    for name, n in ROWS:
        rung, other, gap, taken, own, chosen_gap = compared(found, name, n)
        if rung is None:
            continue
        rungs = sorted(set(taken.values()), key=RUNGS.index)
        value = statistics.mean(statistics.mean(right) for right in own.values()) if own else None
        rows.append(
            [
                f"{name}, {n}",
                f"{rung.removeprefix('regraft ')} {shown(found, rung, name, n)}",
                f"{other} {shown(found, other, name, n)}" if other else "",
                said(gap) if other else "",
                ", ".join(p for p in PEERS if p in sides(name, n) and not good(found, p, name, n)),
                f"{' or '.join(rungs)} {value:.3f}" if value is not None else "",
                said(chosen_gap) if other else "",
            ]
        )
        if gap:
            claims[1].append((name, n, gap, gap[2] >= 0))
        head = rights(found, "regraft head", name, n)
        deep = best(found, [f"regraft {r}" for r in DEEP], name, n)
        if head and deep and (step := difference(rights(found, deep, name, n), head)):
            claims[2 if name in FAR else 3].append(
                (f"{name}, {n}: {deep.removeprefix('regraft ')}", n, step, step[1] > 0 if name in FAR else step[2] >= 0)
            )
    lines += grid(
        (
            "set, examples",
            "best rung",
            "best peer",
            "difference in points (95 %)",
            "peers not measured yet",
            "chosen by held-out",
            "against the best peer",
        ),
        rows,
    )
    lines += ["## Whether the claims hold", ""]
    titles = {
        1: "Best rung at least as good as the best peer",
        2: "Far: full, top=1 or top=2 better than head",
        3: "Near: the best of those not worse than head",
    }
    for number, title in titles.items():
        held = claims[number]
        lines.append(f"{number}. {title}: {sum(ok for *_, ok in held)} of {len(held)} measured so far.")
        lines += [f"    - not: {name if number > 1 else f'{name}, {n}'}: {said(gap)}" for name, n, gap, ok in held if not ok]
    lines += alone(found)
    lines += ["", "What `full`, `top=1` or `top=2` gains over `head`:", ""]
    lines += grid(
        ("set, examples: rung", "points (95 %)", "far"),
        [[name, said(gap), "far" if k == 2 else ""] for k in (2, 3) for name, _, gap, _ in claims[k]],
    )
    for title, what in (("Accuracy", "accuracy"), ("CPU seconds of the whole process", "cpu_seconds")):
        lines += [f"## {title}", ""]
        for group, columns in (("regraft", [f"regraft {r}" for r in RUNGS]), ("peers", PEERS)):
            body = [[f"{name}, {n}", *(shown(found, side, name, n, what) for side in columns)] for name, n in ROWS]
            lines += grid((group, *(c.removeprefix("regraft ") for c in columns)), [row for row in body if any(row[1:])])
    return lines


def alone(found):
    """The claim about a budget and nothing else, and its table."""
    rows, held = [], []
    for name, n in SMALL:
        other = best(found, PEERS, name, n)
        row = [f"{name}, {n}", f"{other} {shown(found, other, name, n)}, {shown(found, other, name, n, 'cpu_seconds')} s" if other else ""]
        for side in ALONE:
            one = good(found, side, name, n).get(0)
            gap = difference(rights(found, side, name, n), rights(found, other, name, n)) if one and other else None
            if gap and side == ALONE[0]:
                held.append(one["seconds"] <= 120 and gap[2] >= 0)
            row += [
                f"{one['model'].partition(':')[2]}, {one['ships']}: {one['accuracy']:.3f}, {one['seconds']:.0f} s" if one else "",
                said(gap),
            ]
        rows.append(row)
    lines = [f"4. A budget of two minutes and nothing else: {sum(held)} of {len(held)} measured so far.", ""]
    columns = ("set, examples", "best peer, its CPU seconds", "`--budget 2m`", "against it", "with the usual network", "against it")
    return lines + grid(columns, rows)


def speed(told):
    """What `training_speed.py` found."""
    lines = ["## Speed of training", "", "`benchmarks/training_speed.py`: the same network, batches of 16, training alone.", ""]
    rows, held = [], []
    for part, one in told.items():
        for side, rounds in one["rounds"].items():
            figures = [statistics.median(r[k] for r in rounds) for k in ("examples_per_s", "cpu_ms_per_example")]
            rows.append([part, side, f"{figures[0]:.1f}", f"{figures[1]:.1f}", str(len(rounds))])
        for name, ratio in one["ratios"].items():
            holds = ratio["by_wall"] >= ratio["claimed"]
            held.append(
                [part, name, f"{ratio['claimed']:g}", f"{ratio['by_wall']:g}", f"{ratio['by_cpu']:g}", "yes" if holds else "**no**"]
            )
    lines += grid(("", "", "examples/s", "CPU ms an example", "rounds"), rows)
    return lines + grid(("", "times as many examples/s", "claimed", "by wall time", "by CPU time", "holds"), held)


def page(found):
    more = speed(json.loads(SPEED.read_text())) if SPEED.exists() else []
    return "\n".join([*tables(found), *more]).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="cells whose key holds this regular expression")
    parser.add_argument("--again", help="measure these cells anew")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        found = read(RESULTS)
        print("\n".join(key(*c) for c in cells() if wanted(found, *c)))
    elif given.table:
        PAGE.write_text(page(read(RESULTS)), encoding="utf-8")
        print(page(read(RESULTS)))
    else:
        measure(given.only, given.minutes, given.again)


if __name__ == "__main__":
    main()
