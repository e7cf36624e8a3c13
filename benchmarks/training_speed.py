"""Claims, stated before measuring. With the same network, batch and examples on this CPU, in examples a second of training:

1. `--train full` makes at least 1.3 times what transformers' Trainer makes, and at least twice what fastai makes.
2. An epoch of `--train top=1` takes at most a fifth of one of `--train full`.

    REGRAFT_DATA=DIR python benchmarks/training_speed.py [--parts image,text] [--rounds 2]

image: EfficientNet-Lite0, 64 photographs of hymenoptera at 224 pixels. text: MiniLM, 128 questions of TREC-6 (fastai is left out:
it has no such network). Batches of 16, EPOCHS epochs, float32 where nobody says otherwise (regraft may find that bfloat16 is
faster).

What is timed is training alone: start-up, reading the network, the last batch of predictions are not. On the peers' side reading
the examples is part of every epoch; regraft has read them before its first one, or runs the frozen part then: that is shown as
`before`, and its first step, after which it speaks first, is left out. Sides run alternately, each as a whole process on two
threads. Medians; ratios are of those of the same round. CPU seconds stand beside wall seconds, because others use the machine
too; the peers' loader processes are counted when they end. Writes results/training_speed.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from subsets import write

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "training_speed.json"
PEERS_PYTHON = HERE.parent / ".venv-peers" / "bin" / "python"
EPOCHS, BATCH = 2, 16
PARTS = {"image": ("hymenoptera", 64), "text": ("trec6", 128)}
LEAST = {"Trainer": 1.3, "fastai": 2.0, "top=1": 5.0}


def ours(subset, rung, out):
    """Runs in a process of its own: fit, and the seconds between the events of the final training."""
    import time

    import regraft

    spans, began = {}, time.perf_counter()

    def hear(event):
        now = time.perf_counter(), sum(os.times()[:4])
        stage = getattr(event, "stage", "")
        if "training, all examples" in stage:
            spans.setdefault(type(event).__name__, now)

    run = regraft.fit(
        subset,
        train=rung,
        settings={"epochs": EPOCHS, "batch": BATCH},
        threads=2,
        engine="torch",
        out=Path(out).parent / "run",
        on_event=hear,
    )
    (start, used), (end, spent) = spans["Started"], spans["Done"]
    settings = json.loads((run.path / "decisions.json").read_text())["settings"]
    # the first event comes when the first step is done
    said = {"examples": run.result["n"] * EPOCHS - BATCH, "seconds": end - start, "cpu_seconds": spent - used, "before": start - began}
    Path(out).write_text(json.dumps({"training": said, "precision": settings["precision"]}))


def examples(part, data, folder):
    """A subset with so many training examples and a few to test."""
    name, n = PARTS[part]
    truth = write(name, 200, 0, data, folder)
    if part == "image":
        for kind, most in (("train", n // 2), ("test", 2)):
            for label in sorted((folder / kind).iterdir()):
                for path in sorted(label.iterdir())[most:]:
                    path.unlink()
        truth["test"] = [p.parent.name for p in sorted((folder / "test").glob("*/*"))]
    else:
        for kind, most in (("train", n), ("test", 4)):
            file = folder / f"{kind}.csv"
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            file.write_text("".join(lines[: most + 1]), encoding="utf-8")
        truth["test"] = truth["test"][:4]
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def one(side, subset, scratch):
    """What the process of a side says of its training."""
    out = scratch / "out.json"
    peer = [str(PEERS_PYTHON), str(HERE / "peers" / ("fastai_images.py" if side == "fastai" else "trainer.py")), str(subset), str(out)]
    if side in ("Trainer", "fastai"):
        command = [*peer, "--epochs", str(EPOCHS), "--batch", str(BATCH)]
    else:
        command = [sys.executable, __file__, "--ours", str(subset), side, str(out)]
    with tempfile.TemporaryDirectory(dir=scratch) as home:
        env = {**os.environ, "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "REGRAFT_HOME": home}
        load = os.getloadavg()[0]
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    subprocess.run(["rm", "-rf", str(scratch / "run")], check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    said = json.loads(out.read_text())
    training = said["training"]
    return {
        "examples_per_s": round(training["examples"] / training["seconds"], 2),
        "cpu_ms_per_example": round(1000 * training["cpu_seconds"] / training["examples"], 1),
        "load": round(load, 1),
        **({"before": round(training["before"], 1)} if "before" in training else {}),
        **({"precision": said["precision"]} if "precision" in said else {}),
    }


def ratios(rows):
    """What `full` makes against the others, and `top=1` against `full`: by wall and by CPU seconds, medians over the rounds."""
    found = {}
    for other, least in LEAST.items():
        fast, slow = ("top=1", "full") if other == "top=1" else ("full", other)
        pairs = list(zip(rows.get(fast, ()), rows.get(slow, ())))
        if pairs:
            wall = statistics.median(a["examples_per_s"] / b["examples_per_s"] for a, b in pairs)
            cpu = statistics.median(b["cpu_ms_per_example"] / a["cpu_ms_per_example"] for a, b in pairs)
            found[f"{fast} against {slow}"] = {"claimed": least, "by_wall": round(wall, 2), "by_cpu": round(cpu, 2)}
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="image,text")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ours", nargs=3, metavar=("SUBSET", "RUNG", "OUT"), help="one training of regraft, in this process")
    given = parser.parse_args()
    if given.ours:
        return ours(*given.ours)
    if not os.environ.get("REGRAFT_DATA") or not PEERS_PYTHON.exists():
        raise SystemExit("needs REGRAFT_DATA, the folder of data sets, and .venv-peers (make peers): nothing is measured")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in given.parts.split(","):
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            subset = examples(part, Path(os.environ["REGRAFT_DATA"]), scratch / "subset")
            rows = {}
            for _ in range(given.rounds):
                for side in ("Trainer", "full", *(["fastai"] if part == "image" else []), "top=1"):
                    rows.setdefault(side, []).append(one(side, subset, scratch))
                    print(f"{part:6} {side:8} {rows[side][-1]}", flush=True)
                found[part] = {"epochs": EPOCHS, "batch": BATCH, "rounds": rows, "ratios": ratios(rows)}
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        for name, told in found[part]["ratios"].items():
            holds = told["by_wall"] >= told["claimed"]
            print(f"{part:6} {name}: {told['by_wall']} by wall, {told['by_cpu']} by CPU time, claimed {told['claimed']}: {holds}")


if __name__ == "__main__":
    main()
