"""A folder of class folders: what is an example, what is a class, what is for testing, and that nothing gets lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regraft.data import Dataset, open_data
from regraft.data.base import TEST, TRAIN, Asked, natural
from regraft.errors import DataError
from regraft.modality import MODALITIES

EXTENSIONS = {name: modality.extensions for name, modality in MODALITIES.items()}


def opened(folder: Path, task: str | None = None, labelled: bool = True, test: Path | None = None) -> Dataset:
    return open_data(folder, Asked(task, None, None, EXTENSIONS, labelled), test=test)


def put(folder: Path, *names: str) -> Path:
    """Empty files; this room never opens them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def by_part(dataset: Dataset) -> dict[str, list[tuple[str, str | None]]]:
    found: dict[str, list[tuple[str, str | None]]] = {TRAIN: [], TEST: []}
    for example in dataset.examples:
        found[example.part].append((example.name, example.label))
    return found


def test_a_sub_folder_is_a_class(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "ant/1.jpg", "bee/2.JPEG", "bee/deep/er/3.png"))
    assert dataset.task == "image"
    assert by_part(dataset) == {TRAIN: [("ant/1.jpg", "ant"), ("bee/2.JPEG", "bee"), ("bee/deep/er/3.png", "bee")], TEST: []}
    assert dataset.left_out == []


@pytest.mark.parametrize(("endings", "task"), [((".jpg", ".webp"), "image"), ((".txt", ".md"), "text"), ((".wav", ".flac"), "audio")])
def test_the_task_is_what_most_files_are(tmp_path: Path, endings: tuple[str, ...], task: str):
    names = [f"{label}/{i}{ending}" for label in "ab" for i, ending in enumerate(endings)]
    assert opened(put(tmp_path / "d", *names)).task == task


def test_a_given_task_holds(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "a/1.jpg", "a/2.jpg", "a/1.txt", "b/1.txt"), task="text")
    assert dataset.task == "text"
    assert [e.name for e in dataset.examples] == ["a/1.txt", "b/1.txt"]
    assert {item.name for item in dataset.left_out} == {"a/1.jpg", "a/2.jpg"}


@pytest.mark.parametrize("litter", [".DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini", "._1.jpg", ".hidden.jpg"])
@pytest.mark.parametrize("place", ["", "ant/"])
def test_litter_is_neither_an_example_nor_left_out(tmp_path: Path, litter: str, place: str):
    dataset = opened(put(tmp_path / "d", "ant/1.jpg", "bee/1.jpg", f"{place}{litter}"))
    assert [e.name for e in dataset.examples] == ["ant/1.jpg", "bee/1.jpg"]
    assert dataset.left_out == []


@pytest.mark.parametrize("litter", ["__MACOSX/ant/._1.jpg", ".git/ant/1.jpg", ".ipynb_checkpoints/1.jpg", "ant/.thumbs/1.jpg"])
def test_hidden_folders_are_no_classes(tmp_path: Path, litter: str):
    dataset = opened(put(tmp_path / "d", "ant/1.jpg", "bee/1.jpg", litter))
    assert sorted({e.label for e in dataset.examples if e.label}) == ["ant", "bee"]
    assert len(dataset.examples) == 2


def test_a_file_of_another_kind_is_left_out_and_named(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "ant/1.jpg", "bee/1.jpg", "bee/notes.docx", "readme.md", "loose.jpg"))
    assert [e.name for e in dataset.examples] == ["ant/1.jpg", "bee/1.jpg"]
    reasons = {item.name: item.reason for item in dataset.left_out}
    assert reasons == {
        "bee/notes.docx": "not an image by its ending",
        "readme.md": "not an image by its ending",
        "loose.jpg": "not inside a class folder",
    }


def test_train_and_test_folders(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "train/ant/1.jpg", "train/bee/1.jpg", "test/ant/2.jpg"))
    assert by_part(dataset) == {TRAIN: [("train/ant/1.jpg", "ant"), ("train/bee/1.jpg", "bee")], TEST: [("test/ant/2.jpg", "ant")]}


def test_val_is_the_test_part_where_there_is_no_test_and_this_is_said(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "train/ant/1.jpg", "train/bee/1.jpg", "val/ant/2.jpg"))
    assert by_part(dataset)[TEST] == [("val/ant/2.jpg", "ant")]
    assert any("val/" in said and "test" in said for said in dataset.said)


def test_val_is_for_training_where_there_is_a_test(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "train/ant/1.jpg", "train/bee/1.jpg", "val/ant/2.jpg", "test/bee/3.jpg"))
    assert by_part(dataset)[TEST] == [("test/bee/3.jpg", "bee")]
    assert ("val/ant/2.jpg", "ant") in by_part(dataset)[TRAIN]
    assert any("val/" in said for said in dataset.said)


