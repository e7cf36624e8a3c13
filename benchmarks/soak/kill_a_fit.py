"""Fits of every rung that are killed thirty times at random, and resumed until done: are the bundles those of undisturbed ones?

Claims: `regraft resume` ends with the bundle of the same fit that nobody disturbed, byte for byte; a bundle that is there after a kill is
whole. Small parts of real sets, one thread; every rung, and with it views, a running mean, early stopping, adapters.

Each fit is a process of its own, forked from one that has imported everything. It is sent SIGKILL up to half a second after one of its
events by chance (steps, examples, sentences; out of three quarters of those of the undisturbed fit). So is what resumes it, up to three
times, and then it is left alone. Every run begins with an empty feature store. What a clock decides (how many folds, the precision)
is taken from the undisturbed run (`--replay`): the same decisions are what the claim is about. Checkpoints are written once a second in
place of every 30 s, so that there are many to go on from; contrastive tuning takes 6 steps.

    REGRAFT_DATA=DIR python benchmarks/soak/kill_a_fit.py [--kills 30] [--seed N] [--only RUNG,...] [--out FILE]
    python benchmarks/soak/kill_a_fit.py --table
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import regraft
from regraft.events import Emit, Event
from regraft.pretrained.operators import declare_missing_operators
from regraft.strategy import contrastive
from regraft.workspace import checkpoints
from regraft.workspace.bundle import read_bundle

MOST = 3
"""Kills of one run before it is left alone."""

FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("ants and bees", {}),
    "norm": ("questions", {"train": "norm", "settings": {"epochs": 2}}),
    "top=1, two views": ("letters", {"train": "top=1", "resize_input": 64, "views": 2, "settings": {"epochs": 3}}),
    "top=2, running mean": ("questions", {"train": "top=2", "settings": {"epochs": 3, "ema": 0.9}}),
    "lora": ("questions", {"lora": "last 2 blocks", "rank": 4, "settings": {"epochs": 3}}),
    "full, early stopping": ("questions", {"train": "full", "settings": {"epochs": 4, "patience": 2}}),
    "full, fresh views": ("letters", {"train": "full", "resize_input": 48, "views": "fresh", "settings": {"epochs": 2}}),
    "contrastive": ("questions", {"train": "contrastive"}),
}
"""The fits, each on one of the sets."""


def draw(data: Path, folder: Path) -> None:
    """The sets: 60 questions, 60 letters of six kinds, 40 photographs."""
    (folder / "questions").mkdir(parents=True)
    with open(data / "text" / "trec6" / "train.csv", encoding="utf-8", newline="") as file:
        rows = [(r["text"], r["label"]) for r in csv.DictReader(file)][:60]
    with open(folder / "questions" / "all.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    kinds = [("letters", sorted((data / "omniglot").iterdir())[:6], 10)]
    kinds.append(("ants and bees", sorted((data / "hymenoptera" / "train").iterdir()), 20))
    for name, classes, count in kinds:
        for own in classes:
            (folder / name / own.name).mkdir(parents=True)
            for picture in sorted(own.iterdir())[:count]:
                shutil.copy(picture, folder / name / own.name)


def process(work: Callable[[Emit], object]) -> tuple[int, int]:
    """Some work in a process of its own, which says nothing; (the process, a pipe with a byte for each event)."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    code = 1
    try:
        os.close(read)
        checkpoints.EVERY, checkpoints.SHARE = 1.0, 1e9
        contrastive.STEPS = (6, 6)

        def heard(event: Event) -> None:
            os.write(write, b".")

        work(heard)
        code = 0
    except BaseException as error:
        print(f"  {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def ended(started: tuple[int, int], events: int | None = None, seconds: float = 0.0) -> int | None:
    """Wait for so many events and seconds, then kill; how many events there were when it ended by itself, None when it was killed.
    RuntimeError when it failed.
    """
    child, read = started
    heard, there = 0, True
    while there and (events is None or heard < events):
        there = bool(os.read(read, 1))
        heard += there
    if there:
        # whatever it says in the meantime is nobody's: the pipe holds it
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.close(read)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    if os.WEXITSTATUS(status):
        raise RuntimeError("a fit failed by itself")
    return heard


def content(run: Path) -> dict[str, bytes]:
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in sorted((run / "bundle").rglob("*")) if p.is_file()}


