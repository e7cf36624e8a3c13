"""Dividing examples, checking labels, and inputs to predict."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from regraft.data import Dataset, Example, open_inputs
from regraft.data.base import TEST, TRAIN, Asked
from regraft.data.open import refuse_unless_table, set_aside
from regraft.errors import DataError, UsageError
from regraft.modality import MODALITIES
from regraft.targets import Wanted
from regraft.targets.classes import Classes


def check_labels(dataset):
    return Classes.learn([e.label or "" for e in dataset.examples if e.part == "train"], Wanted()).outputs


EXTENSIONS = {name: modality.extensions for name, modality in MODALITIES.items()}


def dataset_of(**classes: int) -> Dataset:
    return Dataset("text", [Example(f"{label} {i}", f"{label} {i}", label) for label, n in classes.items() for i in range(n)])


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_a_fraction_is_set_aside_from_every_class(fraction: float):
    dataset = dataset_of(a=40, b=20, c=10)
    set_aside(dataset, fraction, 0)
    assert Counter(e.label for e in dataset.part(TEST)) == {
        k: v for k, n in (("a", 40), ("b", 20), ("c", 10)) if (v := round(n * fraction))
    }
    assert len(dataset.examples) == 70


def test_setting_aside_is_decided_by_the_seed():
    def chosen(seed: int) -> set[str]:
        dataset = dataset_of(a=30, b=30)
        set_aside(dataset, 0.3, seed)
        return {e.name for e in dataset.part(TEST)}

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)


def test_every_class_keeps_an_example_to_train_on():
    dataset = dataset_of(a=20, b=1, c=2)
    set_aside(dataset, 0.9, 0)
    assert set(Counter(e.label for e in dataset.part(TRAIN))) == {"a", "b", "c"}


def test_what_is_for_testing_already_stays():
    dataset = dataset_of(a=10, b=10)
    dataset.examples.append(Example("own", "own", "a", TEST))
    set_aside(dataset, 0.2, 0)
    assert "own" in {e.name for e in dataset.part(TEST)}


def test_labels_come_in_natural_order_from_the_training_part_alone():
    dataset = dataset_of(c10=2, c9=2)
    dataset.examples.append(Example("t", "t", "only in test", TEST))
    assert check_labels(dataset) == ["c9", "c10"]


def test_one_class_only():
    with pytest.raises(DataError) as raised:
        check_labels(dataset_of(ant=3))
    assert str(raised.value) == "there is one class only: ant (3 examples)\n  expected: at least two classes"


def test_one_example_in_every_class():
    with pytest.raises(DataError, match="each of the 3 classes has one example"):
        check_labels(dataset_of(a=1, b=1, c=1))


def test_a_single_class_with_one_example_is_allowed():
    assert check_labels(dataset_of(a=5, b=1)) == ["a", "b"]


def test_no_labels():
    with pytest.raises(DataError) as raised:
        check_labels(Dataset("text", [Example("x", "x", None)]))
    assert raised.value.move


def test_a_column_of_a_folder_is_refused():
    with pytest.raises(UsageError, match="--label species"):
        refuse_unless_table("species", "--label", Dataset("image", [], decisions={"layout": "folder"}))


# ---------------------------------------------------------------- inputs to predict


def inputs(sources: list[object], task: str = "image") -> Dataset:
    return open_inputs(sources, Asked(task, None, None, EXTENSIONS, labelled=False))


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_files_and_folders_keep_their_order(tmp_path: Path):
    folder = put(tmp_path / "d", "2.jpg", "10.jpg", "note.txt", ".DS_Store")
    single = put(tmp_path, "z.jpg") / "z.jpg"
    found = inputs([single, folder])
    assert [e.source for e in found.examples] == [single, folder / "2.jpg", folder / "10.jpg"]
    assert all(e.label is None for e in found.examples)


def test_equal_names_in_two_folders_can_be_told_apart(tmp_path: Path):
    found = inputs([put(tmp_path / "a", "1.jpg"), put(tmp_path / "b", "1.jpg")])
    names = [e.name for e in found.examples]
    assert len(set(names)) == 2, names


def test_missing_inputs_are_named_here_or_left_for_reading_to_name(tmp_path: Path):
    missing = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    try:
        found = inputs(list(missing))
    except DataError as error:
        assert all(str(path) in str(error) for path in missing)
    else:
        assert [e.source for e in found.examples] == missing


def test_a_folder_without_inputs_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="holds no image files"):
        inputs([put(tmp_path / "d", "1.txt")])


def test_a_table_gives_its_rows(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\ngood,pos\nbad,neg\n", encoding="utf-8")
    assert [e.source for e in inputs([path], "text").examples] == ["good", "bad"]


def test_strings_are_texts_for_a_text_model_and_paths_for_others(tmp_path: Path):
    put(tmp_path, "x.jpg")
    assert inputs(["x.jpg is a file"], "text").examples[0].source == "x.jpg is a file"
    assert inputs([str(tmp_path / "x.jpg")]).examples[0].source == tmp_path / "x.jpg"
