"""The examples that every side of a benchmark gets: fixed training subsets and test parts, written as folders that all sides read.

    REGRAFT_DATA=DIR python benchmarks/subsets.py SET N SEED OUT

    image   OUT/train/CLASS/ and OUT/test/CLASS/          text   OUT/train.csv and OUT/test.csv: text,label
    audio   OUT/fsdd.csv: path,digit,speaker,split, and the recordings

Beside them `truth.json`: kind, the test examples' labels in order (classes and names sorted; rows of a table as they stand), and a
sha256 of the names and contents of every example, which stands in the results. The seed draws the training examples; the test part
does not depend on it, nor on N. Nothing here imports regraft.

Which examples. Contents that come twice in a set are left out where no test part is given (flowers5 has pairs of two labels), and
training examples that also stand in a given test part (11 of trec6). `each` classes get the same number, one more by chance where
N does not divide.

hymenoptera  from N = 200 on all 244 (the seed changes nothing); its val/ tests (153)
flowers5     100 of each class held out by a fixed seed (500)
cifar10      50 of each class of its test part (500)
omniglot     40 of its 136 letters, 5 of each one's 20 drawings held out (200); 600 drawings are left: that is its largest N
trec6        drawn as they come, 5 of a class at least; its test part (500). Below N = 200 the same of each class
banking77    N = 200: 40 of its classes, 5 of each; else all 77. 10 of each class of its test part (400, 770)
subj         250 of each class held out by a fixed seed (500)
fsdd         its official parts (300 to test; the same speakers are in both)
"""

import csv
import hashlib
import json
import os
import random
import shutil
import sys
from collections import Counter, defaultdict
from pathlib import Path

IMAGES, TEXTS, SOUNDS = ("hymenoptera", "flowers5", "cifar10", "omniglot"), ("trec6", "banking77", "subj"), ("fsdd",)
LEAST = 5
"""Of a class in the training part: five-fold cross-validation needs them."""


def by_class(rows):
    found = defaultdict(list)
    for row in rows:
        found[row[-1]].append(row)
    return {label: found[label] for label in sorted(found)}


def each(rows, n, seed):
    """`n` rows, the same number of every class; where that leaves a rest, one more of classes drawn by chance."""
    chance, groups = random.Random(seed), by_class(rows)
    more = set(chance.sample(sorted(groups), n % len(groups)))
    taken = [row for label, group in groups.items() for row in chance.sample(group, n // len(groups) + (label in more))]
    chance.shuffle(taken)
    return taken


def as_they_come(rows, n, seed):
    """`n` rows by chance, LEAST of a class at least."""
    chance = random.Random(seed)
    first = [row for group in by_class(rows).values() for row in chance.sample(group, LEAST)]
    rest = [row for row in rows if row not in set(first)]
    taken = first + chance.sample(rest, n - len(first))
    chance.shuffle(taken)
    return taken


def files(folder):
    return [(path, path.parent.name) for path in sorted(folder.glob("*/*")) if path.is_file()]


def content(row):
    return row[0].read_bytes() if isinstance(row[0], Path) else " ".join(row[0].split()).encode()


def alone(rows):
    """Those whose content comes once."""
    seen = Counter(content(row) for row in rows)
    return [row for row in rows if seen[content(row)] == 1]


def without(rows, others):
    known = {content(row) for row in others}
    return [row for row in rows if content(row) not in known]


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def held_out(rows, per_class):
    """(the rest, the held-out ones), by a fixed seed."""
    rows = alone(rows)
    test = each(rows, per_class * len(by_class(rows)), "held out")
    known = set(test)
    return [row for row in rows if row not in known], test


def drawn(name, n, seed, data):
    """(training rows, test rows): the input first, the label last."""
    if name == "hymenoptera":
        train, test = files(data / name / "train"), files(data / name / "val")
        return train if n >= 200 else each(train, n, seed), test
    if name == "flowers5":
        train, test = held_out(files(data / name), 100)
    elif name == "cifar10":
        test = each(files(data / name / "test"), 500, "test")
        train = without(files(data / name / "train"), test)
    elif name == "omniglot":
        letters = random.Random("letters").sample(sorted(p.name for p in (data / name).iterdir() if p.is_dir()), 40)
        train, test = held_out([row for row in files(data / name) if row[1] in set(letters)], 5)
    elif name == "trec6":
        test = table(data / "text" / name / "test.csv")
        train = without(table(data / "text" / name / "train.csv"), test)
        return (each if n < 200 else as_they_come)(sorted(set(train)), n, seed), test
    elif name == "banking77":
        train, test = (table(data / "text" / name / f"{part}.csv") for part in ("train", "test"))
        labels = sorted({label for _, label in train})
        labels = set(random.Random("intents").sample(labels, 40) if n <= 200 else labels)
        train, test = ([row for row in rows if row[1] in labels] for rows in (train, test))
        test = each(test, 10 * len(labels), "test")
        train = without(train, test)
    elif name == "subj":
        train, test = held_out(table(data / "text" / name / "all.csv"), 250)
    else:
        with open(data / name / "fsdd.csv", encoding="utf-8", newline="") as file:
            rows = [(data / name / r["path"], r["speaker"], r["split"], r["digit"]) for r in csv.DictReader(file)]
        train, test = ([row for row in rows if row[2] == part] for part in ("train", "test"))
    return each(train, n, seed), test


def write(name, n, seed, data, out):
    """Write the subset below `out` unless it is there, and return what truth.json says."""
    if (out / "truth.json").is_file():
        return json.loads((out / "truth.json").read_text())
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    train, test = drawn(name, n, seed, data)
    kind = "image" if name in IMAGES else "text" if name in TEXTS else "audio"
    if kind == "image":
        test.sort(key=lambda row: (row[1], row[0].name))
    for part, rows in (("train", train), ("test", test)):
        if kind == "image":
            for path, label in rows:
                (out / part / label).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, out / part / label / path.name)
        elif kind == "text":
            with open(out / f"{part}.csv", "w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *rows])
    if kind == "audio":
        with open(out / "fsdd.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(("path", "digit", "speaker", "split"))
            for path, speaker, part, digit in [*train, *test]:
                shutil.copy(path, out / path.name)
                csv.writer(file).writerow((path.name, digit, speaker, part))
    said = hashlib.sha256()
    for rows in (train, test):
        for row in sorted(rows, key=lambda row: (row[-1], content(row))):
            said.update(hashlib.sha256(content(row)).digest() + row[-1].encode() + b"\0")
    truth = {"kind": kind, "train": len(train), "test": [row[-1] for row in test], "sha256": said.hexdigest()}
    (out / "truth.json").write_text(json.dumps(truth) + "\n")
    return truth


if __name__ == "__main__":
    if len(sys.argv) != 5 or not os.environ.get("REGRAFT_DATA"):
        raise SystemExit(__doc__)
    name, n, seed, out = sys.argv[1:]
    truth = write(name, int(n), int(seed), Path(os.environ["REGRAFT_DATA"]), Path(out))
    print(f"{name}: {truth['train']} to train on, {len(truth['test'])} to test on, sha256 {truth['sha256']}")
