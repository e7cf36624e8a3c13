"""A pass that is killed fifty times at random, then finished: are the bytes those of an undisturbed one?

Claims: after every kill what the store holds is whole (every segment opens, and its checksum fits); what the finished pass gives, window
by window, and what training would read has the bytes of an undisturbed pass; nothing that was written before a kill is computed again.
Once for rows of features, once for tensors at a cut (two of each window, windows of several lengths).

Each pass is a process of its own, forked from one that has imported everything. It takes half a minute when nobody disturbs it and
writes to the store many times a second. It is sent SIGKILL up to a second after its first tile ran, at random; every second one as soon as
it is seen writing a file, if that comes first.

    python benchmarks/soak/kill_a_pass.py [--kills 50] [--seed N] [--out benchmarks/results/kill_a_pass.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
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
COUNT = 4000
KINDS = ("rows", "tensors")


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

    def __init__(self, rows: bool, seconds: float, begun: int | None = None) -> None:
        self.begun = begun
        torch.manual_seed(0)
        self.layer, self.rows, self.seconds = torch.nn.Conv1d(1, 64, 9, padding=4), rows, seconds

    def __call__(self, windows: Sequence[Any]) -> Any:
        filled = [*windows, *[windows[0]] * (TILE - len(windows))]
        if self.begun is not None:
            os.write(self.begun, b".")
        time.sleep(self.seconds)
        with torch.no_grad():
            found = torch.tanh(self.layer(torch.from_numpy(np.stack([w["x"] for w in filled])))).numpy()
        return found.mean(2)[: len(windows)] if self.rows else [{"0": f, "1": f[:1] > 0} for f in found]


def passed(kind: str, paths: Sequence[Path], folder: Path, seconds: float = 0.0, begun: int | None = None) -> str:
    """A hash of everything that the pass gives."""
    names, texts, space = [p.name for p in paths], MODALITIES["text"], Space(folder, {"kind": kind}, needed=True)
    digest = hashlib.sha256()
    if kind == "rows":
        found = extract(names, paths, texts, lambda: Trunk(True, seconds, begun), prepare, space)
        digest.update(found.features.tobytes() + b"".join(found.identities))
    else:
        given = gather(names, paths, texts, prepare, space, trunk=Trunk(False, seconds, begun), tile=TILE)
        digest.update(given.example.tobytes() + given.share.tobytes() + given.kind.tobytes())
        for window in range(len(given.example)):
            digest.update(b"".join(array.tobytes() for array in given.read(np.array([window])).values()))
    return digest.hexdigest()


def begun(kind: str, paths: Sequence[Path], folder: Path) -> int:
    """The process of a pass that writes often and takes its time, once its first tile runs."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            material.FLUSH_BYTES = 1 << 16
            sys.modules["regraft.features.extract"].FLUSH_ROWS = 8  # type: ignore[attr-defined]
            passed(kind, paths, folder, 0.08, write)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    return process


def kill(kind: str, kills: int, seed: int, base: Path) -> dict[str, Any]:
    """One pass after another over the same store, each killed."""
    rng = random.Random(f"{seed} {kind}")
    paths, folder = sorted((base / "data").iterdir()), base / kind
    ended, left_aside, torn, kept = 0, 0, 0, list[int]()
    while len(kept) < kills:
        process = begun(kind, paths, folder)
        end = time.monotonic() + rng.uniform(0, 1)
        while time.monotonic() < end and not (len(kept) % 2 and list(folder.glob(".*.part"))):
            time.sleep(0.0005)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            ended += 1
            for path in folder.glob("*.safetensors"):
                path.unlink()  # nothing was left to do: from the beginning
            continue
        aside = list(folder.glob(".*.part"))
        left_aside += bool(aside)
        for path in aside:  # the store itself leaves them for an hour: they may be another process's
            path.unlink()
        torn += sum(not whole_segment(path) for path in folder.glob("*.safetensors"))
        kept.append(len(Space(folder, {"kind": kind})))
    return {
        "kills": len(kept),
        "examples": len(paths),
        "examples kept after each kill": kept,
        "passes that ended before their kill": ended,
        "kills in the middle of writing a file": left_aside,
        "segments that were not whole": torn,
    }


def finish(kind: str, base: Path) -> dict[str, Any]:
    """The last pass, which nobody kills, beside one that never was."""
    paths, folder = sorted((base / "data").iterdir()), base / kind
    whole = passed(kind, paths, base / f"{kind} undisturbed")
    same = passed(kind, paths, folder) == whole
    written = sum(len(Segment.open(path)) for path in folder.glob("*.safetensors"))
    return {"examples written twice": written - len(paths), "same bytes": same}


def whole_segment(path: Path) -> bool:
    try:
        return Segment.open(path).sound()
    except ValueError:
        return False


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--kills", type=int, default=50)
    ask.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    ask.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "kill_a_pass.json")
    given = ask.parse_args()
    found: dict[str, Any] = {"seed": given.seed}
    with tempfile.TemporaryDirectory() as place:
        os.environ["REGRAFT_HOME"] = str(Path(place) / "home")
        draw(Path(place) / "data", COUNT)
        # nothing is computed in this process before the last kill: a forked one would lack the threads that PyTorch had started
        for kind in KINDS:
            found[kind] = kill(kind, given.kills, given.seed, Path(place))
        for kind in KINDS:
            found[kind] |= finish(kind, Path(place))
            print(kind, json.dumps(found[kind]), flush=True)
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    if not all(found[kind]["same bytes"] and not found[kind]["segments that were not whole"] for kind in KINDS):
        raise SystemExit("the bytes differ")


if __name__ == "__main__":
    main()
