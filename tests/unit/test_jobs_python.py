"""The Python API: objects in memory in, a run out, and a run that predicts, judges and opens."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import regraft
from regraft.errors import DataError, RunError, UsageError

COLOURS = {"ant": (200, 40, 40), "bee": (40, 40, 200), "wasp": (40, 190, 40)}

TEXTS = {
    "food": [
        "the soup was hot", "fresh bread with butter", "a bowl of pasta", "lemon cake for dessert", "rice with beans", "sweet apples"
    ],
    "sport": [
        "the team won the match", "she ran a marathon", "he scored a penalty", "the tennis final", "a swimming race", "the coach shouted"
    ],
}  # fmt: skip

Pairs = list[tuple[Any, str]]


def arrays(count: int = 5) -> Pairs:
    rng = np.random.default_rng(0)
    return [
        (np.clip(np.array(colour) + rng.normal(0, 30, (40, 40 + i, 3)), 0, 255).astype(np.uint8), label)
        for label, colour in COLOURS.items()
        for i in range(count)
    ]


def pictures() -> Pairs:
    return [(Image.fromarray(pixels), label) for pixels, label in arrays()]


def strings() -> Pairs:
    return [(text, label) for label, texts in TEXTS.items() for text in texts]


def sounds() -> Pairs:
    rng = np.random.default_rng(0)
    out = []
    for label, pitch in (("low", 200), ("high", 1500)):
        for i, rate in enumerate((16_000, 22_050, 16_000, 44_100)):
            time = np.arange(int(rate * (0.4 + 0.1 * i))) / rate
            tone = 0.5 * np.sin(2 * math.pi * pitch * (1 + i / 40) * time) + rng.normal(0, 0.02, len(time))
            out.append(((tone.astype(np.float32), rate), label))
    return out


def frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(strings(), columns=["text", "label"])


@dataclass
class Case:
    data: Callable[[], Any]
    task: str
    inputs: Callable[[Any], list[Any]] = lambda data: [value for value, _ in data]
    labels: Callable[[Any], list[str]] = lambda data: [label for _, label in data]


CASES = {
    "PIL images": Case(pictures, "image"),
    "arrays": Case(arrays, "image"),
    "strings": Case(strings, "text"),
    "samples and rate": Case(sounds, "audio"),
    "DataFrame": Case(frame, "text", lambda data: list(data["text"]), lambda data: list(data["label"])),
}


@dataclass
class Fitted:
    case: Case
    data: Any
    run: regraft.Run


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("python")


@pytest.fixture(autouse=True)
def same_store(store: Path, monkeypatch) -> None:
    monkeypatch.setenv("REGRAFT_HOME", str(store / "home"))


@pytest.fixture(scope="module", params=list(CASES))
def fitted(request, store: Path) -> Fitted:
    case = CASES[request.param]
    data = case.data()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_HOME", str(store / "home"))
        return Fitted(case, data, regraft.fit(data, threads=1, out=str(store / request.param)))


@pytest.fixture(scope="module")
def text_run(store: Path) -> regraft.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_HOME", str(store / "home"))
        return regraft.fit(strings(), threads=1, out=str(store / "a text run"))


# ---------------------------------------------------------------- fit and what a run does


@pytest.mark.weights
def test_fit_finds_out_what_the_data_is(fitted):
    result = fitted.run.result
    assert result["task"] == fitted.case.task
    assert result["n"] == len(fitted.data) and result["left_out"] == []
    assert result["labels"] == sorted(set(fitted.case.labels(fitted.data)))
    assert result["train"] == "head" and result["model"].startswith("packaged:")
    for figure in result["estimate"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert result["estimate"]["accuracy"]["value"] >= 0.75, "colours, topics and pitches are easy to tell apart"
    assert set(result["baseline"]) == {"constant", "without_network"}
    assert result["seconds"] > 0 and result["licence"]
    assert (fitted.run.path / "run.json").is_file()
    json.dumps(dict(result), allow_nan=False)


@pytest.mark.weights
def test_a_run_predicts_in_order(fitted):
    inputs, labels = fitted.case.inputs(fitted.data), fitted.case.labels(fitted.data)
    found = fitted.run.predict(inputs, threads=1)
    assert len(found) == len(inputs) and all(isinstance(p, regraft.Prediction) for p in found)
    for prediction in found:
        assert list(prediction.probabilities) == fitted.run.model.labels
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert prediction.probability == max(prediction.probabilities.values()) == prediction.probabilities[prediction.label]
    assert np.mean([p.label == label for p, label in zip(found, labels, strict=True)]) >= 0.9
    backwards = fitted.run.predict(inputs[::-1], threads=1)
    assert [p.probabilities for p in backwards] == [p.probabilities for p in found[::-1]], "neighbours change no bit"
    assert fitted.run.predict([inputs[1]], threads=1)[0].probabilities == found[1].probabilities
    assert list(fitted.run.stream(inputs[:2], threads=1)) == found[:2]
    assert regraft.predict(fitted.run.path, inputs[:2], threads=1) == found[:2]


@pytest.mark.weights
def test_a_single_input_needs_no_list(fitted):
    value = fitted.case.inputs(fitted.data)[0]
    (alone,) = fitted.run.predict(value, threads=1)
    assert alone.probabilities == fitted.run.predict([value], threads=1)[0].probabilities


@pytest.mark.weights
def test_a_run_judges_labelled_data(fitted):
    found = fitted.run.evaluate(fitted.data, threads=1)
    labels = fitted.case.labels(fitted.data)
    predicted = [p.label for p in fitted.run.predict(fitted.case.inputs(fitted.data), threads=1)]
    assert found["n"] == len(labels)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.mean([a == b for a, b in zip(predicted, labels, strict=True)]))
    assert {"accuracy", "balanced_accuracy", "f1_macro", "log_loss"} <= set(found["metrics"])
    assert {"constant", "without_network"} == set(found["baseline"])
    rows = np.array(found["confusion"]["rows"])
    assert rows.sum() == found["n"] and np.trace(rows) == sum(a == b for a, b in zip(predicted, labels, strict=True))
    assert regraft.evaluate(fitted.run.path, fitted.data, threads=1) == found
    json.dumps(found, allow_nan=False)


@pytest.mark.weights
def test_the_network_says_what_predict_says(fitted):
    """The bundle is the network with its output layer replaced: plain PyTorch, no regraft needed for the arithmetic."""
    import torch

    model = fitted.run.model
    network = fitted.run.network()
    assert isinstance(network, torch.nn.Module) and not network.training
    prepare = model.modality.preparer(model.manifest["preprocessing"], model.files)
    inputs = fitted.case.inputs(fitted.data)
    for value, said in zip(inputs, fitted.run.predict(inputs, threads=1), strict=True):
        prepared = prepare(model.modality.load(value).decode())
        assert len(prepared.windows) == 1
        with torch.inference_mode():
            scores = network(**model.modality.collate(prepared.windows, model.manifest["preprocessing"]))
        assert scores.shape == (1, len(model.labels))
        np.testing.assert_allclose(scores.softmax(1)[0].numpy(), list(said.probabilities.values()), atol=1e-4)


@pytest.mark.weights
def test_the_network_can_be_trained_on(fitted):
    """Its parameters are ordinary ones that take a gradient, the pretrained ones too."""
    network = fitted.run.network()
    assert not any(p.is_inference() for p in network.parameters())
    trainable = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) > 0.9 * sum(p.numel() for p in network.parameters())
    sum(p.sum() for p in trainable).backward()
    assert all(p.grad is not None for p in trainable)


@pytest.mark.weights
def test_a_run_is_opened_again(fitted):
    again = regraft.open_run(fitted.run.path)
    assert again.result == fitted.run.result
    assert "accuracy" in repr(again) and str(fitted.run.path) in repr(again)
    value = fitted.case.inputs(fitted.data)[0]
    assert again.predict([value], threads=1) == fitted.run.predict([value], threads=1)


# ---------------------------------------------------------------- options and faults


@pytest.mark.weights
def test_a_fraction_is_set_aside_and_judged(store):
    run = regraft.fit(strings(), threads=1, out=str(store / "fraction"), test=0.25)
    assert run.result["n"] + run.result["test"]["n"] == 12 and run.result["test"]["n"] == 4
    assert 0 <= run.result["test"]["metrics"]["accuracy"]["low"] <= run.result["test"]["metrics"]["accuracy"]["high"] <= 1


@pytest.mark.weights
def test_a_test_set_in_memory_is_judged_and_never_trained_on(store):
    extra = [("a plate of cheese", "food"), ("the goalkeeper jumped", "sport")]
    run = regraft.fit(strings(), threads=1, out=str(store / "with test"), test=extra)
    bare = regraft.fit(strings(), threads=1, out=str(store / "without test"))
    assert run.result["test"]["n"] == 2 and run.result["n"] == 12
    assert run.result["estimate"] == bare.result["estimate"]
    for name in ("bundle.json", "model.safetensors"):
        assert (run.path / "bundle" / name).read_bytes() == (bare.path / "bundle" / name).read_bytes()


@pytest.mark.weights
def test_inequality_is_said_and_balancing_is_not_denied(store):
    data = [(f"{text}, number {i}", label) for label, texts in TEXTS.items() for text in texts for i in range(1 if label == "food" else 4)]
    plain = regraft.fit(data, threads=1, out=str(store / "unequal"))
    assert any("unequal" in line and "--balance" in line for line in plain.result["warned"])
    balanced = regraft.fit(data, threads=1, out=str(store / "balanced"), balance=True)
    assert not any("Nothing is reweighted" in line for line in balanced.result["warned"]), "it was asked for and done"
    question = ["something else entirely"]
    assert balanced.predict(question)[0].probabilities["food"] > plain.predict(question)[0].probabilities["food"]


@pytest.mark.weights
def test_broken_inputs_are_named_counted_and_left_out(store):
    from regraft.facts import LeftOut

    data = [*strings(), ("   ", "food")]
    run = regraft.fit(data, threads=1, out=str(store / "one broken"))
    assert run.result["n"] == 12 and len(run.result["left_out"]) == 1 and "empty" in run.result["left_out"][0]["reason"]
    with pytest.raises(DataError):
        regraft.fit(data, threads=1, out=str(store / "strict"), strict=True)
    inputs = ["a good dinner", "", "a fast runner"]
    with pytest.raises(DataError, match="empty"):
        run.predict(inputs, threads=1)
    assert len(run.predict(inputs, threads=1, skip_broken=True)) == 2
    rows = list(run.stream(inputs, threads=1))
    assert [isinstance(row, LeftOut) for row in rows] == [False, True, False]


@pytest.mark.weights
def test_events_are_told_and_kept(store):
    seen: list[Any] = []
    run = regraft.fit(strings(), threads=1, out=str(store / "events"), on_event=seen.append)
    kinds = {type(event).__name__ for event in seen}
    assert {"Started", "Progress", "Done", "Said", "Measured"} <= kinds
    kept = [json.loads(line) for line in (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [event["event"] for event in kept] == [type(event).__name__ for event in seen if type(event).__name__ != "Progress"]


@pytest.mark.weights
def test_features_and_shows(text_run, store):
    found = regraft.extract_features(strings(), threads=1, out=str(store / "rows.npz"))
    assert found["features"].shape == (12, 384) and found["features"].dtype == np.float32
    assert found["labels"] == [label for _, label in strings()]
    assert np.array_equal(np.load(store / "rows.npz")["features"], found["features"])
    assert regraft.show(text_run.path)["result"] == text_run.result
    assert str(text_run.path) in [row["run"] for row in regraft.runs(store)]
    assert regraft.cache()["bytes"] > 0
    assert {row["task"] for row in regraft.models()} == {"image", "text", "audio"}
    assert {row["task"] for row in regraft.models(task="audio")} == {"audio"}


@pytest.mark.weights
def test_the_out_of_fold_predictions_are_kept(text_run):
    chances = np.load(text_run.path / "out_of_fold.npy")
    assert chances.shape == (12, 2) and chances.dtype == np.float64
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
    truth = np.array([text_run.result["labels"].index(label) for _, label in strings()])
    assert (chances.argmax(1) == truth).mean() == pytest.approx(text_run.result["estimate"]["accuracy"]["value"], abs=1e-6)


@pytest.mark.weights
def test_a_taken_folder_is_left_alone(store):
    taken = store / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunError, match="exists"):
        regraft.fit(strings(), threads=1, out=str(taken))
    assert [p.name for p in taken.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("data", "options", "error"),
    [
        ([], {}, DataError),
        ([("a", "x"), ("b", "x")], {}, DataError),
        ([("a", "x"), ("b", "y")], {}, DataError),
        ([("a", "x"), "b"], {}, UsageError),
        ([("a", "x"), ("b", "x"), ("c", "y")], {"metric": "acuracy"}, UsageError),
        ([("a", "x"), ("b", "x"), ("c", "y")], {"task": "smell"}, UsageError),
        ([("a", "x"), ("b", "x"), ("c", "y")], {"train": "everything"}, UsageError),
        ([("a", "x"), ("b", "x"), ("c", "y")], {"seed": -1}, UsageError),
        ([("a", "x"), ("b", "x"), ("c", "y")], {"threads": 0}, UsageError),
        ([("a", "x"), ("b", "x"), ("c", "y")], {"test": 1.5}, UsageError),
        ([("a", "x"), ("b", "x"), ("c", "y")], {"model": "efficientnet-lite9"}, UsageError),
        ([("a", "x"), ("b", "x"), ("c", "y")], {"model": "efficientnet-lite0"}, UsageError),
        (42, {}, regraft.RegraftError),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_folder_is_made(data, options, error, tmp_path):
    with pytest.raises(error):
        regraft.fit(data, out=str(tmp_path / "run"), **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_what_is_not_a_run_is_refused(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=name):
        regraft.open_run(tmp_path / name)


# ---------------------------------------------------------------- the names


def test_every_public_name_is_there():
    assert {"fit", "open_run", "Run", "predict", "evaluate"} <= set(regraft.__all__)
    for name in regraft.__all__:
        assert getattr(regraft, name) is not None
    assert set(dir(regraft)) == set(regraft.__all__)
    with pytest.raises(AttributeError, match="fitt"):
        regraft.fitt  # noqa: B018
    assert importlib.util.find_spec("regraft").origin is not None
    assert (Path(importlib.util.find_spec("regraft").origin).parent / "py.typed").is_file(), "the package says that it is typed"


def test_every_public_name_has_a_docstring():
    for name in regraft.__all__:
        if name != "__version__":
            assert (getattr(regraft, name).__doc__ or "").strip(), name
    for name in ("predict", "evaluate", "network", "stream"):
        assert (getattr(regraft.Run, name).__doc__ or "").strip(), name


def test_importing_regraft_is_free():
    code = "import sys, regraft; regraft.__version__; print(sorted({'torch', 'numpy', 'PIL', 'timm', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.weights
def test_with_stored_features_the_libraries_of_the_network_are_not_imported(store):
    """The warm path: features are there, so neither timm nor torchvision nor transformers is needed."""
    data = [("the soup was hot", "food"), ("fresh bread", "food"), ("a bowl of pasta", "food")]
    data += [("the team won", "sport"), ("she ran", "sport"), ("he scored", "sport")]
    regraft.fit(data, threads=1, out=str(store / "cold"))
    assert "transformers" in sys.modules, "the features are made with it"
    code = (
        f"import sys, regraft; regraft.fit({data!r}, threads=1, out=sys.argv[1]);"
        "print(sorted({'timm', 'torchvision', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store / "warm")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
