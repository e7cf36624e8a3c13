"""Claims, stated before measuring. `regraft inspect DATA --model` is given 300 training examples (banking77: 385, five a class) and 150
test examples of real sets, with the packaged networks. Into them are planted

    near-copies   PLANTED of a kind and seed, each of another training example, in turn into the training and into the test part
    wrong labels  5 % of the training labels, changed to another class by chance

1. Photographs (hymenoptera, flowers5): of each kind of copy at least 90 % are found.
2. Small pictures (cifar10, omniglot): at least 80 % of all kinds together.
3. Texts: other case and other punctuation at least 90 %; a slip of the pen, two words exchanged, a word more and a word less at least half.
4. Sounds: louder or softer at least 90 %; noise, silence before and a cut end at least half.
5. In the training or the test part: a copy is found as often (within 10 points, all together).
6. What is found besides, without planting: groups of at most 1 % of the examples.
7. Labels: of those named at least 70 % were changed; of the changed at least a third is named; without changes at most 1 % of the examples
   are named. All sets together.

What came out is in docs/inspect.md.

    REGRAFT_DATA=DIR python benchmarks/judgement/trust.py [--only REGEX] [--minutes M] [--out benchmarks/results/trust.json]
    python benchmarks/judgement/trust.py --table

A cell (set, seed) is a subset of benchmarks/subsets.py of that seed, looked at three times: as it is, with copies, with changed labels.
Each look is the one of `inspect`, without depths, similarity and learning curve. Of hymenoptera the training subset is the same for every
seed (all 244). Cells that are there are skipped; after M minutes none is begun. What is found in a set as it is goes to the screen, to
be looked at. One thread. Features stay in the store (REGRAFT_HOME).
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import sys
import tempfile
import time
import wave
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cells import grid, keep, read  # noqa: E402
from subsets import IMAGES, SOUNDS, TEXTS, write  # noqa: E402

RESULTS = HERE.parent / "results" / "trust.json"
SIZES = {"banking77": 385}
N, TEST, PLANTED, CHANGED = 300, 150, 12, 0.05
SEEDS = (0, 1, 2)
CHECKS = ("near_duplicates", "suspicious_labels")


# kinds of copies: an example -> the same a little otherwise; of images and sounds into a file


def picture(change, *, jpeg=False):
    """JPEG of lower quality where asked; else the format of what is copied, JPEG with little loss."""

    def copied(path, to, chance):
        with Image.open(path) as image:
            changed = change(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        to = to.with_suffix(".jpg") if jpeg else to
        changed.save(to, **({"quality": 50 if jpeg else 90} if to.suffix == ".jpg" else {}))
        return to

    return copied


def smaller(image):
    return image.resize([max(1, round(0.7 * side)) for side in image.size], Image.Resampling.LANCZOS)


def cropped(image, part=0.05):
    width, height = image.size
    return image.crop((round(part * width), round(part * height), round((1 - part) * width), round((1 - part) * height)))


PICTURES = {
    "saved again": picture(lambda image: image, jpeg=True),
    "smaller": picture(smaller),
    "cropped": picture(cropped),
    "brighter": picture(lambda image: ImageEnhance.Brightness(image).enhance(1.25)),
    "mirrored": picture(ImageOps.mirror),
}


def sound(change):
    def copied(path, to, chance):
        with wave.open(str(path)) as file:
            shape, samples = file.getparams(), np.frombuffer(file.readframes(file.getnframes()), np.int16)
        changed = change(samples.astype(np.float64), shape.framerate, np.random.default_rng(chance.getrandbits(32)))
        with wave.open(str(to), "wb") as file:
            file.setparams(shape)
            file.writeframes(changed.round().clip(-32768, 32767).astype(np.int16).tobytes())
        return to

    return copied


def noisy(samples, rate, chance, decibels=20):
    return samples + chance.normal(size=len(samples)) * samples.std() * 10 ** (-decibels / 20)


RECORDINGS = {
    "softer": sound(lambda samples, rate, chance: 0.5 * samples),
    "noise": sound(noisy),
    "silence before": sound(lambda samples, rate, chance: np.concatenate([np.zeros(rate // 20), samples])),
    "cut end": sound(lambda samples, rate, chance: samples[: -rate // 20]),
}


def slip(words, chance):
    """Two neighbouring letters of a word of four or more have changed places."""
    places = [
        k for k, word in enumerate(words) if len(word) > 3 and any(a.lower() != b.lower() for a, b in zip(word, word[1:], strict=False))
    ]
    if not places:
        return None
    k = chance.choice(places)
    word = words[k]
    i = chance.choice([i for i in range(len(word) - 1) if word[i].lower() != word[i + 1].lower()])
    return [*words[:k], word[:i] + word[i + 1] + word[i] + word[i + 2 :], *words[k + 1 :]]


def exchanged(words, chance):
    places = [k for k in range(len(words) - 1) if words[k].lower() != words[k + 1].lower()]
    if not places:
        return None
    k = chance.choice(places)
    return [*words[:k], words[k + 1], words[k], *words[k + 2 :]]


def less(words, chance):
    k = chance.randrange(len(words))
    return [*words[:k], *words[k + 1 :]] if len(words) > 2 else None


def other_points(words, chance):
    plain = [w for word in words if (w := word.strip(".,?!;:"))]
    return [*plain[:-1], plain[-1] + " !"] if plain else None


def other_case(words, chance):
    return [word.swapcase() for word in words]


WRITINGS = {
    "case": other_case,
    "punctuation": other_points,
    "slip of the pen": slip,
    "word more": lambda words, chance: ["Please", *words],
    "word less": less,
    "words exchanged": exchanged,
}


def kinds_of(name):
    return PICTURES if name in IMAGES else RECORDINGS if name in SOUNDS else WRITINGS


# the subset as rows of a table, and what is planted into them


def subset(name, seed, data, folder):
    """(input, label, part) of the training examples and TEST test examples; inputs are texts, or paths below `folder`."""
    write(name, SIZES.get(name, N), seed, data, folder)
    if name in IMAGES:
        parts = {
            part: [(str(p.relative_to(folder)), p.parent.name) for p in sorted((folder / part).glob("*/*"))] for part in ("train", "test")
        }
    elif name in TEXTS:
        parts = {}
        for part in ("train", "test"):
            with open(folder / f"{part}.csv", encoding="utf-8", newline="") as file:
                parts[part] = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    else:
        with open(folder / "fsdd.csv", encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        parts = {part: [(row["path"], row["digit"]) for row in found if row["split"] == part] for part in ("train", "test")}
    some = [int(k) for k in np.linspace(0, len(parts["test"]) - 1, min(TEST, len(parts["test"])))]
    test = [parts["test"][k] for k in some]
    return [(*row, "train") for row in parts["train"]] + [(*row, "test") for row in test]


def copies(name, rows, seed, folder):
    """Rows of copies, and of each (its kind, the place of what it is a copy of)."""
    chance, kinds = random.Random(f"copies {seed}"), kinds_of(name)
    places = [k for k, row in enumerate(rows) if row[2] == "train"]
    chance.shuffle(places)
    planted, known = [], []
    for kind, make in kinds.items():
        count = 0
        while count < PLANTED:
            k = places.pop()
            made = make_one(name, make, rows[k][0], folder, f"{kind} {count}", chance)
            if made is None or made == rows[k][0]:
                continue
            planted.append((made, rows[k][1], ("train", "test")[count % 2]))
            known.append((kind, k))
            count += 1
    return planted, known


def make_one(name, make, source, folder, called, chance):
    if name in TEXTS:
        words = make(source.split(), chance)
        return None if words is None else " ".join(words)
    (folder / "copies").mkdir(exist_ok=True)
    made = make(folder / source, folder / "copies" / (called.replace(" ", "_") + Path(source).suffix.lower()), chance)
    return str(made.relative_to(folder))


def changed(rows, seed):
    """Rows with other labels, and the places of those that were changed."""
    chance = random.Random(f"labels {seed}")
    train = [k for k, row in enumerate(rows) if row[2] == "train"]
    places = set(chance.sample(train, round(CHANGED * len(train))))
    labels = sorted({row[1] for row in rows})
    return [(i, chance.choice([x for x in labels if x != y]) if k in places else y, part) for k, (i, y, part) in enumerate(rows)], places


# a look, by the code of `inspect`


def look(name, rows, folder):
    """(findings by check, listings with places in `rows` for names)."""
    from regraft.evaluation import trust
    from regraft.events import silent
    from regraft.jobs.evidence import Asked, look_at_data
    from regraft.jobs.labelled import open_labelled
    from regraft.spec import FitSpec

    path = folder / "data.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("input", "label", "split"), *rows])
    task = "image" if name in IMAGES else "text" if name in TEXTS else "audio"
    labelled = open_labelled(FitSpec(data=str(path), task=task, input="input", label="label", target="class"), path, None)
    examples = labelled.dataset.examples
    assert len(examples) == len(rows), labelled.dataset.left_out
    place = {e.name: k for k, e in enumerate(examples)}
    assert len(place) == len(rows), "every example has a name of its own"
    with mock.patch.dict(trust.CHECKS, {k: trust.CHECKS[k] for k in CHECKS}, clear=True):
        findings, listings = look_at_data(labelled, Asked(None, threads=1, depths=False), silent)
    told = {k: [dict(zip(v.columns, row, strict=True)) for row in v.rows] for k, v in listings.items()}
    return findings, {k: [{**row, "place": place[row["name"]]} for row in v] for k, v in told.items()}


def groups_of(listing):
    """Place -> number of its group of near-duplicates."""
    return {row["place"]: row["group"] for row in listing["near_duplicates"]}


def named_in(listing):
    return {row["place"] for row in listing["suspicious_labels"] if row["named"]}


def measure(name, seed, data):
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = subset(name, seed, data, folder)
        train = sum(row[2] == "train" for row in rows)
        found, listing = look(name, rows, folder)
        alone = groups_of(listing)
        say(name, seed, rows, alone, listing)
        cell = {
            "set": name,
            "seed": seed,
            "train": train,
            "test": len(rows) - train,
            "network": found["model"],
            "accuracy": round(found["metrics"]["accuracy"]["value"], 4),
            "as it is": {
                "groups": len(set(alone.values())),
                "examples": len(alone),
                "close": found["near_duplicates"]["candidates"],
                "named": len(named_in(listing)),
            },
        }
        planted, known = copies(name, rows, seed, folder)
        found, listing = look(name, [*rows, *planted], folder)
        cell["copies"] = copies_found(groups_of(listing), alone, rows, planted, known) | {"close": found["near_duplicates"]["candidates"]}
        other, places = changed(rows, seed)
        _, listing = look(name, other, folder)
        named = named_in(listing)
        cell["labels"] = {"changed": len(places), "named": len(named), "right": len(named & places)}
    return {**cell, "cpu_seconds": round(time.process_time() - begun, 1)}


def copies_found(groups, alone, rows, planted, known):
    """By kind and part how many are in one group with what they are copies of, of how many; and how many groups join others than that and
    what is in a group without planting too.
    """
    told: dict[str, dict[str, list[int]]] = {}
    for number, (kind, original) in enumerate(known):
        own = told.setdefault(kind, {"train": [0, 0], "test": [0, 0]})[planted[number][2]]
        k = len(rows) + number
        own[0] += k in groups and groups.get(original) == groups[k]
        own[1] += 1
    root = lambda k: known[k - len(rows)][1] if k >= len(rows) else k
    together: dict[str, set] = {}
    for k, group in groups.items():
        together.setdefault(group, set()).add(alone.get(root(k), f"alone {root(k)}"))
    return {"kinds": told, "other groups": sum(len(own) > 1 for own in together.values())}


def say(name, seed, rows, alone, listing):
    """What is found in a set as it is, for people."""
    for group, _ in Counter(alone.values()).most_common():
        members = [k for k, own in alone.items() if own == group]
        print(name, seed, "alike:", "; ".join(f"{rows[k][0][:90]} ({rows[k][1]}, {rows[k][2]})" for k in members), flush=True)
    for row in listing["suspicious_labels"]:
        if row["named"]:
            print(name, seed, "named:", rows[row["place"]][0][:90], rows[row["place"]][1], "rather", row["suggested"], flush=True)


# the tables


def part_of(found, of):
    return f"{found / of:.2f}" if of else ""


def table(cells):
    sets = [name for name in (*IMAGES, *TEXTS, *SOUNDS) if any(c["set"] == name for c in cells.values())]
    own = {name: [c for c in cells.values() if c["set"] == name] for name in sets}
    lines = []
    for title, names in (("pictures", IMAGES), ("texts", TEXTS), ("sounds", SOUNDS)):
        if there := [name for name in names if name in own]:
            lines += [f"{title}: part of the planted copies found", "", *copies_table(there, own)]
    lines += ["part found, by where the copy is:", "", *parts_table(own), "labels, 5 % changed", "", *labels_table(own)]
    spent = sum(c["cpu_seconds"] for c in cells.values())
    return "\n".join([*lines, f"{len(cells)} cells, {spent:.0f} s of the processor, one thread"])


def copies_table(names, own):
    kinds = list(kinds_of(names[0]))
    rows = []
    for name in names:
        cells = own[name]
        found = []
        for kind in kinds:
            counts = [c["copies"]["kinds"][kind][part] for c in cells for part in ("train", "test")]
            found.append(part_of(sum(n for n, _ in counts), sum(of for _, of in counts)))
        alone = [c["as it is"] for c in cells]
        rows.append(
            [
                name,
                f"{cells[0]['train']} and {cells[0]['test']}",
                *found,
                ", ".join(str(a["groups"]) for a in alone),
                ", ".join(str(c["copies"]["other groups"]) for c in cells),
                ", ".join(str(a["close"]) for a in alone),
            ]
        )
    head = ["set", "examples", *kinds, "groups in the set itself", "other groups with copies", "close pairs compared"]
    return grid(head, rows)


def parts_table(own):
    rows = []
    for name, cells in own.items():
        sums = {part: np.sum([c["copies"]["kinds"][k][part] for c in cells for k in c["copies"]["kinds"]], 0) for part in ("train", "test")}
        rows.append([name, *(part_of(*sums[part]) for part in ("train", "test"))])
    return grid(["set", "within the training part", "across the split"], rows)


def labels_table(own):
    rows, whole = [], np.zeros(5)
    for name, cells in own.items():
        sums = [sum(c["labels"][k] for c in cells) for k in ("changed", "named", "right")]
        alone = sum(c["as it is"]["named"] for c in cells)
        wrong = 1 - np.mean([c["accuracy"] for c in cells])
        whole += [*sums, alone, sum(c["train"] for c in cells)]
        rows.append(
            [name, f"{100 * wrong:.0f} %", str(alone), str(sums[0]), str(sums[1]), part_of(sums[2], sums[1]), part_of(sums[2], sums[0])]
        )
    of, named, right, alone, n = whole
    rows.append(["all", "", f"{alone:.0f} of {n:.0f}", f"{of:.0f}", f"{named:.0f}", part_of(right, named), part_of(right, of)])
    return grid(["set", "wrong predictions", "as it is: named", "changed", "named", "of these changed", "of the changed, named"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    held, end = read(given.out), time.monotonic() + 60 * given.minutes
    if given.table:
        print(table(held))
        raise SystemExit
    for seed in SEEDS:
        for name in (*IMAGES, *TEXTS, *SOUNDS):
            key = f"{name} / {seed}"
            if key in held or not re.search(given.only, key) or time.monotonic() > end:
                continue
            held[key] = measure(name, seed, Path(os.environ["REGRAFT_DATA"]))
            keep(given.out, held)
            print(key, held[key]["copies"], held[key]["labels"], held[key]["cpu_seconds"], flush=True)
