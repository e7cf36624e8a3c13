"""Claims, stated before measuring. Whole commands from start to finished file, with an empty store and nothing known of the machine,
against the usual way (`usual.py`: the same network and data, torch float32, the frozen part in evaluation mode, run in each of 10 epochs):

1. `regraft fit` (head) of hymenoptera's 244 photographs takes at most 1/8, of 2,000 photographs at most 1/25 of the time.
2. `regraft fit --train "last 1 block, head"` of 2,000 photographs takes at most 1/5.
3. `regraft fit` of 2,000 texts with MiniLM takes at most 1/10; and at most 1/1.5 of sentence-transformers' `encode` with scikit-learn's
   LogisticRegressionCV (`by_hand.py`).

    REGRAFT_DATA=DIR python benchmarks/cut_speed.py [--parts hymenoptera,head,last,text] [--rounds 1] [--engine auto|torch]

Of 2,000 photographs one epoch of the usual way is measured and counted ten times (`epochs_measured`); of the others all are. regraft
does more in its time: five folds, a nested choice, intervals, a model without the network; it reads the test part too where the data
has one. For `last` the trainings that only judge, in five folds, are also taken off (`without_the_folds`): the usual way does not judge.
Beside the whole commands stands the stage alone (what runs over the examples, without start-up, on both sides), and a
second fit with everything stored. Floor: the time to decode and resize the photographs on all cores, and the network's multiply-adds
over the rate of a float32 matrix product here.

Sets: hymenoptera; the first 400 photographs of each class of flowers5; the first 2,000 questions of TREC-6's training part.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
EPOCHS = 10
CLAIMS = {"hymenoptera": 8.0, "head": 25.0, "last": 5.0, "text": 10.0, "text by hand": 1.5}
LAST = "last 1 block, head"


def ran(command: list[str], home: Path) -> tuple[float, dict]:
    """Seconds of a whole process, and the JSON that it printed last."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env={**os.environ, "REGRAFT_HOME": str(home)})
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    text = done.stdout.strip()
    return seconds, json.loads(text if text.startswith("{\n") else text.splitlines()[-1])


def photographs(data: Path, part: str, scratch: Path) -> Path:
    """A folder with train/ that both sides read."""
    if part == "hymenoptera":
        return data / "hymenoptera"
    folder = scratch / "flowers"
    if not folder.is_dir():
        for own in sorted((data / "flowers5").iterdir()):
            (folder / "train" / own.name).mkdir(parents=True)
            for photo in sorted(own.iterdir())[:400]:
                shutil.copy(photo, folder / "train" / own.name)
    return folder


def questions(data: Path, scratch: Path) -> Path:
    """A folder with train.csv and a test.csv of one question, which costs nothing."""
    folder = scratch / "trec"
    if not folder.is_dir():
        folder.mkdir()
        for name, count in (("train.csv", 2000), ("test.csv", 1)):
            with open(data / "text" / "trec6" / name, encoding="utf-8", newline="") as file:
                rows = [(r["text"], r["label"]) for r in csv.DictReader(file)][:count]
            with open(folder / name, "w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *rows])
    return folder


def stages(run: Path) -> dict[str, float]:
    """Seconds of each stage of a run."""
    found: dict[str, float] = {}
    for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "Done":
            found[event["stage"]] = round(found.get(event["stage"], 0.0) + event["seconds"], 2)
    return found


def usual_seconds(kind: str, data: Path, what: str, measured: int, home: Path) -> dict:
    whole, found = ran([str(HERE / "usual.py"), kind, str(data), what, str(measured)], home)
    epochs = found["seconds_of_epochs"]
    rest = (EPOCHS - measured) * statistics.median(epochs)
    return {"seconds": round(whole + rest, 1), "stage": round(sum(epochs) + rest, 1), "counted": measured, "n": found["n"]}


def regraft_seconds(data: Path, options: list[str], out: Path, home: Path) -> dict:
    whole, found = ran(["-m", "regraft", "fit", str(data), *options, "--json", "--out", str(out)], home)
    held = stages(out)
    # the stage alone: everything that computes, without start-up, the choice of an engine and the model without a network
    alone = sum(seconds for name, seconds in held.items() if name != "without the network")
    engine = json.loads((out / "decisions.json").read_text(encoding="utf-8"))["engine"]
    figure = next(iter(found["estimate"].values()))
    return {
        "seconds": round(whole, 1),
        "stage": round(alone, 1),
        "stages": held,
        "engine": f"{engine['name']} {engine['precision']}",
        "accuracy": round(figure["value"], 4),
    }


def floor(folder: Path, count: int) -> dict:
    """What the photographs cost at least here: reading them, and the network's multiply-adds."""
    import numpy as np
    import torch

    from regraft.modality import MODALITIES
    from regraft.pretrained import find_model

    facts = find_model("packaged:efficientnet-lite0")
    image = MODALITIES["image"]
    prepare = image.preparer(facts.preprocessing, {})
    files = sorted(folder.glob("train/*/*"))
    sample = [files[i] for i in np.linspace(0, len(files) - 1, 64).astype(int)]
    begun = time.perf_counter()
    for file in sample:
        prepare(image.load(file).decode())
    cores = len(os.sched_getaffinity(0))
    read = (time.perf_counter() - begun) / len(sample) * count / cores
    torch.set_num_threads(cores)
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(8):
        begun = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - begun)
    rate = 2048**3 / min(times)
    work = 384e6 * count / rate
    return {"reading": round(read, 2), "multiply-adds": round(work, 2), "rate_gmac": round(rate / 1e9, 1), "seconds": round(read + work, 2)}


