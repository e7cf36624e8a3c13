"""What every rung promises, over a convnet, a transformer of pictures, one of texts and one of sounds: what was selected trains and nothing
else moves, training starts where the head's own fit ended, and what ships is what was judged and said.

The networks are small, saved by transformers with random weights (test_sources.py); the cut has contracts of its own, so that here
it is looked for in two fits alone.
"""

from __future__ import annotations

import csv
import functools
import importlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sources import SEEN, SMALL, Hub, put_folder, put_image, put_spectrogram, put_text

import regraft
from regraft.errors import CutError
from regraft.events import Said
from regraft.pretrained import find_model, source_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
"""Without dropout the first step's loss is that of the head, but for rounding."""

COLOURS, PITCHES, WORDS = ({0: "red", 1: "blue"}, {0: "low", 1: "high"}, {0: "refund", 1: "shoes"})


@dataclass(frozen=True)
class Kind:
    """A network, its data, and how its tensors are called: of each block, of what lies behind the last one, of normalisation layers."""

    put: Callable[[Hub, Path], tuple[str, Any]]
    data: Callable[[Path, int], Path]
    blocks: tuple[str, str]
    behind: str
    norms: str

    def selected(self, rung: str, names: dict[str, Any]) -> set[str]:
        """The names of the tensors that a rung may move in the bundle, of all (name: tensor)."""
        weights = {n for n in names if not re.search(r"running_|num_batches", n)}
        last = {n for n in weights if n.startswith((self.blocks[1], self.behind))}
        norms = {n for n in weights if re.search(self.norms, n)}
        return {
            "none": set[str](),
            "head": set[str](),
            "norm": norms,
            "top=1": last,
            "top=2": {n for n in weights if n.startswith((*self.blocks, self.behind))},
            "lora": {n for n in last if n.startswith(self.blocks[1]) and names[n].ndim > 1},
            "contrastive": weights,
            "full": weights,
            "last 1 block, head": last,
            "own.yaml": last | norms,
        }[rung]


def texts(folder: Path, seed: int) -> Path:
    draw, filler = random.Random(seed), ["how", "do", "i", "get", "a", "for", "the", "that", "bought"]
    rows = [[*draw.choices(filler, k=1 + k % 4), *[WORDS[k % 2]] * 4] for k in range(12)]
    for words in rows:
        draw.shuffle(words)
    (folder / f"texts-{seed}.csv").write_text("text,label\n" + "".join(f"{' '.join(r)},{WORDS[k % 2]}\n" for k, r in enumerate(rows)))
    return folder / f"texts-{seed}.csv"


@pytest.fixture(scope="module")
def kinds(make_images, make_tones) -> dict[str, Kind]:
    pictures = lambda folder, seed: make_images(folder / f"pictures-{seed}", tuple(COLOURS.values()), side=32, seed=seed)
    tones = lambda folder, seed: make_tones(folder / f"tones-{seed}", 6 + seed)
    residual = {
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "layer_type": "basic",
        "hidden_act": "gelu",
        "id2label": COLOURS,
    }
    layers = ("encoder.layers.0.", "encoder.layers.1.")
    return {
        "convnet": Kind(
            put_image("resnet", "ResNetForImageClassification", residual, "ConvNextImageProcessor"),
            pictures,
            ("encoder.encoder.stages.0.", "encoder.encoder.stages.1."),
            "(nothing)",
            r"\.normalization\.",
        ),
        "vit": Kind(
            put_image("vit", "ViTForImageClassification", {**SEEN, **CALM, "id2label": COLOURS}, pooled=False),
            pictures,
            layers,
            "encoder.layernorm.",
            r"\.layernorm",
        ),
        "bert": Kind(
            put_text("bert", "BertForSequenceClassification", {**SMALL, **CALM, "id2label": WORDS}),
            texts,
            ("encoder.encoder.layer.0.", "encoder.encoder.layer.1."),
            "(nothing)",
            r"\.LayerNorm\.",
        ),
        "audio": Kind(
            put_spectrogram("ASTForAudioClassification", **CALM, id2label=PITCHES), tones, layers, "encoder.layernorm.", r"\.layernorm"
        ),
    }


RUNGS = ("none", "head", "norm", "top=1", "top=2", "lora", "contrastive", "full", "last 1 block, head", "own.yaml")
STEPWISE = [rung for rung in RUNGS if rung not in ("none", "head", "contrastive")]
IDLE = r"(k_proj|key)\.bias"
"""What cannot move: a bias of keys adds the same to every score of a query, which softmax takes away again."""


