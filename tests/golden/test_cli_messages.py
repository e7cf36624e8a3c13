"""What people read: help, wrong usage, and every kind of bad input, word for word."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HELP = """\
Usage: regraft [OPTIONS] COMMAND [ARGS]...

  Transfer learning by evidence: a folder in, a trustworthy model out.

  regraft fit photos/                  one sub-folder per class; or a CSV; images, texts or sounds
  regraft predict runs/photos-1 new/   labels with probabilities
  regraft evaluate runs/photos-1 test/ figures with intervals

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
  inspect   Facts about a data set before any work: classes, sizes,
            duplicates, what is broken.
  profile   What a network is worth at each of its depths, for a data set:
            where to cut it off.
  race      Which of several pretrained networks to take for a data set, found
            out on parts of it.
  plan      What could be trained on a data set, and what each would give and
            cost.
  fit       Fit a model to a folder or table of labelled images, texts or
            sounds.
  resume    Go on with a fit that was interrupted.
  predict   Predict labels with probabilities for files, folders or tables.
  evaluate  Figures with intervals on labelled data, and the confusion table.
  compare   Compare runs of the same data, in pairs on the same examples.
  report    Write a run as one HTML page, with its worst mistakes to look at.
  export    Write a run's model as a file for other programs (ONNX).
  features  Write a frozen network's features of a data set to a file.
  show      Show a run: its model, origin, licence and figures.
  runs      List the runs in a folder.
  models    List the pretrained networks there are to reuse.
  cache     Show or empty the feature store.
