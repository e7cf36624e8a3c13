"""The main job on real examples: pictures first, then texts. `make demo` runs this; it can be run again at any time.

Both data sets come inside packages that the demo installs anyway, so nothing is downloaded:

- handwritten digits: scikit-learn's copy of 1,797 scans of 8 x 8 pixels (E. Alpaydin and C. Kaynak, "Optical Recognition of
  Handwritten Digits", UCI Machine Learning Repository, 1998);
- definitions from WordNet 3.0 (Princeton University, 2006), in the list of ImageNet's words that timm carries. WordNet numbers
  its nouns by subject, so the number of an entry tells whether it is an animal, a plant, a food or an artefact.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path("demo-data")
"""Everything that the demo writes but the feature store, relative to the project's root."""

DEFINITIONS = "data/_info/imagenet_synset_to_definition.txt"
SUBJECTS = {
    "animal": (1_330_000, 2_650_000),
    "artefact": (2_690_000, 4_610_000),
    "food": (7_556_500, 7_937_000),
    "plant": (11_550_000, 13_130_000),
}
"""Numbers of WordNet 3.0 nouns, well inside each subject."""

SENTENCES = ("a large bird that cannot fly", "a soup of beetroot and cabbage", "what I use to cut wire")


def write_digits(folder: Path, train: int, test: int) -> list[Path]:
    """PNG files in train/0 ... test/9, black on white, each digit with a margin of paper. Returns those for testing."""
    import numpy as np
    from PIL import Image, ImageOps
    from sklearn.datasets import load_digits

    digits = load_digits()
    held: list[Path] = []
    for digit in range(10):
        chosen = np.random.default_rng(digit).permutation(np.flatnonzero(digits.target == digit))[: train + test]
        for k, i in enumerate(chosen.tolist()):
            path = folder / ("train" if k < train else "test") / str(digit) / f"scan-{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = (255 - digits.images[i] * (255 / 16)).round().astype(np.uint8)
            image = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
            ImageOps.expand(image, border=16, fill=255).save(path)
            if k >= train:
                held.append(path)
    return held


def write_definitions(folder: Path, train: int, test: int) -> None:
    """train.csv and test.csv with the columns text and label."""
    spec = importlib.util.find_spec("timm")
    assert spec is not None and spec.submodule_search_locations, "timm is not installed: make demo installs it"
    lines = Path(spec.submodule_search_locations[0], DEFINITIONS).read_text(encoding="utf-8").splitlines()
    entries = [line.split("\t", 1) for line in lines if "\t" in line]
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for subject, (first, last) in SUBJECTS.items():
        texts = sorted({text for number, text in entries if first <= int(number[1:]) <= last})
        chosen = random.Random(subject).sample(texts, train + test)  # noqa: S311 - a fixed sample, not a secret
        parts["train"] += [(text, subject) for text in chosen[:train]]
        parts["test"] += [(text, subject) for text in chosen[train:]]
    folder.mkdir(parents=True)
    for name, rows in parts.items():
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])


def say(text: str = "") -> None:
    """A line, in its place among the lines of the commands."""
    print(text, flush=True)  # noqa: T201


def regraft(*words: str) -> None:
    """Run the command line as a person would, and show what was typed."""
    say(f"\n$ regraft {' '.join(words)}")
    done = subprocess.run([sys.executable, "-m", "regraft", *words], cwd=ROOT, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Write the examples, fit, predict, say what to do next."""
    begun = time.perf_counter()
    for name in ("digits", "definitions", "runs"):
        shutil.rmtree(ROOT / DATA / name, ignore_errors=True)

    say("PICTURES: 450 scans of handwritten digits, 8 x 8 pixels each, shown larger")
    say("  from scikit-learn; Alpaydin and Kaynak 1998, UCI Machine Learning Repository")
    say(f"  {DATA}/digits/train: 30 of each digit; {DATA}/digits/test: 15 of each, not looked at while choosing")
    held = write_digits(ROOT / DATA / "digits", 30, 15)
    regraft("fit", f"{DATA}/digits", "--out", f"{DATA}/runs/digits")
    say("\nThe network was trained on photographs, and so small a scan is far from a photograph. Compare its accuracy above")
    say("with the line 'accuracy without the network': regraft always tries the simple way too, and says which was better.")
    say("\nThree scans of the test part (the folder's name is the true digit):")
    regraft("predict", f"{DATA}/runs/digits", *(held[k].relative_to(ROOT).as_posix() for k in (33, 64, 108)))

    say("\n\nTEXTS: 600 definitions from a dictionary: of an animal, an artefact, a food or a plant?")
    say("  WordNet 3.0, Princeton University 2006, from the word list that timm carries")
    say(f"  {DATA}/definitions/train.csv: 100 of each; test.csv: 50 of each")
    write_definitions(ROOT / DATA / "definitions", 100, 50)
    regraft("fit", f"{DATA}/definitions", "--out", f"{DATA}/runs/definitions")
    (ROOT / DATA / "sentences.csv").write_text("text\n" + "\n".join(SENTENCES) + "\n", encoding="utf-8")
    say(f"\nThree sentences of our own ({DATA}/sentences.csv):")
    for sentence in SENTENCES:
        say(f"  {sentence}")
    regraft("predict", f"{DATA}/runs/definitions", f"{DATA}/sentences.csv")

    say(f"\n\nDone in {time.perf_counter() - begun:.0f} s. Two trained models are in {DATA}/runs/; each folder `bundle` is one to keep.")
    say("\nWith your own data:")
    say("  . .venv/bin/activate                     (Windows: .venv\\Scripts\\activate)")
    say("  regraft fit my-folder/                   one sub-folder per class with pictures, texts or sounds in it")
    say("  regraft fit my-table.csv                 a column of texts or of paths, and a column of labels")
    say("  regraft predict runs/my-folder-1 new/    labels with probabilities")
    say("  regraft --help, and README.md for the rest")


if __name__ == "__main__":
    main()