def measured(part: str, data: Path, scratch: Path, engine: str, number: int) -> dict:
    """One round of a part: the usual way, then regraft from nothing, then again with everything stored."""
    home, out = scratch / f"home-{part}-{number}", scratch / f"run-{part}-{number}"
    options = [] if engine == "auto" else ["--engine", engine]
    if part == "text":
        folder = questions(data, scratch)
        found = {"usual": usual_seconds("text", folder / "train.csv", "head", EPOCHS, home)}
        found["by hand"] = {"seconds": round(ran([str(HERE / "by_hand.py"), "text", str(folder)], home)[0], 1)}
    else:
        folder = photographs(data, part, scratch)
        epochs = EPOCHS if part == "hymenoptera" else 1
        found = {"usual": usual_seconds("image", folder, "last" if part == "last" else "head", epochs, home)}
        options += ["--train", LAST] if part == "last" else []
    found["regraft"] = regraft_seconds(folder, options, out, home)
    found["regraft again"] = regraft_seconds(folder, options, Path(f"{out}-again"), home)
    return found


def table(part: str, rounds: list[dict], folder: Path | None) -> dict:
    middle = lambda side, what: round(statistics.median(r[side][what] for r in rounds), 1)
    ours, usual = middle("regraft", "seconds"), middle("usual", "seconds")
    result = {
        "usual": {"seconds": usual, "stage": middle("usual", "stage"), "epochs_measured": rounds[0]["usual"]["counted"]},
        "regraft": {"seconds": ours, "stage": middle("regraft", "stage"), "engine": rounds[-1]["regraft"]["engine"]},
        "regraft_again": {"seconds": middle("regraft again", "seconds"), "stage": middle("regraft again", "stage")},
        "times": round(usual / ours, 1),
        "times_of_the_stage": round(middle("usual", "stage") / max(0.1, middle("regraft", "stage")), 1),
        "claimed": CLAIMS[part],
        "holds": usual / ours >= CLAIMS[part],
    }
    if part == "text":
        hand = middle("by hand", "seconds")
        result["by_hand"] = {"seconds": hand, "times": round(hand / ours, 2), "holds": hand / ours >= CLAIMS["text by hand"]}
    elif part == "last":
        folds = statistics.median(sum(s for name, s in r["regraft"]["stages"].items() if ", fold " in name) for r in rounds)
        result["without_the_folds"] = {
            "seconds_of_the_folds": round(folds, 1),
            "times": round(usual / (ours - folds), 1),
            "times_of_the_stage": round(middle("usual", "stage") / (middle("regraft", "stage") - folds), 1),
        }
    elif folder is not None:
        least = floor(folder, rounds[0]["usual"]["n"])
        features = statistics.median(r["regraft"]["stages"].get("features", 0.0) for r in rounds)
        result["floor"] = {**least, "features": round(features, 2), "times_the_floor": round(features / least["seconds"], 2)}
    return {**result, "rounds": rounds}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--rounds", type=int, default=1)
    ask.add_argument(
        "--parts", default="hymenoptera,head,last,text", help="those that are measured; the others stay in the file as they are"
    )
    ask.add_argument("--engine", default="auto")
    ask.add_argument("--out", type=Path, default=HERE / "results" / "cut_speed.json")
    given = ask.parse_args()
    if not (root := os.environ.get("REGRAFT_DATA")):
        raise SystemExit("REGRAFT_DATA names no folder with the data sets")
    data = Path(root)
    result: dict = json.loads(given.out.read_text()) if given.out.exists() else {}
    result["cores"] = len(os.sched_getaffinity(0))
    for part in given.parts.split(","):
        before = round(os.getloadavg()[0], 1)
        with tempfile.TemporaryDirectory() as place:
            scratch = Path(place)
            rounds = [measured(part, data, scratch, given.engine, k) for k in range(given.rounds)]
            folder = None if part == "text" else photographs(data, part, scratch)
            key = part if given.engine == "auto" else f"{part}, {given.engine}"
            result[key] = {**table(part, rounds, folder), "load_before": before}
        shown = {k: v for k, v in result[key].items() if k != "rounds"}
        print(json.dumps({key: shown}, indent=2), flush=True)
        given.out.parent.mkdir(exist_ok=True)
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