@dataclass
class Training:
    """One training: its examples, the first batch, the loss of the first step, and what moved, before and after."""

    examples: np.ndarray
    first: float
    begin: dict[str, Any]
    end: dict[str, Any]
    batch: np.ndarray


@dataclass
class Fitted:
    """A fit, looked into. `came` is the network as it came, `after` the bundle's tensors."""

    kind: Kind
    rung: str
    run: regraft.Run
    test: Path
    came: dict[str, Any]
    after: dict[str, Any]
    said: list[str]
    trainings: list[Training] = field(default_factory=list)
    work: Any = None

    @property
    def decisions(self) -> dict[str, Any]:
        return json.loads((self.run.path / "decisions.json").read_text())

    @property
    def moved(self) -> set[str]:
        return {name for name, tensor in self.came.items() if not torch.equal(tensor, self.after[name])}


@pytest.fixture(scope="module", params=[f"{kind}: {rung}" for kind in ("convnet", "vit", "bert", "audio") for rung in RUNGS])
def fitted(request, kinds, tmp_path_factory) -> Fitted:
    kind, rung = request.param.split(": ")
    folder = tmp_path_factory.getbasetemp() / kind
    if not folder.exists():
        folder.mkdir()
        put_folder(kinds[kind].put)(Hub(), folder)
    with pytest.MonkeyPatch.context() as patch:
        if (kind, rung) not in CUT:
            patch.setattr("regraft.features.cut.find_cut", refused)
        return look_into(rung, kinds[kind], folder, f"path:{folder / 'made'}", patch)


CUT = {("convnet", "top=1"), ("vit", "top=1")}


def refused(*_, **__):
    raise CutError("not looked for here")


def look_into(rung: str, kind: Kind, folder: Path, name: str, patch: pytest.MonkeyPatch) -> Fitted:
    from safetensors.torch import load_file

    from regraft.strategy import contrastive, rules, settings
    from regraft.training import deeper, loop

    room = importlib.import_module("regraft.jobs.fit")
    seen, trainings = [], list[Training]()
    plain, train = room.train_deeper, deeper.train

    def spied(problem, watch, *, saved, after):
        own = Training(problem.examples, float("nan"), problem.learner.state(), {}, loop._batches(problem, 0)[0])

        def heard(course):
            own.first = course.first
            after(course)

        found = train(problem, watch, saved=saved, after=heard)
        own.end = problem.learner.state()
        trainings.append(own)
        return found

    patch.setenv("REGRAFT_HOME", str(folder / "home"))
    patch.setattr(room, "train_deeper", lambda deeper_, work: (seen.append(work), plain(deeper_, work))[1])
    patch.setattr(room, "head_stays", lambda *given, **more: "")  # on so few examples either may seem better
    patch.setattr(deeper, "train", spied)
    patch.setattr(settings, "WHOLE_SECONDS", 0.0)
    patch.setattr(contrastive, "STEPS", (3, 3))
    patch.setattr(rules, "STRENGTHS", rules.STRENGTHS[2:7:2])
    torch.set_num_threads(1)
    options: dict[str, Any] = {"train": rung}
    if rung == "lora":
        options = {"lora": "last 1 block", "rank": 2}
    elif rung == "own.yaml":
        (folder / rung).write_text("trains: last 1 block, norms, head\nsettings: {lr: 1e-3, epochs: 2, wise: false}\n")
        options["train"] = str(folder / rung)
    if rung in STEPWISE and rung != "own.yaml":
        options["settings"] = {"epochs": 2, "wise": rung == "full"}
    said: list[str] = []
    listen = lambda event: said.append(event.message) if isinstance(event, Said) else None
    out, test = folder / f"run-{RUNGS.index(rung)}", kind.data(folder, 1)
    run = regraft.fit(kind.data(folder, 0), test=str(test), model=name, threads=1, out=str(out), on_event=listen, **options)
    return Fitted(
        kind,
        rung,
        run,
        test,
        as_it_came(name, whole=rung == "none"),
        load_file(run.path / "bundle" / "model.safetensors"),
        said,
        trainings,
        *seen,
    )


