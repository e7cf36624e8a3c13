"""Several labels and numbers from fit to runs, and the options that came with them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regraft
from regraft.errors import DataError, UsageError

pytestmark = pytest.mark.weights

PARTS = {
    "food": ("the soup was hot", "fresh bread with butter", "good pasta for dinner", "a cake of lemon"),
    "sport": ("the team won the match", "she ran the marathon", "he scored a penalty", "the tennis final"),
    "weather": ("it rained all day", "the storm broke trees", "a cold wind from the north", "sun and blue sky"),
}

WORTH = (10.0, 5.0, -3.5)

HEADER = ("text", "tags", "price", "food", "sport", "weather")


def rows(count: int = 48) -> list[list[str]]:
    """Texts of one to three sentences, what they are about in several forms, and a number made of it."""
    out = []
    for i in range(count):
        marks = [1, i % 2, i // 2 % 2] if i % 7 == 0 else [i % 2, i // 2 % 2, int(i % 4 == 0 or i % 3 == 0)]
        said = [PARTS[name][(i // (k + 1)) % 4] for k, name in enumerate(PARTS) if marks[k]]
        tags = "|".join(name for name, there in zip(PARTS, marks, strict=True) if there)
        price = sum(w * m for w, m in zip(WORTH, marks, strict=True)) + i / 100
        out.append(["; ".join([*said, f"number {i}"]), tags, f"{price:.2f}", *map(str, marks)])
    return out


def save(path: str | Path, body: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *body])
    return Path(path)


def with_column(name: str, values: Sequence[str], body: Sequence[Sequence[str]] | None = None) -> tuple[list[list[str]], tuple[str, ...]]:
    return [[*row, value] for row, value in zip(body or rows(), values, strict=True)], (*HEADER, name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature store for the module: every test has the same texts."""
    return tmp_path_factory.mktemp("targets") / "home"


@pytest.fixture(autouse=True)
def shared_home(home: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REGRAFT_HOME", str(home))
    yield


@dataclass(frozen=True)
class Fitted:
    """A run that several tests look at."""

    kind: str
    data: Path
    run: Path
    result: dict[str, Any]


LABEL = {"multilabel": "tags", "number": "price"}


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory, home: Path, command: Any) -> dict[str, Fitted]:
    folder, made = tmp_path_factory.mktemp("fits"), {}
    data = save(folder / "t.csv", rows())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_HOME", str(home))
        for kind, label in LABEL.items():
            answer = command("fit", data, "--label", label, "--threads", "1", "--out", folder / "runs" / kind, "--json")
            assert answer.code == 0, answer.err
            made[kind] = Fitted(kind, data, folder / "runs" / kind, answer.json)
    return made


@pytest.fixture(params=list(LABEL))
def fitted(request: pytest.FixtureRequest, fits: dict[str, Fitted]) -> Fitted:
    return fits[request.param]


FIGURES = {
    "multilabel": {"f1_micro", "f1_macro", "mean_average_precision", "exact", "log_loss"},
    "number": {"mae", "rmse", "r2", "coverage"},
}


def fit(data: Any, out: str = "run", **more: Any) -> dict[str, Any]:
    return regraft.fit(data, threads=1, out=out, **more).result


# ---------------------------------------------------------------- every command


def test_fit_finds_the_target_and_learns_it(fitted: Fitted):
    result = fitted.result
    assert result["target"] == fitted.kind and result["n"] == 48 and result["left_out"] == []
    assert result["labels"] == (list(PARTS) if fitted.kind == "multilabel" else ["price"])
    assert set(result["estimate"]) == FIGURES[fitted.kind]
    for name, figure in result["estimate"].items():
        assert figure["low"] <= figure["value"] <= figure["high"], name
    assert any(said.startswith("target: ") for said in result["said"])
    first = result["metric"]
    good, constant = result["estimate"][first]["value"], result["baseline"]["constant"]["metrics"][first]["value"]
    assert good > max(0.9, constant) if fitted.kind == "multilabel" else good < constant / 2
    assert first in result["baseline"]["without_network"]["metrics"]


