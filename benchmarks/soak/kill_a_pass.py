"""A pass that is killed fifty times at random, then finished: are the bytes those of an undisturbed one?

Claims: after every kill what the store holds is whole (every segment opens, and its checksum fits); what the finished pass gives, window
by window, and what training would read has the bytes of an undisturbed pass; nothing that was written before a kill is computed again.
Once for rows of features, once for tensors at a cut (two of each window, windows of several lengths).

Each pass is a process of its own that computes 3,000 texts with a small network, a little slowed down, and writes to the store a few
times a second. It is sent SIGKILL at a moment drawn from half of the time that one takes to begin up to half a second more than that, so
kills also fall into its start, into writing, and between writing and renaming.

    python benchmarks/soak/kill_a_pass.py [--kills 50] [--seed N] [--out benchmarks/results/kill_a_pass.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.features import extract, material
from regraft.features.material import gather
from regraft.modality import MODALITIES, Prepared
from regraft.workspace.segments import Segment
from regraft.workspace.store import Space

TILE = 8
COUNT = 3000


def draw(folder: Path, count: int) -> list[Path]:
    rng = random.Random(0)
    folder.mkdir(parents=True)
    for i in range(count):
        words = " ".join("".join(rng.choices("aeioubcdfglmnprst", k=rng.randint(2, 9))) for _ in range(rng.randint(3, 60)))
        (folder / f"{i:05}.txt").write_text(f"{words} {i}")
    return sorted(folder.iterdir())


def prepare(text: str) -> Prepared:
    """One to three windows, of 64, 128 or 192 characters."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.float32) / 128 - 0.5
    pieces = np.array_split(codes, 1 + len(codes) % 3)
    return Prepared([{"x": np.resize(p, (1, 64 * (1 + min(2, len(p) // 64))))} for p in pieces], [len(p) for p in pieces])


class Trunk:
    """A convolution over a tile: tensors of each window, or with `rows` their mean over time."""

    tile, side_by_side = TILE, True

    def __init__(self, rows: bool, seconds: float) -> None:
        torch.manual_seed(0)
        self.layer, self.rows, self.seconds = torch.nn.Conv1d(1, 64, 9, padding=4), rows, seconds

    def __call__(self, windows: Sequence[Any]) -> Any:
        filled = [*windows, *[windows[0]] * (TILE - len(windows))]
        time.sleep(self.seconds)
        with torch.no_grad():
            found = torch.tanh(self.layer(torch.from_numpy(np.stack([w["x"] for w in filled])))).numpy()
        return found.mean(2)[: len(windows)] if self.rows else [{"0": f, "1": f[:1] > 0} for f in found]


def passed(kind: str, paths: Sequence[Path], folder: Path, seconds: float = 0.0) -> str:
    """A hash of everything that the pass gives."""
    names, texts, space = [p.name for p in paths], MODALITIES["text"], Space(folder, {"kind": kind}, needed=True)
    digest = hashlib.sha256()
    if kind == "rows":
        found = extract(names, paths, texts, lambda: Trunk(True, seconds), prepare, space)
        digest.update(found.features.tobytes() + b"".join(found.identities))
    else:
        given = gather(names, paths, texts, prepare, space, trunk=Trunk(False, seconds), tile=TILE)
        digest.update(given.example.tobytes() + given.share.tobytes() + given.kind.tobytes())
        for window in range(len(given.example)):
            digest.update(b"".join(array.tobytes() for array in given.read(np.array([window])).values()))
    return digest.hexdigest()


def child(kind: str, data: str, folder: str) -> None:
    """The pass that is killed: it writes often."""
    material.FLUSH_BYTES = 1 << 20
    sys.modules["regraft.features.extract"].FLUSH_ROWS = 40  # type: ignore[attr-defined]
    passed(kind, sorted(Path(data).iterdir()), Path(folder), 0.004)


def soak(kind: str, kills: int, seed: int, base: Path) -> dict[str, Any]:
    rng = random.Random(f"{seed} {kind}")
    data, folder = base / "data", base / kind
    paths = sorted(data.iterdir())
    whole = passed(kind, paths, base / f"{kind} undisturbed")
    command = [sys.executable, __file__, "--child", kind, str(data), str(folder)]
    begun = time.monotonic()
    environment = {**os.environ, "REGRAFT_HOME": str(base / "home")}
    first = subprocess.Popen(command, env=environment)
    while not list(folder.glob("*.safetensors")):
        time.sleep(0.01)
    start_up = time.monotonic() - begun
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    killed, ended, left_aside, torn, kept = 1, 0, 0, 0, [len(Space(folder, {"kind": kind}))]
    while killed < kills:
        running = subprocess.Popen(command, env=environment)
        time.sleep(rng.uniform(0.5, 1.0) * start_up + rng.uniform(0, 0.5))
        os.kill(running.pid, signal.SIGKILL)
        if running.wait() == -signal.SIGKILL:
            killed += 1
        else:
            ended += 1  # it was done before: begin again with an empty store
            for path in folder.glob("*.safetensors"):
                path.unlink()
        left_aside += len(list(folder.glob(".*.part")))
        for path in folder.glob(".*.part"):
            path.unlink()
        torn += sum(not whole_segment(path) for path in folder.glob("*.safetensors"))
        kept.append(len(Space(folder, {"kind": kind})))
    before = len(Space(folder, {"kind": kind}))
    same = passed(kind, paths, folder) == whole
    written = sum(len(Segment.open(path)) for path in folder.glob("*.safetensors"))
    return {
        "kills": killed,
        "examples": len(paths),
        "start_up_seconds": round(start_up, 2),
        "examples kept after each kill": kept,
        "passes that ended before their kill": ended,
        "kills in the middle of writing": left_aside,
        "segments that were not whole": torn,
        "kept before the last pass": before,
        "examples written twice": written - len(paths),
        "same bytes": same,
    }


def whole_segment(path: Path) -> bool:
    try:
        return Segment.open(path).sound()
    except ValueError:
        return False


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--kills", type=int, default=50)
    ask.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    ask.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    ask.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "kill_a_pass.json")
    given = ask.parse_args()
    if given.child:
        child(*given.child)
        return
    found: dict[str, Any] = {"seed": given.seed}
    with tempfile.TemporaryDirectory() as place:
        draw(Path(place) / "data", COUNT)
        for kind in ("rows", "tensors"):
            found[kind] = soak(kind, given.kills, given.seed, Path(place))
            print(kind, json.dumps(found[kind]), flush=True)
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    if not all(found[kind]["same bytes"] and not found[kind]["segments that were not whole"] for kind in ("rows", "tensors")):
        raise SystemExit("the bytes differ")


if __name__ == "__main__":
    main()