@functools.cache
def as_it_came(name: str, *, whole: bool) -> dict[str, Any]:
    facts = find_model(name)
    if whole:
        return {f"network.{k}": tensor for k, tensor in source_of(facts).old(facts).build().state_dict().items()}
    return dict(source_of(facts).weights(facts))


def test_what_was_selected_moves_and_nothing_else(fitted):
    selected = fitted.kind.selected(fitted.rung, fitted.came)
    for training in fitted.trainings:
        # whatever a training changed on its way, statistics and counters too
        changed = {n for n, tensor in training.begin.items() if not torch.equal(tensor, training.end[n])}
        below = {n.replace(".base_layer", "") for n in changed if not n.startswith("head.")}
        adapters = {n for n in changed if "lora_" in n}
        assert {n for n in changed if n.startswith("head.")} == {"head.weight", "head.bias"}
        if fitted.rung == "lora":
            # the first factor's gradient is nothing as long as the second one is nothing
            assert below == adapters and {re.sub(r"\.lora_B.*", ".weight", n) for n in adapters if "lora_B" in n} == selected
        else:
            assert below <= selected and all(re.search(IDLE, n) for n in selected - below)
    assert fitted.moved <= selected
    if fitted.rung != "full":
        assert all(re.search(IDLE, n) for n in selected - fitted.moved)
    assert (fitted.rung in STEPWISE) == bool(fitted.trainings)


def test_training_starts_from_the_heads_solution(fitted):
    if fitted.rung not in STEPWISE:
        pytest.skip("takes no steps from a head")
    work, folds = fitted.work, fitted.decisions["folds_trained"]
    assert len(fitted.trainings) == folds + 1
    for training, (weight, bias) in zip(fitted.trainings, [*work.starts[:folds], work.starts[-1]], strict=True):
        scores = torch.from_numpy(work.features[training.batch] @ weight.T + bias)
        truth = torch.from_numpy(work.values[np.searchsorted(work.train, training.batch)])
        assert set(training.batch) <= set(training.examples)
        assert training.first == pytest.approx(float(torch.nn.functional.cross_entropy(scores, truth)), rel=1e-3, abs=1e-5)


def test_the_weights_that_ship_are_said(fitted):
    result, decisions = fitted.run.result, fitted.decisions
    rung = {"own.yaml": "own"}.get(fitted.rung, fitted.rung)
    assert result["train"] == decisions["train"] == rung
    if fitted.rung in STEPWISE or fitted.rung == "contrastive":
        assert decisions["ships"] == rung and "accuracy" in result["better_than_head"]
    if fitted.rung == "full":
        mix, end = decisions["wise"]["mix"], fitted.trainings[-1].end
        assert sum("(WiSE-FT)" in line for line in fitted.said) == 1
        for name, tensor in fitted.came.items():
            expected = torch.lerp(tensor, end[name], mix) if tensor.is_floating_point() and mix < 1 else end[name]
            assert torch.equal(fitted.after[name], expected), name
    elif fitted.trainings:
        assert "wise" not in decisions
    if fitted.rung == "lora":
        assert not any("lora_" in name for name in fitted.after)


def test_there_is_an_estimate_of_examples_that_were_not_seen(fitted):
    result = fitted.run.result
    with open(fitted.run.path / "out_of_fold.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    judged = [row for row in rows if row["predicted"]]
    figure = result["estimate"]["accuracy"]
    assert len(rows) == result["n"] == 12 and judged
    assert figure["value"] == pytest.approx(np.mean([row["label"] == row["predicted"] for row in judged]), abs=1e-6)
    assert figure["low"] <= figure["value"] <= figure["high"] and result["estimate_how"]
    if fitted.rung in STEPWISE:
        # the fold that was held out, and nothing that a training had seen
        taught = {work_name(fitted, k) for k in fitted.trainings[0].examples}
        assert taught.isdisjoint(row["name"] for row in judged) and len(judged) + len(taught) == len(rows)


def work_name(fitted: Fitted, position: int) -> str:
    return fitted.work.examples[position].name


def test_the_test_figure_is_that_of_the_bundle(fitted):
    found = fitted.run.evaluate(str(fitted.test), threads=1)
    told = fitted.run.result["test"]
    assert found["n"] == told["n"] == (14 if "tones" in fitted.test.name else 12)
    for name in ("accuracy", "log_loss"):
        assert found["metrics"][name]["value"] == pytest.approx(told["metrics"][name]["value"], abs=1e-5)