def test_the_out_of_fold_table_agrees_with_the_estimate(fitted: Fitted):
    with open(fitted.run / "out_of_fold.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 48 and {row["fold"] for row in found} == set("01234")
    if fitted.kind == "multilabel":
        assert [json.loads(row["labels"]) for row in found] == [row[1].split("|") if row[1] else [] for row in rows()]
        exact = np.mean([row["labels"] == row["predicted"] for row in found])
        assert exact == pytest.approx(fitted.result["estimate"]["exact"]["value"], abs=1e-6)
        assert all(len(json.loads(row["probabilities"])) == 3 for row in found)
    else:
        errors = [abs(float(row["value"]) - float(row["predicted"])) for row in found]
        assert np.mean(errors) == pytest.approx(fitted.result["estimate"]["mae"]["value"], rel=1e-4)
        inside = np.mean([float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in found])
        assert inside == pytest.approx(fitted.result["estimate"]["coverage"]["value"], abs=1e-6)
    held = np.load(fitted.run / "out_of_fold.npy")
    assert held.shape == (48, len(fitted.result["labels"])) and np.isfinite(held).all()


def test_predict_plain_csv_and_json_say_the_same(fitted: Fitted, command: Any):
    words = ("predict", fitted.run, fitted.data, "--threads", "1")
    plain, table, found = command(*words), command(*words, "--csv"), command(*words, "--json")
    assert plain.code == table.code == found.code == 0, plain.err + table.err + found.err
    header, *body = list(csv.reader(table.out.splitlines()))
    assert header == ["name", *(["labels", *PARTS] if fitted.kind == "multilabel" else ["value", "low", "high"])]
    assert len(body) == len(found.json) == len(plain.out.splitlines()) == 48
    for cells, item, line in zip(body, found.json, plain.out.splitlines(), strict=True):
        assert cells[0] == item["name"] == line.split("\t")[0]
        if fitted.kind == "multilabel":
            assert json.loads(cells[1]) == item["labels"]
            assert [float(c) for c in cells[2:]] == pytest.approx([item["probabilities"][name] for name in PARTS], abs=1e-6)
            assert all(name in line for name in item["labels"])
        else:
            assert [float(c) for c in cells[1:]] == pytest.approx([item["value"], item["low"], item["high"]], rel=1e-5, abs=1e-5)
            assert item["low"] < item["value"] < item["high"]


def test_python_predictions_are_those_of_the_command_line(fitted: Fitted, command: Any):
    texts = [row[0] for row in rows(4)]
    here = regraft.predict(fitted.run, texts, threads=1)
    there = command("predict", fitted.run, fitted.data, "--threads", "1", "--json").json[:4]
    for one, two in zip(here, there, strict=True):
        assert {k: v for k, v in one.to_json().items() if k != "name"} == {k: v for k, v in two.items() if k != "name"}


def test_evaluate_judges_the_same_column(fitted: Fitted, command: Any):
    answer = command("evaluate", fitted.run, fitted.data, "--threads", "1", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["target"] == fitted.kind and found["n"] == 48 and set(found["metrics"]) == FIGURES[fitted.kind]
    first = fitted.result["metric"]
    assert set(found["baseline"]) == {"constant", "without_network"}
    value = found["metrics"][first]["value"]
    assert value >= 0.95 if fitted.kind == "multilabel" else value < 2
    assert ("each_label" in found) == (fitted.kind == "multilabel")
    shown = command("evaluate", fitted.run, fitted.data, "--threads", "1")
    assert shown.code == 0 and (
        "average precision" in shown.out if fitted.kind == "multilabel" else "inside the 90 % interval" in shown.out
    )


def test_evaluate_leaves_out_what_the_model_cannot_judge(fits: dict[str, Fitted]):
    body = rows(12)
    body[0][1], body[1][1] = "food|music", "[1, [2]]"
    body[2][2], body[3][2], body[4][2] = "nan", "many", "inf"
    data = save("other.csv", body)
    several = regraft.evaluate(fits["multilabel"].run, data, threads=1, label="tags")
    assert several["n"] == 11 and "cannot be read as a list" in several["left_out"][0]["reason"]
    number = regraft.evaluate(fits["number"].run, data, threads=1, label="price")
    assert number["n"] == 9 and len(number["left_out"]) == 3


def test_show_and_runs(fitted: Fitted, command: Any):
    shown, held = command("show", fitted.run), command("show", fitted.run, "--json").json
    assert shown.code == 0, shown.err
    assert held["target"] == fitted.kind and held["result"] == fitted.result
    assert ("F1, over all decisions" if fitted.kind == "multilabel" else "mean absolute error") in shown.out
    listed = {Path(row["run"]).name: row for row in command("runs", fitted.run.parent, "--json").json}
    assert set(listed) == set(LABEL) and listed[fitted.kind]["estimate"] == fitted.result["estimate"]
    plain = command("runs", fitted.run.parent).out
    assert "mean absolute error" in plain and "F1, over all decisions" in plain


def test_the_same_input_gives_the_same_bundle(fitted: Fitted, command: Any):
    answer = command("fit", fitted.data, "--label", LABEL[fitted.kind], "--threads", "1", "--out", "again", "--json", "--no-store")
    assert answer.code == 0, answer.err
    for path in (fitted.run / "bundle").iterdir():
        assert path.read_bytes() == (Path("again/bundle") / path.name).read_bytes(), path.name


def test_a_damaged_target_in_a_bundle_is_named(fitted: Fitted, command: Any):
    broken = shutil.copytree(fitted.run / "bundle", "broken")
    path = Path(broken) / "bundle.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    for change in ({"kind": "ranking"}, {"thresholds": [2, 2, 2], "half_width": -1}, {"counts": "many", "mean": None}):
        path.write_text(json.dumps({**whole, "target": {**whole["target"], **change}}), encoding="utf-8")
        answer = command("predict", broken, fitted.data)
        assert answer.code == 1 and "target" in answer.err and "Traceback" not in answer.err


def test_a_bundle_of_format_1_still_opens(fits: dict[str, Fitted], command: Any):
    save("c.csv", [[row[0], "with" if row[3] == "1" else "without"] for row in rows()], ("text", "label"))
    result = fit("c.csv", out="new")
    path = Path("new/bundle/bundle.json")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    assert manifest["format"] == 2
    before = command("predict", "new", "c.csv", "--threads", "1", "--json").json
    counts = manifest.pop("target")["counts"]
    path.write_text(json.dumps({**manifest, "format": 1, "class_counts": counts}), encoding="utf-8")
    assert command("predict", "new/bundle", "c.csv", "--threads", "1", "--json").json == before
    judged = regraft.evaluate("new/bundle", "c.csv", threads=1)
    assert judged["target"] == "class" and judged["baseline"]["constant"]["says"] == result["baseline"]["constant"]["says"]
    assert command("show", "new/bundle").code == 0


# ---------------------------------------------------------------- metric and target


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--label", "tags", "--metric", "accuracy"), ("f1_micro", "f1_macro", "log_loss")),
        (("--label", "tags", "--metric", "mae"), ("f1_micro",)),
        (("--label", "price", "--metric", "f1_macro"), ("mae", "rmse", "r2")),
        (("--label", "food", "--metric", "r2"), ("accuracy", "balanced_accuracy")),
        (("--target", "number", "--metric", "accuracy"), ("mae", "rmse", "r2")),
        (("--label", "tags", "--balance"), ("--balance", "multilabel")),
        (("--target", "number", "--balance"), ("--balance", "number")),
        (("--target", "class", "--separator", ";"), ("--separator", "class")),
        (("--label", "tags", "--separator", ""), ("--separator",)),
        (("--label", "tags,colour"), ("colour", "tags")),
    ],
)
def test_what_does_not_fit_the_target_is_a_usage_error(command: Any, words: tuple[str, ...], named: tuple[str, ...]):
    answer = command("fit", save("t.csv", rows()), *words, "--out", "run")
    assert answer.code == 2 and all(name in answer.err for name in named), answer.err
    assert not Path("run").exists()