@pytest.mark.parametrize("there", [("test",), ("val",), ("val", "test"), ("train",)])
def test_any_of_the_split_folders_may_be_missing(tmp_path: Path, there: tuple[str, ...]):
    """The names of splits are never classes when class folders stand inside them."""
    dataset = opened(put(tmp_path / "d", *(f"{split}/{label}/1.jpg" for split in there for label in ("ant", "bee"))))
    assert {e.label for e in dataset.examples} == {"ant", "bee"}
    assert len(dataset.examples) == 2 * len(there)
    if there == ("val", "test"):
        assert {name for name, _ in by_part(dataset)[TEST]} == {"test/ant/1.jpg", "test/bee/1.jpg"}


def test_two_names_for_one_split_do_not_become_classes(tmp_path: Path):
    folder = put(tmp_path / "d", *(f"{split}/{label}/1.jpg" for split in ("train", "val", "dev") for label in ("ant", "bee")))
    try:
        dataset = opened(folder)
    except DataError:
        return
    assert {e.label for e in dataset.examples} == {"ant", "bee"}
    assert len(dataset.examples) + len(dataset.left_out) == 6


def test_split_names_in_capitals(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "Train/ant/1.jpg", "Train/bee/1.jpg", "TEST/ant/2.jpg"))
    assert by_part(dataset)[TEST] == [("TEST/ant/2.jpg", "ant")]


def test_another_source_can_be_the_test(tmp_path: Path):
    train = put(tmp_path / "d", "ant/1.jpg", "bee/1.jpg")
    test = put(tmp_path / "t", "ant/9.jpg", "bee/8.txt")
    dataset = opened(train, test=test)
    assert by_part(dataset)[TEST] == [("ant/9.jpg", "ant")]
    assert [item.name for item in dataset.left_out] == ["bee/8.txt"]


def test_a_named_test_takes_the_place_of_the_own_one_and_this_is_said(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "train/ant/1.jpg", "train/bee/1.jpg", "test/ant/2.jpg"), test=put(tmp_path / "t", "bee/9.jpg"))
    assert by_part(dataset)[TEST] == [("bee/9.jpg", "bee")]
    assert any("--test" in said for said in dataset.said)


def test_order_is_natural_and_the_same_every_time(tmp_path: Path):
    folder = put(tmp_path / "d", *(f"{label}/{i}.jpg" for label in ("c10", "c9") for i in (10, 9, 1)))
    names = [e.name for e in opened(folder).examples]
    assert names == ["c9/1.jpg", "c9/9.jpg", "c9/10.jpg", "c10/1.jpg", "c10/9.jpg", "c10/10.jpg"]
    assert names == [e.name for e in opened(folder).examples]


def test_natural_takes_digits_of_other_scripts_as_text():
    assert sorted(["b", "a²", "a10", "a9"], key=natural) == ["a9", "a10", "a²", "b"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_class_folder_that_is_a_link_is_read_or_named(tmp_path: Path):
    """Nothing is lost silently: the files behind the link are examples, or the link is left out by name."""
    folder = put(tmp_path / "d", "ant/1.jpg", "bee/1.jpg")
    elsewhere = put(tmp_path / "e", "1.jpg", "2.jpg")
    (folder / "wasp").symlink_to(elsewhere, target_is_directory=True)
    dataset = opened(folder)
    read = [e for e in dataset.examples if e.label == "wasp"]
    named = [item for item in dataset.left_out if "wasp" in item.name]
    assert len(read) == 2 or named or any("wasp" in said for said in dataset.said)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_in_a_circle_ends(tmp_path: Path):
    folder = put(tmp_path / "d", "ant/1.jpg", "bee/1.jpg")
    (folder / "ant" / "again").symlink_to(folder, target_is_directory=True)
    assert [e.name for e in opened(folder).examples if "again" not in e.name] == ["ant/1.jpg", "bee/1.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="such a name cannot be made on Windows")
@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"new\nline.jpg"])
def test_names_that_are_hard_to_print_can_be_printed(tmp_path: Path, name: bytes):
    put(tmp_path / "d", "ant/1.jpg", "bee/1.jpg")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/d/ant/" + name)).touch()
    except OSError:
        pytest.skip("this file system refuses the name")
    dataset = opened(tmp_path / "d")
    assert len(dataset.examples) == 3
    for example in dataset.examples:
        example.name.encode("utf-8")
        assert "\n" not in example.name


def test_without_labels_a_flat_folder_is_enough(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "1.jpg", "2.jpg"), labelled=False)
    assert [e.name for e in dataset.examples] == ["1.jpg", "2.jpg"]
    assert all(e.label is None for e in dataset.examples)


def test_an_empty_folder(tmp_path: Path):
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError) as raised:
        opened(tmp_path / "d")
    assert str(raised.value) == f"{tmp_path / 'd'} holds no files\n  expected: one sub-folder per class with files in it"


def test_a_folder_of_unknown_files(tmp_path: Path):
    with pytest.raises(DataError, match="holds no images, texts or sounds"):
        opened(put(tmp_path / "d", "a/1.exe", "b/2.exe"))


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "nowhere")


def test_a_table_beside_class_folders_is_not_used_and_this_is_said(tmp_path: Path):
    dataset = opened(put(tmp_path / "d", "ant/1.jpg", "bee/1.jpg", "labels.csv"))
    assert len(dataset.examples) == 2
    assert dataset.left_out == []
    assert any("labels.csv" in said for said in dataset.said)