"""

OPTIONS = {
    "fit": (
        *("--task", "--input", "--label", "--test", "--metric", "--model", "--train", "--device"),
        *("--threads", "--out", "--seed", "--strict", "--balance", "--json"),
    ),
    "predict": ("--csv", "--json"),
    "evaluate": ("--json",),
    "features": ("--model", "--out"),
    "show": ("--recipe", "--remove", "--replace", "--insert", "--resize-input", "--train", "--depth"),
    "inspect": ("--task", "--target", "--split", "--group", "--model"),
    "race": ("--model", "--budget", "--max-params", "--licence", "--seed", "--json"),
    "runs": (),
    "models": (),
    "cache": (),
}


def lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines()


def failed(answer: Any, code: int) -> list[str]:
    """The lines of a message; there is nothing else, and no stack trace."""
    assert answer.code == code, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert "fault of regraft" not in answer.err
    return lines(answer.err)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help is wrapped at 80 columns whatever the terminal."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(command: Any, flag: str):
    answer = command(flag)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == HELP


def test_help_of_the_installed_module_imports_neither_torch_nor_numpy():
    code = "import sys; sys.argv = ['regraft', *sys.argv[1:]]\ntry:\n    from regraft.cli.main import main; main()\n"
    code += "finally:\n    print(sorted({'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules)), file=sys.stderr)"
    environment = {**os.environ, "COLUMNS": "80"}
    for words, code_wanted in ((["--help"], 0), (["fti"], 2), (["fit"], 2), (["fit", "--help"], 0), (["fit", "--tsak", "x", "y"], 2)):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == code_wanted, done
        assert lines(done.stderr)[-1] == "[]", words


def test_python_m_regraft():
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-m", "regraft", "--help"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, HELP.replace("Usage: regraft", "Usage: python -m regraft"))


def test_version(command: Any):
    import regraft

    assert command("--version").out == f"regraft {regraft.__version__}\n"


@pytest.mark.parametrize("name", list(OPTIONS))
def test_help_of_a_command_explains_every_option(command: Any, name: str):
    answer = command(name, "--help")
    assert answer.code == 0
    for option in OPTIONS[name]:
        (line, *_) = [k for k in lines(answer.out) if k.strip().startswith(option)] or [""]
        assert line, f"{name} has no {option}"
    for i, line in enumerate(lines(answer.out)):
        if line.startswith("  --") and len(line.split("  ")) < 3:
            assert lines(answer.out)[i + 1].startswith("      "), f"no help: {line}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fti"], ["Usage: regraft [OPTIONS] COMMAND [ARGS]...", "Error: there is no command 'fti'; did you mean 'fit'?"]),
        (["zzz"], ["Usage: regraft [OPTIONS] COMMAND [ARGS]...", "Error: there is no command 'zzz'"]),
        (["fit"], ["Usage: regraft fit [OPTIONS] DATA", "Error: Missing argument 'DATA'."]),
        (
            ["predict", "r"],
            ["Usage: regraft predict [OPTIONS] RUN|MODEL FILE|FOLDER|TABLE...", "Error: Missing argument 'FILE|FOLDER|TABLE...'."],
        ),
        (["features", "d"], ["Usage: regraft features [OPTIONS] DATA", "Error: Missing option '--out'."]),
    ],
    ids=lambda w: " ".join(w)[:20],
)
def test_wrong_usage(command: Any, words: list[str], message: list[str]):
    said = failed(command(*words), 2)
    assert [said[0], said[-1]] == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "-1"], "error: --seed -1: expected 0 to 4294967295"),
        (["--threads", "0"], "error: --threads 0: expected at least 1"),
        (["--test", "1.5"], "error: --test 1.5: a fraction lies between 0 and 1, such as 0.2"),
        (["--train", "haed"], "error: 'haed' chooses no layer. did you mean 'head'?"),
        (["--model", "zzz"], "error: there is no network 'zzz'.\n  try: regraft models"),
        (["--label", "species"], "error: --label species names a column, and the data is a folder of class folders"),
        (["--test", "nowhere"], "error: nowhere does not exist\n  expected: a folder, or a table such as a CSV file"),
    ],
    ids=lambda w: " ".join(w)[:20],
)
def test_options_that_cannot_be_meant(command: Any, image_folder: Path, words: list[str], message: str):
    answer = command("fit", image_folder, *words)
    assert failed(answer, 1 if "nowhere" in words else 2) == lines(message)
    assert not Path("runs").exists(), "nothing is left behind"


def test_a_network_for_another_task(command: Any, image_folder: Path):
    answer = command("fit", image_folder, "--model", "all-minilm-l6-v2")
    assert failed(answer, 2) == ["error: packaged:all-minilm-l6-v2 is for text, the data is image", "  try: regraft models --task image"]


def test_data_that_is_not_there(command: Any):
    assert failed(command("fit", "nowhere"), 1) == ["error: nowhere does not exist", "  expected: a folder, or a table such as a CSV file"]


def test_an_empty_folder(command: Any):
    Path("empty").mkdir()
    answer = command("fit", "empty")
    assert failed(answer, 1) == ["error: empty holds no files", "  expected: one sub-folder per class with files in it"]


def test_one_class_only(command: Any, make_images: Any):
    make_images(Path("d"), ["ant"])
    assert failed(command("fit", "d"), 1) == ["error: there is one class only: ant (6 examples)", "  expected: at least two classes"]


def test_one_example_in_every_class(command: Any, make_images: Any):
    make_images(Path("d"), count=1)
    assert failed(command("fit", "d"), 1) == [
        "error: each of the 3 classes has one example",
        "  expected: at least two examples of a class, to train on one and judge on the other",
    ]


def test_errors_as_json(command: Any):
    Path("empty").mkdir()
    answer = command("fit", "empty", "--json")
    assert answer.code == 1
    assert answer.json == {
        "error": "DataError",
        "found": "empty holds no files",
        "expected": "one sub-folder per class with files in it",
        "try": "",
        "faults": [],
    }
    assert command("fit", "--json").json["error"] == "UsageError"


def test_a_table_without_a_label_column(command: Any):
    Path("t.csv").write_text("text\none\ntwo\n", encoding="utf-8")
    said = failed(command("fit", "t.csv"), 1)
    assert said[0] == "error: t.csv has no column that looks like labels"
    assert said[-1] == "  try: --label COLUMN"


def test_runs_that_are_none(command: Any, tmp_path: Path):
    said = failed(command("show", "nowhere"), 2)
    assert said[0] == "error: there is no network 'nowhere', and no folder of a run"
    none = ["error: there is no network 'nowhere', and no folder of a run", "  try: regraft runs, or regraft models"]
    assert failed(command("predict", "nowhere", "x.jpg"), 2) == none
    for words in (("show", "runs/nowhere"), ("predict", "runs/nowhere", "x.jpg"), ("evaluate", "nowhere", "d")):
        if words[1] == "runs/nowhere":
            assert failed(command(*words), 1)[0] == "error: runs/nowhere is not a run: there is no such folder"
            continue
        assert failed(command(*words), 1) == ["error: nowhere is not a run: there is no such folder", "  try: regraft runs"]
    answer = command("runs")
    assert (answer.code, answer.out) == (0, "no runs in runs\n")


def test_csv_and_json_together(command: Any):
    answer = command("predict", "r", "x", "--csv", "--json")
    assert (answer.code, answer.err) == (2, "error: --csv and --json exclude each other\n")
    assert answer.json["found"] == "--csv and --json exclude each other"


def test_a_cache_entry_that_is_not_there(command: Any):
    said = failed(command("cache", "--remove", "abc"), 2)
    assert said == ["error: 0 spaces of the feature store have a key that starts with 'abc'", "  try: regraft cache"]


# ---------------------------------------------------------------- broken examples


def fit(command: Any, *words: object) -> Any:
    return command("fit", *words, "--threads", "1", "--json")


@pytest.fixture
def broken_folder(image_folder: Path) -> Path:
    """Eighteen good pictures, and three broken ones among the blue."""
    blue = image_folder / "blue"
    (blue / "empty.jpg").write_bytes(b"")
    (blue / "text.jpg").write_text("this is a text", encoding="utf-8")
    (blue / "cut.png").write_bytes((blue / "0.png").read_bytes()[:600])
    return image_folder


@pytest.mark.weights
def test_broken_images_are_listed_counted_and_left_out(command: Any, broken_folder: Path):
    answer = fit(command, broken_folder)
    assert answer.code == 0, answer.err
    assert answer.json["n"] == 18
    left_out = {item["name"]: item["reason"] for item in answer.json["left_out"]}
    assert left_out["blue/empty.jpg"] == "the file is empty (0 bytes)"
    assert left_out["blue/text.jpg"] == "not an image that can be read (damaged, or another kind of file)"
    assert set(left_out) == {"blue/empty.jpg", "blue/text.jpg", "blue/cut.png"}
    assert "3 left out of 21" in answer.err
    assert all(f"{name}: {reason}" in answer.err for name, reason in left_out.items())


@pytest.mark.weights
def test_strict_stops_at_broken_images(command: Any, broken_folder: Path):
    answer = command("fit", broken_folder, "--threads", "1", "--strict")
    assert answer.code == 1
    said = lines(answer.err)
    at = said.index("error: 3 images cannot be used")
    assert sorted(line.split(":")[0] for line in said[at + 1 : at + 4]) == ["  - blue/cut.png", "  - blue/empty.jpg", "  - blue/text.jpg"]
    assert said[-1] == "  try: mend or remove them, or leave --strict away"


@pytest.mark.weights
def test_more_than_half_broken_always_stops(command: Any):
    rows = "".join(f"pictures/{i}.jpg,{'ant' if i % 2 else 'bee'}\n" for i in range(4))
    Path("t.csv").write_text("file,label\n" + rows, encoding="utf-8")
    answer = command("fit", "t.csv", "--threads", "1")
    assert answer.code == 1
    said = lines(answer.err)
    assert "error: 4 of 4 images cannot be used, more than half: something else is wrong" in said
    assert "  - pictures/0.jpg (t.csv, line 2): there is no such file" in said
    assert said[-1] == "  try: check the path, --task, --input and --label"


@pytest.mark.weights
def test_the_same_folder_can_be_named_again_after_a_failure(command: Any, broken_folder: Path):
    """`--out` of a fit that stopped is not taken: the message says to mend the data and run it again."""
    assert command("fit", broken_folder, "--threads", "1", "--strict", "--out", "result").code == 1
    for name in ("empty.jpg", "text.jpg", "cut.png"):
        (broken_folder / "blue" / name).unlink()
    answer = command("fit", broken_folder, "--threads", "1", "--strict", "--out", "result")
    assert answer.code == 0, answer.err


@pytest.mark.weights
def test_silent_and_corrupt_sounds_are_left_out(command: Any, tone_folder: Path, make_wav: Any):
    make_wav(tone_folder / "low" / "silent.wav", np.zeros(16_000, np.float32))
    (tone_folder / "low" / "text.wav").write_text("not a sound", encoding="utf-8")
    answer = fit(command, tone_folder)
    assert answer.code == 0, answer.err
    reasons = {item["name"]: item["reason"] for item in answer.json["left_out"]}
    assert reasons["low/silent.wav"] == "the sound is silent from end to end"
    assert reasons["low/text.wav"].startswith("not a sound that can be read")
    assert len(reasons) == 2


@pytest.mark.weights
def test_empty_texts_and_missing_labels_are_left_out(command: Any, text_table: Path):
    with open(text_table, "a", encoding="utf-8") as file:
        file.write("  ,food\nno label here,\n")
    answer = fit(command, text_table)
    assert answer.code == 0, answer.err
    assert answer.json["left_out"] == [
        {"name": "texts.csv, line 18", "reason": "the text is empty"},
        {"name": "texts.csv, line 19: no label here", "reason": "the label is missing"},
    ]


@pytest.mark.weights
def test_a_class_with_one_example_is_warned_of(command: Any, text_table: Path):
    with open(text_table, "a", encoding="utf-8") as file:
        file.write("the only one of its kind,weather\n")
    answer = fit(command, text_table)
    assert answer.code == 0, answer.err
    assert "weather" in answer.json["labels"]
    assert any(said.startswith("one example only: weather.") for said in answer.json["warned"])


@pytest.mark.weights
def test_missing_labels_in_memory_are_left_out():
    import regraft

    pairs: list[tuple[str, Any]] = [(f"a sentence on food {i}", "food") for i in range(6)]
    pairs += [(f"a sentence on sport {i}", "sport") for i in range(6)] + [("no label", None)]
    result = regraft.fit(pairs, threads=1).result
    assert result["labels"] == ["food", "sport"]
    assert len(result["left_out"]) == 1


# ---------------------------------------------------------------- runs and bundles


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory, make_texts: Any, command: Any) -> Path:
    """One run on texts, fitted once for all tests here."""
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_HOME", str(folder / "home"))
        answer = fit(command, make_texts(folder / "t.csv"), "--out", folder / "run")
    assert answer.code == 0, answer.err
    return folder / "run"


@pytest.fixture
def bundle(text_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(text_run / "bundle", tmp_path / "copied"))


@pytest.mark.weights
def test_a_run_folder_that_exists(command: Any, text_table: Path, text_run: Path):
    answer = command("fit", text_table, "--out", text_run)
    assert failed(answer, 1) == [
        f"error: {text_run} exists already",
        "  expected: a new or empty folder",
        f"  try: --out {text_run}-2, or leave --out away",
    ]


@pytest.mark.weights
def test_a_bundle_with_a_wrong_hash(command: Any, bundle: Path, text_table: Path):
    with open(bundle / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    for words in (("show", bundle), ("predict", bundle, text_table), ("evaluate", bundle, text_table)):
        assert failed(command(*words), 1) == [
            f"error: {bundle} is not a whole bundle",
            "  - model.safetensors is not what was written (its SHA-256 differs)",
            "  try: copy it again from where it was made, or run `regraft fit` again",
        ]


@pytest.mark.weights
def test_a_bundle_of_a_newer_version(command: Any, bundle: Path):
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    (bundle / "bundle.json").write_text(json.dumps({**manifest, "format": 99}), encoding="utf-8")
    assert failed(command("show", bundle), 1) == [
        f"error: {bundle} was written in format 99; this regraft reads up to 2",
        "  try: pip install --upgrade regraft",
    ]


@pytest.mark.weights
def test_a_bundle_with_a_pickle_in_it(command: Any, bundle: Path, text_table: Path):
    (bundle / "extra.pkl").write_bytes(b"\x80\x04.")
    assert failed(command("predict", bundle, text_table), 1) == [
        f"error: {bundle} is not a whole bundle",
        "  - extra.pkl does not belong to the bundle: a bundle holds only the files that its bundle.json lists, and never a pickle",
        "  try: copy it again from where it was made, or run `regraft fit` again",
    ]


@pytest.mark.weights
def test_inputs_to_predict_that_cannot_be_read_are_named(command: Any, text_run: Path):
    Path("a.txt").write_text("the soup was hot", encoding="utf-8")
    Path("b.txt").write_bytes(b"\xff\x00\xfe\xfe")
    answer = command("predict", text_run, "a.txt", "b.txt", "--threads", "1")
    assert answer.code == 1
    assert answer.out.split("\t")[:2] == ["a.txt", "food"]
    assert answer.err.startswith("cannot read b.txt: ")
    assert failed(command("predict", text_run, "nowhere.txt"), 1) == ["cannot read nowhere.txt: there is no such file"]


@pytest.mark.weights
def test_labels_that_the_model_does_not_know(command: Any, text_run: Path):
    Path("t.csv").write_text("text,label\nsun,weather\nrain,weather\nfog,climate\n", encoding="utf-8")
    said = failed(command("evaluate", text_run, "t.csv"), 1)
    assert said[0] == "error: no example has a label that the model knows"
    assert "food" in said[-1] or "food" in "\n".join(said)