@pytest.mark.parametrize(("label", "metric"), [("tags", "f1_macro"), ("tags", "log_loss"), ("price", "rmse"), ("price", "r2")])
def test_every_metric_chooses(label: str, metric: str):
    assert fit(save("t.csv", rows()), label=label, metric=metric)["metric"] == metric


def test_digits_are_classes_or_numbers_as_asked():
    body = [[row[0], str(4 * int(row[3]) + 2 * int(row[4]) + int(row[5]))] for row in rows()]
    data = save("d.csv", body, ("text", "label"))
    classes, number = fit(data, out="a"), fit(data, out="b", target="number")
    assert classes["target"] == "class" and any("--target number" in said for said in classes["said"])
    assert number["target"] == "number" and number["estimate"]["r2"]["value"] > 0.5


def test_numbers_that_cannot_be_used_are_named_and_left_out():
    body = rows()
    for k, cell in enumerate(("nan", "inf", "-inf", "1e16", "n/a", "")):
        body[k][2] = cell
    result = fit(save("t.csv", body), label="price", target="number")
    assert result["n"] == 42
    reasons = {item["name"].split(":")[0]: item["reason"] for item in result["left_out"]}
    assert [reasons[f"t.csv, line {k + 2}"].split()[-2:] for k in range(6)] == [
        ["finite", "number"], ["finite", "number"], ["finite", "number"], ["too", "large"], ["a", "number"], ["is", "missing"]
    ]  # fmt: skip


