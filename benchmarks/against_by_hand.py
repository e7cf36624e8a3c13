"""Claim: `regraft fit` is at least as accurate as doing it by hand with the same network, within noise, and takes at most as
long as a whole command with an empty store; with the features stored it takes under 5 seconds.

By hand is `by_hand.py`: the frozen features of timm, sentence-transformers or transformers, then scikit-learn's
LogisticRegressionCV over 10 strengths and 5 folds. regraft does more in its time: a nested estimate, intervals, a model without
the network, a bundle. The two sides run alternately as whole processes. Settings are the defaults; nothing was chosen on test
examples.

    REGRAFT_DATA=DIR python benchmarks/against_by_hand.py [--sets hymenoptera,trec6] [--repeats 3]

Sets: hymenoptera (244 photographs), cifar10 (5,000), trec6 (5,452 questions), banking77 (1,000 of its training texts, the same on
both sides), fsdd (2,700 recordings). Writes results/against_by_hand.json.
"""

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "against_by_hand.json"


def prepare(name, data, scratch):
    """(kind, what by_hand.py gets, what regraft gets)."""
    if name in ("hymenoptera", "cifar10"):
        return "image", [str(data / name)], str(data / name)
    if name == "fsdd":
        return "audio", [str(data / name)], str(data / name / "fsdd.csv")
    source = data / "text" / name
    if name != "banking77":
        return "text", [str(source)], str(source)
    with open(source / "train.csv", encoding="utf-8", newline="") as file:
        rows = [(r["text"], r["label"]) for r in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    folder = scratch / "banking77"
    folder.mkdir()
    with open(folder / "train.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows[:1000]])
    shutil.copy(source / "test.csv", folder / "test.csv")
    return "text", [str(source), "1000"], str(folder)


def timed(command, **env):
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def one(kind, by_hand, ours, scratch, number):
    hand_seconds, text = timed([sys.executable, str(HERE / "by_hand.py"), kind, *by_hand])
    hand = json.loads(text.strip().splitlines()[-1])
    home = scratch / f"home-{number}"
    fit = [sys.executable, "-m", "regraft", "fit", ours, "--json", "--out"]
    cold_seconds, text = timed([*fit, str(scratch / f"cold-{number}")], REGRAFT_HOME=str(home))
    warm_seconds, _ = timed([*fit, str(scratch / f"warm-{number}")], REGRAFT_HOME=str(home))
    result = json.loads(text)
    return {
        "by_hand": {"seconds": hand_seconds, "accuracy": hand["accuracy"]},
        "cold": {"seconds": cold_seconds, "accuracy": result["test"]["metrics"]["accuracy"], "memory_mb": result["peak_memory_mb"]},
        "warm": {"seconds": warm_seconds},
        "without_network": result["test"]["baseline"]["without_network"]["metrics"]["accuracy"]["value"],
        "estimate": result["estimate"]["accuracy"],
    }


def median(rows, *path):
    values = []
    for row in rows:
        for key in path:
            row = row[key]
        values.append(row)
    return statistics.median(values)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default="hymenoptera,banking77,trec6,fsdd,cifar10")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if not os.environ.get("REGRAFT_DATA"):
        raise SystemExit("REGRAFT_DATA does not name the folder of data sets: nothing is measured")
    data = Path(os.environ["REGRAFT_DATA"])
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    print(f"{'set':12} {'by hand':>18} {'regraft, cold':>18} {'ratio':>6} {'stored':>7}   estimate")
    for name in asked.sets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            kind, by_hand, ours = prepare(name, data, scratch)
            rows = [one(kind, by_hand, ours, scratch, i) for i in range(asked.repeats)]
        ratio = statistics.median(r["cold"]["seconds"] / r["by_hand"]["seconds"] for r in rows)
        found[name] = {
            "repeats": asked.repeats,
            "by_hand": {"accuracy": rows[0]["by_hand"]["accuracy"], "seconds": round(median(rows, "by_hand", "seconds"), 2)},
            "cold": {
                "accuracy": rows[0]["cold"]["accuracy"],
                "seconds": round(median(rows, "cold", "seconds"), 2),
                "memory_mb": rows[0]["cold"]["memory_mb"],
            },
            "cold_over_by_hand": round(ratio, 3),
            "warm_seconds": round(median(rows, "warm", "seconds"), 2),
            "estimate": rows[0]["estimate"],
            "without_network": rows[0]["without_network"],
        }
        f = found[name]
        print(
            f"{name:12} {f['by_hand']['accuracy']:8.3f} {f['by_hand']['seconds']:7.1f} s {f['cold']['accuracy']['value']:8.3f} "
            f"{f['cold']['seconds']:7.1f} s {ratio:6.2f} {f['warm_seconds']:5.1f} s   {f['estimate']['value']:.3f}",
            flush=True,
        )
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