def fit(name: str, base: Path, out: Path, home: Path, replay: Path | None, heard: Emit) -> None:
    os.environ["REGRAFT_HOME"] = str(home)
    data, options = FITS[name]
    regraft.fit(base / data, out=str(out), threads=1, replay=replay, on_event=heard, **options)


def resume(run: Path, home: Path, heard: Emit) -> None:
    os.environ["REGRAFT_HOME"] = str(home)
    regraft.resume(run, on_event=heard)


def disturbed(name: str, kills: int, rng: random.Random, base: Path) -> dict[str, Any]:
    """One fit for the table: what was killed where, and whether the bytes are the same in the end."""
    place = base / "runs" / name
    begun = time.monotonic()
    whole = place / "undisturbed"
    total = ended(process(lambda heard: fit(name, base, whole, place / "home", None, heard)))
    assert total is not None
    wanted = content(whole)
    found: dict[str, Any] = {"seconds undisturbed": round(time.monotonic() - begun, 1), "events": total, "kills": [], "runs": 0}
    same = 0
    while len(found["kills"]) < kills:
        run, home, own = place / f"run-{found['runs']}", place / f"home-{found['runs']}", 0
        work: Callable[[Emit], object] = lambda heard, run=run, home=home: fit(name, base, run, home, whole, heard)
        finished = False
        while not finished and own < MOST and len(found["kills"]) < kills:
            at, after = rng.randrange(1, max(2, 3 * total // 4)), rng.uniform(0, 0.5)
            finished = ended(process(work), at, after) is not None
            if finished:
                continue
            own += 1
            if (run / "bundle").is_dir():
                read_bundle(run / "bundle")  # BundleError where it is not whole
            left = sorted(p.name for p in (run / "checkpoints").glob("*"))
            found["kills"].append({"event": at, "after": round(after, 2), "bundle": (run / "bundle").is_dir(), "checkpoints": left})
            if (run / "spec.json").is_file():
                work = lambda heard, run=run, home=home: resume(run, home, heard)
            else:
                shutil.rmtree(run, ignore_errors=True)
        if not finished:
            ended(process(work))
        found["runs"] += 1
        same += content(run) == wanted
        shutil.rmtree(home, ignore_errors=True)
    return {**found, "runs with the bytes of the undisturbed one": same}


def line(name: str, fit: dict[str, Any]) -> str:
    same = fit["runs with the bytes of the undisturbed one"]
    return f"  {name}: {len(fit['kills'])} kills in {fit['runs']} runs, {same} with the bytes of the undisturbed one"


def show(found: dict[str, Any]) -> None:
    print("Fits that were killed and resumed (benchmarks/soak/kill_a_fit.py)")
    for name, fit in found.items():
        if isinstance(fit, dict):
            print(line(name, fit))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--kills", type=int, default=30)
    ask.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    ask.add_argument("--only", default=",".join(FITS).replace(", ", "; "))
    ask.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "kill_a_fit.json")
    ask.add_argument("--table", action="store_true", help="show what was measured")
    given = ask.parse_args()
    if given.table:
        return show(json.loads(given.out.read_text()))
    names = [name.strip().replace("; ", ", ") for name in given.only.split(",")]
    declare_missing_operators()
    for module in ("torch", "timm", "transformers", "peft", "regraft.jobs.fit", "regraft.jobs.resume"):
        importlib.import_module(module)
    found: dict[str, Any] = {"seed": given.seed, "cores": os.cpu_count()}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        draw(Path(os.environ["REGRAFT_DATA"]), Path(place))
        for number, name in enumerate(names):
            # a forked process has none of PyTorch's threads, so this one computes nothing
            kills = given.kills * (number + 1) // len(names) - given.kills * number // len(names)
            found[name] = disturbed(name, kills, random.Random(f"{given.seed} {name}"), Path(place))
            found["kills"] = sum(len(fit["kills"]) for fit in found.values() if isinstance(fit, dict))
            found["seconds"] = round(time.monotonic() - begun)
            given.out.parent.mkdir(exist_ok=True)
            given.out.write_text(json.dumps(found, indent=2) + "\n")
            print(line(name, found[name]), flush=True)
    if not all(found[name]["runs"] == found[name]["runs with the bytes of the undisturbed one"] for name in names):
        raise SystemExit("the bytes differ")


if __name__ == "__main__":
    main()