def test_a_target_with_one_value_is_a_data_error():
    for label, target, words in (
        ("3.5", "number", "every label is 3.5"),
        ("ant", None, "one class only"),
        ("", "multilabel", "no example"),
    ):
        data = save("o.csv", [[row[0], label] for row in rows()], ("text", "label"))
        with pytest.raises(DataError, match=words):
            fit(data, target=target, label="label")


def test_a_label_that_one_example_has_alone_is_trained_on_and_not_judged():
    """Where it is the only label of its example, that row is never held out; its table once could not be written."""
    body = [*rows(), ["a violin plays in the hall", "music", "1", "0", "0", "0"]]
    result = fit(save("t.csv", body), label="tags", target="multilabel")
    assert result["labels"] == ["food", "music", "sport", "weather"]
    assert [row["label"] for row in result["each_label"]] == ["food", "sport", "weather"]
    assert any("its figures are without them: music" in said for said in result["warned"])
    with open("run/out_of_fold.csv", encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert (last["fold"], last["predicted"], last["probabilities"]) == ("-1", "", "")
    (said,) = regraft.predict("run", ["the soup was hot"], threads=1)
    assert set(said.to_json()["probabilities"]) == {"food", "music", "sport", "weather"}


# ---------------------------------------------------------------- groups, splits, weights, several columns


def test_a_group_that_holds_every_example_of_a_label_is_said():
    speakers = ["w" if row[5] == "1" else f"s{i % 6}" for i, row in enumerate(rows())]
    body, header = with_column("speaker", speakers)
    result = fit(save("t.csv", body, header), label="tags", group="speaker")
    assert [row["label"] for row in result["each_label"]] == ["food", "sport"]
    assert any("weather" in said and "bound together" in said for said in result["warned"])
    assert result["labels"] == ["food", "sport", "weather"]


def test_a_number_that_its_group_decides_is_judged_across_groups():
    """The age of a speaker: each is known of all that one says. It ended in 'there is one group only'."""
    body = [[f"{row[0]} {'very old ' * (i % 6)}", str(20 + 11 * (i % 6)), f"s{i % 6}"] for i, row in enumerate(rows())]
    data = save("g.csv", body, ("text", "age", "speaker"))
    grouped = fit(data, out="a", label="age", target="number", group="speaker")
    mixed = fit(data, out="b", label="age", target="number")
    assert grouped["estimate_how"].startswith("5-fold")
    assert grouped["estimate"]["mae"]["value"] > mixed["estimate"]["mae"]["value"]


def test_a_split_column_of_any_name_divides_and_strangers_are_left_out():
    body, header = with_column("use", [("train", "training", "test", "spare", "val", "train")[i % 6] for i in range(48)])
    data = save("t.csv", body, header)
    plain = fit(data, out="plain", label="tags")
    assert plain["n"] == 48 and "test" not in plain, "only where it is named"
    result = fit(data, label="tags", split="use")
    assert (result["n"], result["test"]["n"]) == (32, 8)
    assert len(result["left_out"]) == 8 and {item["reason"] for item in result["left_out"]} == {
        "the split column says neither train, val nor test"
    }
    with pytest.raises(DataError, match="no row of t.csv is for training by the column 'tags'"):
        fit(data, label="price", split="tags", out="never")
    with pytest.raises(UsageError, match="--split"):
        fit(data, label="tags", split="uses", out="never")


def test_evaluate_uses_the_split_column_of_the_run():
    body, header = with_column("use", [("train", "test", "train")[i % 3] for i in range(48)])
    data = save("t.csv", body, header)
    result = fit(data, label="price", split="use")
    judged = regraft.evaluate("run", data, threads=1)
    assert judged["n"] == result["test"]["n"] == 16
    assert judged["metrics"] == result["test"]["metrics"]


def test_a_weight_of_nothing_takes_a_class_out_of_the_training():
    body = [[row[0], "with" if row[3] == "1" else "without", "1"] for row in rows()]
    header = ("text", "label", "weight")
    fit(save("a.csv", body, header), out="a", weight="weight")
    for row in body:
        row[2] = "0" if row[1] == "with" else "2"
    warned = fit(save("b.csv", body, header), out="b", weight="weight")
    assert np.isfinite(warned["estimate"]["log_loss"]["value"])
    food = [row[0] for row in body if row[1] == "with"]
    assert [p.to_json()["label"] for p in regraft.predict("a", food, threads=1)].count("with") > 0.9 * len(food)
    assert "with" not in [p.to_json()["label"] for p in regraft.predict("b", food, threads=1)]


@pytest.mark.parametrize("label", ["tags", "price", "food"])
def test_weight_on_a_few_examples_only_gives_a_model_all_the_same(label: str):
    body, header = with_column("weight", ["1" if i < 4 else "0" for i in range(48)])
    result = fit(save("t.csv", body, header), label=label, weight="weight")
    assert all(np.isfinite(list(figure.values())).all() for figure in result["estimate"].values())
    (said,) = regraft.predict("run", ["the soup was hot"], threads=1)
    json.dumps(said.to_json(), allow_nan=False)


def test_weights_that_are_none_are_named_and_left_out():
    bad = ["-1", "nan", "inf", "many", "", "1e9"]
    body, header = with_column("weight", bad + ["0.5", "2"] * 21)
    result = fit(save("t.csv", body, header), label="price", weight="weight")
    assert result["n"] == 42
    assert [item["reason"] for item in result["left_out"]] == [f"its weight {w!r} is not a finite number from 0 on" for w in bad]
    with pytest.raises(DataError, match="weight 0"):
        body, header = with_column("weight", ["0"] * 48)
        fit(save("t.csv", body, header), label="price", weight="weight", out="never")


def test_columns_of_yes_and_no_are_several_labels(fits: dict[str, Fitted]):
    result = fit(save("t.csv", rows()), label="food,sport,weather")
    assert result["target"] == "multilabel" and result["labels"] == list(PARTS)
    same = fits["multilabel"].result
    assert [row["n"] for row in result["each_label"]] == [row["n"] for row in same["each_label"]]
    judged = regraft.evaluate("run", "t.csv", threads=1)
    assert judged["n"] == 48 and judged["metrics"]["f1_micro"]["value"] > 0.95


def test_columns_of_values_are_labels_with_their_column():
    body, header = with_column("size", [("small", "large")[len(row[0]) > 40] for row in rows()])
    result = fit(save("t.csv", body, header), label="food,size")
    assert result["labels"] == ["food", "size=large", "size=small"]


def test_several_columns_of_a_frame_are_those_of_a_table():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(), columns=list(HEADER)).astype({name: int for name in PARTS})
    assert fit(frame, label="food,sport")["labels"] == ["food", "sport"]


