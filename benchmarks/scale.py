"""1,000, 10,000 and 100,000 small images and texts: memory, time and disk of fit and predict.

Claim: fit and predict stay under 2 GB resident at 100,000 examples, and time and disk grow linearly: from 10,000 to 100,000 examples
at most 12 times the CPU seconds of fit and of predict and at most 11 times the bytes of the store. (CPU seconds, as other work beside
it stretches the others; the seconds of the pass are told as well.)

Images are 32 x 32 pixels, PNG, ten classes; texts are sentences of made-up words, ten classes. The network of the images is small and
random but gives as many features as EfficientNet-Lite0 (small_network.py): what is measured is everything around it, and Lite0 would
take 35 minutes a pass. That of the texts is use-multilingual-v3. Each size runs in processes of its own: `regraft fit` (cold, one new
store each), then `regraft predict` on the same examples. Peak memory is the kernel's (ru_maxrss of the child).

    python benchmarks/scale.py [--kind image text] [--sizes 1000 10000 100000] [--out benchmarks/results/scale.json]

A kind and size that the results hold already is not run again (--again runs all).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent

LIMIT_MB = 2048

MODELS = {"image": ["--model", "small_network:small", "--allow-code"], "text": ["--model", "use-multilingual-v3"]}


def draw_images(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    centres = rng.integers(40, 215, (10, 4, 4, 3))
    for c in range(10):
        (folder / f"class{c}").mkdir(parents=True)
        for i in range(count // 10):
            small = np.clip(centres[c] + rng.normal(0, 45, (4, 4, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"class{c}" / f"{i}.png")
    return folder


def draw_texts(folder: Path, count: int) -> Path:
    rng = random.Random(0)
    words = ["".join(rng.choice("bcdfglmnprst") + rng.choice("aeiou") for _ in range(rng.randint(1, 4))) for _ in range(3000)]
    own = [rng.sample(words, 60) for _ in range(10)]
    folder.mkdir(parents=True)
    with open(folder / "texts.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(count):
            c = i % 10
            # the number makes every text another one
            chosen = [rng.choice(own[c]) if rng.random() < 0.25 else rng.choice(words) for _ in range(rng.randint(5, 14))]
            writer.writerow([" ".join([*chosen, str(i)]), f"class{c}"])
    return folder / "texts.csv"


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "REGRAFT_HOME": str(home), "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}


def run(arguments: list[str], home: Path) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak MB of a command; RuntimeError when it fails."""
    start = time.perf_counter()
    with open(os.devnull, "w") as nothing, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen([sys.executable, "-m", "regraft", *arguments], env=environment(home), stdout=nothing, stderr=errors)
        _, status, used = os.wait4(child.pid, 0)
        if status:
            errors.seek(0)
            raise RuntimeError(f"{arguments}: {errors.read()[-2000:]}")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def measure(kind: str, count: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        data = (draw_images if kind == "image" else draw_texts)(base / "data", count)
        home, out = base / "home", base / "run"
        fit = run(["fit", str(data), *MODELS[kind], "--out", str(out), "--json"], home)
        result = json.loads((out / "run.json").read_text())
        store = sum(p.stat().st_size for p in home.rglob("*") if p.is_file())
        predict = run(["predict", str(out), str(data), "--csv", *MODELS[kind][2:]], home)
    return {
        "fit": fit,
        "pass_seconds": result["costs"]["seconds of features"]["measured"],
        "predict": predict,
        "store_bytes": store,
        "accuracy": result["estimate"]["accuracy"]["value"],
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--kind", nargs="+", default=["text", "image"], choices=["text", "image"])
    ask.add_argument("--sizes", nargs="+", type=int, default=[1000, 10_000, 100_000])
    ask.add_argument("--again", action="store_true")
    ask.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    given = ask.parse_args()
    held = json.loads(given.out.read_text()) if given.out.exists() and not given.again else {"cells": {}}
    for kind in given.kind:
        for count in given.sizes:
            if f"{kind} {count}" not in held["cells"]:
                held["cells"][f"{kind} {count}"] = measure(kind, count)
                write(given.out, held)
                print(kind, count, json.dumps(held["cells"][f"{kind} {count}"]), flush=True)
    write(given.out, held)
    print(json.dumps(held["claims"], indent=2))


def write(path: Path, held: dict) -> None:
    cells, claims = held["cells"], {}
    for kind in ("text", "image"):
        large, middle = cells.get(f"{kind} 100000"), cells.get(f"{kind} 10000")
        if large:
            claims[f"{kind}: under 2 GB"] = max(large["fit"]["peak_mb"], large["predict"]["peak_mb"]) < LIMIT_MB
        if large and middle:
            for verb in ("fit", "predict"):
                ratio = large[verb]["cpu_seconds"] / middle[verb]["cpu_seconds"]
                claims[f"{kind}: CPU seconds of {verb}, 10 times the examples"] = round(ratio, 2)
            claims[f"{kind}: seconds of the pass, 10 times the examples"] = round(large["pass_seconds"] / middle["pass_seconds"], 2)
            claims[f"{kind}: bytes of the store, 10 times the examples"] = round(large["store_bytes"] / middle["store_bytes"], 2)
    held["claims"] = claims
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    main()
