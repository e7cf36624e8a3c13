"""Forty fits with random budgets, and twelve that are told nothing else: is any of them late, and does each end with a valid model?

Claims: a fit with `--budget B` (10 s to 2 min) ends, as a whole process, no later than 2 % of B and 2 s after B, and leaves a bundle that
predicts. A budget in which there can be no model (as busy as the machine is) is refused, in the same time, with what it would take; that
is counted by itself.

Every run is a process of its own: a set, a rung and a budget by chance. Every second one begins with an empty feature store. The figures
hold how busy the machine was (load). Runs are kept one by one: the same command goes on after an interruption; shorter budgets come first.

    REGRAFT_DATA=... python benchmarks/soak/deadlines.py [--runs 40] [--seed N] [--minutes M] [--least B] [--out FILE]
    python benchmarks/soak/deadlines.py --table
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETS = {
    "hymenoptera": "hymenoptera",
    "cifar10": "cifar10",
    "flowers5": "flowers5",
    "omniglot": "omniglot",
    "trec6": "text/trec6/train.csv",
    "banking77": "text/banking77/train.csv",
    "fsdd": "fsdd",
}
RUNGS = ("head", "norm", "top", "full", "contrastive")
BUDGETS = (10.0, 120.0)
ITSELF, MORE_ITSELF = "itself", 0.3
"""Fits that are told nothing but the budget, so that networks race and rungs are climbed: so many more than the others."""
SHARE, MORE = 0.02, 2.0
"""How much later than its budget a fit may end: a part of it, and seconds."""


def planned(runs: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    drawn = [
        {"set": rng.choice(list(SETS)), "rung": rng.choice(RUNGS), "budget": round(rng.uniform(*BUDGETS)), "empty store": k % 2 == 0}
        for k in range(runs)
    ]
    own = random.Random(f"{seed} {ITSELF}")
    alone = [
        {"set": own.choice(list(SETS)), "rung": ITSELF, "budget": round(own.uniform(50, BUDGETS[1])), "empty store": k % 2 == 0}
        for k in range(round(MORE_ITSELF * runs))
    ]
    return sorted([*drawn, *alone], key=lambda run: run["budget"])


def example_of(path: Path) -> Path | str:
    """Something to predict."""
    if path.suffix == ".csv":
        import csv

        with open(path, newline="", encoding="utf-8") as file:
            return next(csv.DictReader(file))["text"]
    return next(p for p in sorted(path.rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".wav"))


def fitted(run: dict[str, Any], data: Path, place: Path) -> dict[str, Any]:
    """One fit as a whole process, and what came of it."""
    out = place / "run"
    home = place / "fresh" if run["empty store"] else place.parent / "home"
    words = ["fit", str(data / SETS[run["set"]]), "--budget", f"{run['budget']}s", "--out", str(out), "--json"]
    words += [] if run["rung"] == ITSELF else ["--train", run["rung"]]
    load, begun = os.getloadavg()[0], time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "regraft", *words],
        env={**os.environ, "REGRAFT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - begun
    late = took - run["budget"]
    found = {**run, "took": round(took, 2), "late": round(late, 2), "in time": late <= SHARE * run["budget"] + MORE, "load": round(load, 1)}
    if done.returncode:
        answer = json.loads(done.stdout) if done.stdout.startswith("{") else {"found": done.stderr[-500:]}
        return {**found, "refused": "is too little" in answer["found"], "predicts": False, "said": answer["found"]}
    result = json.loads(done.stdout)
    return {
        **found,
        "refused": False,
        "predicts": predicts(out, data / SETS[run["set"]]),
        "ships": result["train"],
        "examples": result["n"],
        "used": result["budget"]["used"],
        "with more": result["budget"]["with_more"],
    }


def predicts(run: Path, data: Path) -> bool:
    import regraft

    example = example_of(data)
    (said,) = regraft.predict(run, [example])
    return 0 < getattr(said, "probability", 0) <= 1


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    ended = [r for r in runs if not r["refused"]]
    return {
        "runs": len(runs),
        "ended with a model that predicts": sum(r["predicts"] for r in ended),
        "refused": len(runs) - len(ended),
        "late": sum(not r["in time"] for r in runs),
        "latest (seconds after the budget)": max((r["late"] for r in runs), default=None),
        "trained below the head": sum(r.get("ships", "head") != "head" for r in ended),
        "all examples used": sum(not any(m.startswith("all ") and "were used" in m for m in r.get("with more", ())) for r in ended),
    }


def show(each: list[dict[str, Any]]) -> None:
    print("Fits with a deadline (benchmarks/soak/deadlines.py)")
    for name, value in summary(each).items():
        print(f"  {name}: {value}")


def main() -> None:
    ask = argparse.ArgumentParser(description="Forty fits with random budgets.")
    ask.add_argument("--runs", type=int, default=40)
    ask.add_argument("--seed", type=int, default=7)
    ask.add_argument("--minutes", type=float, default=1e9, help="begin no run after so many minutes")
    ask.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "deadlines.json")
    ask.add_argument("--least", type=float, default=0, help="begin no run with a shorter budget")
    ask.add_argument("--table", action="store_true", help="show what was measured")
    given = ask.parse_args()
    if given.table:
        return show(json.loads(given.out.read_text())["each"])
    data, begun = Path(os.environ["REGRAFT_DATA"]), time.monotonic()
    held = json.loads(given.out.read_text()) if given.out.exists() else {}
    each = held["each"] if held.get("seed") == given.seed else []
    with tempfile.TemporaryDirectory() as place:
        for number, run in enumerate(planned(given.runs, given.seed)):
            done = any({k: r[k] for k in run} == run for r in each)
            if done or run["budget"] < given.least or time.monotonic() - begun > 60 * given.minutes:
                continue
            own = Path(place) / str(number)
            own.mkdir()
            each.append(fitted(run, data, own))
            print(json.dumps(each[-1]), flush=True)
            given.out.write_text(json.dumps({"seed": given.seed, "summary": summary(each), "each": each}, indent=2) + "\n")
    show(each)
    if any(not r["in time"] or not (r["predicts"] or r["refused"]) for r in each):
        raise SystemExit("a fit was late, or left no model")


if __name__ == "__main__":
    main()