def test_lists_in_memory_are_several_labels():
    pairs = [(row[0], [t for t in row[1].split("|") if t]) for row in rows()]
    result = fit(pairs)
    assert result["target"] == "multilabel" and result["labels"] == list(PARTS) and result["n"] == 48


# ---------------------------------------------------------------- real data


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """1,200 spoken digits of six speakers as a table: 20 of each digit and speaker, every third for testing."""
    folder = data_root / "fsdd"
    if not folder.is_dir():
        pytest.skip("the spoken digits are not there")
    lines = []
    for digit in range(10):
        for path in sorted((folder / str(digit)).glob("*.wav")):
            _, speaker, number = path.stem.split("_")
            if int(number) < 20:
                lines.append([str(path), str(digit), speaker, "test" if int(number) % 3 == 0 else "train"])
    return save(tmp_path_factory.mktemp("digits") / "digits.csv", lines, ("path", "digit", "speaker", "split"))


@pytest.mark.long
@pytest.mark.data
def test_real_digits_and_speakers_together(digits: Path):
    result = fit(digits, label="digit,speaker")
    assert len(result["labels"]) == 16
    assert result["test"]["metrics"]["f1_micro"]["value"] > 0.95


@pytest.mark.long
@pytest.mark.data
def test_real_digits_as_numbers_and_new_speakers_are_harder(digits: Path):
    mixed = fit(digits, out="a", label="digit", target="number")
    assert mixed["test"]["metrics"]["mae"]["value"] < 0.7
    random = fit(digits, out="b", label="digit")
    apart = fit(digits, out="c", label="digit", group="speaker")
    assert apart["estimate"]["accuracy"]["value"] < random["estimate"]["accuracy"]["value"]
