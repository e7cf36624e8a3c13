"""Fits of every rung that are killed thirty times at random, and resumed until done: are the bundles those of undisturbed ones?

Claims: `regraft resume` ends with the bundle of the same fit that nobody disturbed, byte for byte; a bundle that is there after a kill is
whole. Small parts of real sets, one thread; every rung, and with it views, a running mean, early stopping, adapters.

Each fit is a process of its own, forked from one that has imported everything. It is sent SIGKILL after a time by chance, up to the time
that the undisturbed one took; so is what resumes it, up to three times, and then it is left alone. Every run begins with an empty feature
store. What a clock decides (how many folds, the precision) is taken from the undisturbed run (`--replay`): the same decisions are what the
claim is about. Checkpoints are written once a second in place of every 30 s, so that there are many to go on from; contrastive
tuning takes 6 steps.

    REGRAFT_DATA=DIR python benchmarks/soak/kill_a_fit.py [--kills 30] [--seed N] [--only RUNG,...] [--out FILE]
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import regraft
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


def process(work: Callable[[], object]) -> int:
    """Some work in a process of its own, which says nothing."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        checkpoints.EVERY, checkpoints.SHARE = 1.0, 1e9
        contrastive.STEPS = (6, 6)
        work()
        code = 0
    except BaseException as error:
        print(f"  {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def ended(child: int) -> int | None:
    """How a process ended; None while it runs."""
    done, status = os.waitpid(child, os.WNOHANG)
    return status if done else None


def killed(child: int, seconds: float) -> bool:
    """Wait so long, then kill; whether that came before its end. RuntimeError when it failed by itself."""
    end = time.monotonic() + seconds
    status = None
    while status is None and time.monotonic() < end:
        time.sleep(0.005)
        status = ended(child)
    if status is None:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise RuntimeError("a fit failed by itself")
    return False


def content(run: Path) -> dict[str, bytes]:
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in sorted((run / "bundle").rglob("*")) if p.is_file()}


def fit(name: str, base: Path, out: Path, home: Path, replay: Path | None) -> None:
    os.environ["REGRAFT_HOME"] = str(home)
    data, options = FITS[name]
    regraft.fit(base / data, out=str(out), threads=1, replay=replay, **options)


def resume(run: Path, home: Path) -> None:
    os.environ["REGRAFT_HOME"] = str(home)
    regraft.resume(run)


def disturbed(name: str, kills: int, rng: random.Random, base: Path) -> Iterator[tuple[str, Any]]:
    """What one fit gives for the table: ("kills", ...), ("same bytes", ...)."""
    place = base / "runs" / name
    begun = time.monotonic()
    whole = place / "undisturbed"
    if killed(process(lambda: fit(name, base, whole, place / "home", None)), 1e9):
        raise RuntimeError("it was not to be killed")
    seconds = time.monotonic() - begun
    wanted = content(whole)
    yield "seconds undisturbed", round(seconds, 1)
    held: list[dict[str, Any]] = []
    runs, same, count = 0, 0, 0
    while count < kills:
        run, home, own = place / f"run-{runs}", place / f"home-{runs}", 0
        work: Callable[[], object] = lambda run=run, home=home: fit(name, base, run, home, whole)
        while own < min(MOST, kills - count) and killed(process(work), after := rng.uniform(0, seconds)):
            own += 1
            there = run.is_dir()
            if (run / "bundle").is_dir():
                read_bundle(run / "bundle")  # BundleError where it is not whole
            left = sorted(p.name for p in (run / "checkpoints").glob("*")) if there else []
            held.append({"after": round(after, 2), "run": there, "bundle": (run / "bundle").is_dir(), "checkpoints": left})
            if there and (run / "spec.json").is_file():
                work = lambda run=run, home=home: resume(run, home)
            else:
                shutil.rmtree(run, ignore_errors=True)
        if not (run / "run.json").is_file() and killed(process(work), 1e9):
            raise RuntimeError("it was not to be killed")
        runs, count, same = runs + 1, count + own, same + (content(run) == wanted)
        shutil.rmtree(home, ignore_errors=True)
    yield "kills", held
    yield "runs", runs
    yield "runs with the bytes of the undisturbed one", same


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--kills", type=int, default=30)
    ask.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    ask.add_argument("--only", default=",".join(FITS).replace(", ", "; "))
    ask.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "kill_a_fit.json")
    given = ask.parse_args()
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
            found[name] = dict(disturbed(name, kills, random.Random(f"{given.seed} {name}"), Path(place)))
            found["kills"] = sum(len(fit["kills"]) for fit in found.values() if isinstance(fit, dict))
            found["seconds"] = round(time.monotonic() - begun)
            given.out.parent.mkdir(exist_ok=True)
            given.out.write_text(json.dumps(found, indent=2) + "\n")
            print(name, json.dumps({k: v if k != "kills" else len(v) for k, v in found[name].items()}), flush=True)
    if not all(found[name]["runs"] == found[name]["runs with the bytes of the undisturbed one"] for name in names):
        raise SystemExit("the bytes differ")


if __name__ == "__main__":
    main()
