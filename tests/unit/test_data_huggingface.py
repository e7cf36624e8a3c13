"""Data sets of the library `datasets`: objects and saved folders, and folders made to harm."""

from __future__ import annotations

import io
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft.data import Dataset, open_data, open_inputs
from regraft.data import huggingface as reader
from regraft.data.base import TEST, TRAIN
from regraft.errors import DataError, Unreadable, UsageError
from regraft.jobs.common import asked
from regraft.modality import MODALITIES
from regraft.modality.base import Stored

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (9, 7), (number * 40 % 256, 90, 200)).save(out, "PNG")
    return out.getvalue()


def wav(number: int) -> bytes:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(4_000) * (number + 1) / 9).astype(np.float32) / 2, 16_000, format="WAV")
    return out.getvalue()


CLASSES = datasets.ClassLabel(names=["ant", "bee"])


def pictures(count: int = 4) -> Any:
    rows = {
        "id": [f"n{i}" for i in range(count)],
        "image": [{"bytes": png(i), "path": f"/far/away/{i}.png"} for i in range(count)],
        "label": [i % 2 for i in range(count)],
    }
    features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image(), "label": CLASSES})
    return datasets.Dataset.from_dict(rows, features=features)


def sounds(count: int) -> Any:
    """Made without the library's own encoding, which needs another package for sounds."""
    features = datasets.Features({"audio": datasets.Audio(sampling_rate=8000), "word": datasets.Value("string")})
    rows = {"audio": [{"bytes": wav(i), "path": None} for i in range(count)], "word": ["ab"[i % 2] for i in range(count)]}
    table = pyarrow.table(rows, schema=pyarrow.schema([(n, features.arrow_schema.field(n).type) for n in rows]))
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features))


def texts(count: int = 4, **columns: list[Any]) -> Any:
    return datasets.Dataset.from_dict(
        {"text": [f"text number {i}" for i in range(count)], "label": ["ant" if i % 2 == 0 else "bee" for i in range(count)], **columns}
    )


def opened(source: Any, **options: Any) -> Dataset:
    labelled = options.pop("labelled", True)
    given = {name: options.pop(name, None) for name in ("task", "input", "label")}
    return open_data(source, asked(*given.values(), **options, labelled=labelled))


def as_object(data: Any, folder: Path) -> Any:
    return data


def as_folder(data: Any, folder: Path) -> Any:
    data.save_to_disk(folder / "saved")
    return folder / "saved"


BOTH = pytest.mark.parametrize("given", [as_object, as_folder])


# ---------------------------------------------------------------- what is read


@BOTH
def test_images_and_classes(given: Callable[..., Any], tmp_path: Path):
    dataset = opened(given(pictures(), tmp_path))
    assert dataset.task == "image"
    assert [(e.name, e.label) for e in dataset.examples] == [(f"train[{i}]: {i}.png", ["ant", "bee"][i % 2]) for i in range(4)]
    assert dataset.said == ["input column: image (images)", "label column: label (not used: id)"]
    assert dataset.decisions["layout"] == "huggingface"


@BOTH
def test_an_image_inside_is_the_same_as_in_a_file(given: Callable[..., Any], tmp_path: Path):
    load = MODALITIES["image"].load
    (tmp_path / "x.png").write_bytes(png(3))
    source = opened(given(pictures(), tmp_path)).examples[3].source
    assert isinstance(source, Stored) and source.read() == png(3)
    assert load(source).identity == load(tmp_path / "x.png").identity


@BOTH
def test_sounds(given: Callable[..., Any], tmp_path: Path):
    dataset = opened(given(sounds(3), tmp_path))
    assert (dataset.task, [e.name for e in dataset.examples]) == ("audio", ["train[0]", "train[1]", "train[2]"])
    decoded = MODALITIES["audio"].load(dataset.examples[1].source).decode()
    assert decoded.shape == (4_000,)


@BOTH
def test_texts(given: Callable[..., Any], tmp_path: Path):
    dataset = opened(given(texts(), tmp_path))
    assert [(e.name, e.source, e.label) for e in dataset.examples[:2]] == [
        ("train[0]: text number 0", "text number 0", "ant"),
        ("train[1]: text number 1", "text number 1", "bee"),
    ]


@BOTH
def test_rows_that_were_chosen_and_shuffled(given: Callable[..., Any], tmp_path: Path):
    data = pictures(8).shuffle(seed=3).select([5, 0, 2, 3])
    dataset = opened(given(data, tmp_path))
    whole = data.cast_column("image", datasets.Image(decode=False))
    assert [e.label for e in dataset.examples] == [CLASSES.names[i] for i in whole["label"]]
    assert [e.source.read() for e in dataset.examples] == [row["image"]["bytes"] for row in whole]


def test_files_that_an_object_names(tmp_path: Path):
    (tmp_path / "1.png").write_bytes(png(1))
    data = datasets.Dataset.from_dict({"image": [str(tmp_path / "1.png"), "https://example.org/2.png", None], "label": ["a", "b", "a"]})
    dataset = opened(data.cast_column("image", datasets.Image()))
    assert [e.source for e in dataset.examples] == [tmp_path / "1.png"]
    assert [(item.name, item.reason) for item in dataset.left_out] == [
        ("train[1]: 2.png", "it lies elsewhere, and regraft opens no connection"),
        ("train[2]", "there is neither content nor a path"),
    ]


def test_lists_of_classes_and_of_values_are_json(tmp_path: Path):
    tags = [[0], [0, 1], [], None]
    features = datasets.Features(
        {"text": datasets.Value("string"), "tags": [CLASSES] if not hasattr(datasets, "List") else datasets.List(CLASSES)}
    )
    data = datasets.Dataset.from_dict({"text": list("abcd"), "tags": tags}, features=features)
    dataset = opened(data, input="text", label="tags")
    assert [e.label for e in dataset.examples] == ['["ant"]', '["ant", "bee"]', "[]"]
    assert [item.reason for item in dataset.left_out] == ["the label is missing"]


@BOTH
def test_input_label_and_group_are_honoured(given: Callable[..., Any], tmp_path: Path):
    data = texts(4, other=list("wxyz"), kind=[1.0, 2.0, 1.0, 2.0], speaker=["s", "t", "", "t"])
    dataset = opened(given(data, tmp_path), input="other", label="kind", group="speaker")
    assert [(e.source, e.label, e.group) for e in dataset.examples] == [("w", "1", "s"), ("x", "2", "t"), ("z", "2", "t")]
    assert [item.reason for item in dataset.left_out] == ["the group is missing"]


def test_a_column_that_is_not_there_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'label'"):
        opened(texts(), label="lable")


def test_a_class_label_wins_where_no_name_tells():
    features = datasets.Features({"say": datasets.Value("string"), "where": datasets.Value("string"), "kind": CLASSES})
    data = datasets.Dataset.from_dict({"say": ["a b", "c d"], "where": ["x", "x"], "kind": [0, 1]}, features=features)
    assert [e.label for e in opened(data, input="say").examples] == ["ant", "bee"]


def test_labels_sorted_by_class_are_found():
    """The first 2,000 rows hold one class only."""
    data = datasets.Dataset.from_dict({"text": [f"sentence {i}" for i in range(6000)], "kind": [str(i // 3000) for i in range(6000)]})
    assert opened(data).decisions["label"] == "kind"


def test_a_task_that_the_column_is_not():
    with pytest.raises(UsageError, match="the column image of the data set holds images"):
        opened(pictures(), task="audio", input="image")
    with pytest.raises(DataError, match="holds images, not labels"):
        opened(pictures(), task="text", input="id", label="image")


def test_text_is_read_where_it_is_asked_for():
    dataset = opened(pictures(), task="text", input="id")
    assert [e.source for e in dataset.examples] == ["n0", "n1", "n2", "n3"]


def test_missing_labels_and_empty_texts_are_named():
    features = datasets.Features({"text": datasets.Value("string"), "label": CLASSES})
    rows = {"text": ["a", None, " ", "d", "e"], "label": [0, 1, 1, -1, None]}
    dataset = opened(datasets.Dataset.from_dict(rows, features=features))
    assert [e.name for e in dataset.examples] == ["train[0]: a"]
    assert [(item.name, item.reason) for item in dataset.left_out] == [
        ("train[1]", "the text is empty"),
        ("train[2]", "the text is empty"),
        ("train[3]: d", "the label is missing"),
        ("train[4]: e", "the label is missing"),
    ]


# ---------------------------------------------------------------- splits


def dict_of(**counts: int) -> Any:
    return datasets.DatasetDict({name: texts(count) for name, count in counts.items()})


def parts(dataset: Dataset) -> dict[str, set[str]]:
    return {part: {e.name.partition("[")[0] for e in dataset.part(part)} for part in (TRAIN, TEST)}


@BOTH
@pytest.mark.parametrize(
    ("names", "train", "test", "said"),
    [
        (["train", "test"], {"train"}, {"test"}, ""),
        (["train", "validation"], {"train"}, {"validation"}, "validation is treated as the test part: there is no test split"),
        (
            ["test", "train", "validation"],
            {"train", "validation"},
            {"test"},
            "validation joins the training part: choices are cross-validated; test is for testing only",
        ),
        (["train", "unsupervised", "test"], {"train"}, {"test"}, "the split unsupervised is not used"),
        (["test"], {"test"}, set(), ""),
        (["odd"], {"odd"}, set(), ""),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, list) else "",
)
def test_splits_become_parts(given: Callable[..., Any], tmp_path: Path, names: list[str], train: set, test: set, said: str):
    dataset = opened(given(dict_of(**{name: 4 + i for i, name in enumerate(names)}), tmp_path))
    assert parts(dataset) == {TRAIN: train, TEST: test}
    assert not said or said in dataset.said


def test_a_test_split_without_labels_is_not_used():
    hidden = texts(6).remove_columns("label").add_column("label", [None] * 6)
    dataset = opened(datasets.DatasetDict({"train": texts(4), "validation": texts(2), "test": hidden}))
    assert parts(dataset) == {TRAIN: {"train"}, TEST: {"validation"}}
    assert "test has no labels and is not used" in dataset.said


def test_splits_that_cannot_be_told_apart():
    with pytest.raises(DataError, match="has the splits a, b"):
        opened(dict_of(a=4, b=4))
    with pytest.raises(DataError, match="two names for one part"):
        opened(dict_of(train=4, val=4, validation=4))
    with pytest.raises(DataError, match="has no rows"):
        opened(datasets.DatasetDict({}))
    with pytest.raises(DataError, match="has no rows"):
        opened(texts(0))


def test_a_split_with_other_columns():
    data = datasets.DatasetDict({"train": texts(4), "test": texts(4).rename_column("label", "other")})
    with pytest.raises(DataError, match="the split test of the data set has no column 'label'"):
        opened(data)


def test_a_split_column_of_the_only_split():
    dataset = opened(texts(4, split=["train", "test", "train", "validation"]))
    assert [e.part for e in dataset.examples] == [TRAIN, TEST, TRAIN, TRAIN]


def test_a_stream_is_refused():
    with pytest.raises(DataError, match="gives its examples once") as raised:
        opened(texts().to_iterable_dataset())
    assert "streaming" in raised.value.move


# ---------------------------------------------------------------- inputs to predict


@BOTH
def test_inputs_without_labels(given: Callable[..., Any], tmp_path: Path):
    data = datasets.DatasetDict({"train": pictures(2).remove_columns("label"), "odd": pictures(1).remove_columns("label")})
    found = open_inputs([given(data, tmp_path)], asked("image", None, None, labelled=False))
    assert [e.name for e in found.examples] == ["train[0]: 0.png", "train[1]: 1.png", "odd[0]: 0.png"]
    assert [e.source.read() for e in found.examples] == [png(0), png(1), png(0)]


# ---------------------------------------------------------------- large ones


def test_a_hundred_thousand_rows_are_opened_without_their_content(tmp_path: Path):
    count = 100_000
    contents = pyarrow.StructArray.from_arrays(
        [pyarrow.array([b"x" * 1000]).take(pyarrow.array([0] * count)), pyarrow.array([f"{i}.png" for i in range(count)])],
        ["bytes", "path"],
    )
    features = datasets.Features({"image": datasets.Image(), "label": CLASSES})
    table = pyarrow.table({"image": contents, "label": pyarrow.array([i % 2 for i in range(count)], pyarrow.int64())})
    datasets.Dataset(table.cast(features.arrow_schema), info=datasets.DatasetInfo(features=features)).save_to_disk(tmp_path / "s")
    before = pyarrow.total_allocated_bytes()
    dataset = opened(tmp_path / "s")
    assert len(dataset.examples) == count
    assert pyarrow.total_allocated_bytes() - before < 30_000_000, "100 MB of content stay on disk"
    assert len(dataset.examples[-1].source.read()) == 1000


def test_more_rows_than_are_held(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reader, "ROW_LIMIT", 3)
    with pytest.raises(DataError, match="the split train has 4 rows"):
        opened(texts(4))


# ---------------------------------------------------------------- folders that are damaged, or made to harm


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


@pytest.mark.parametrize("name", ["../other/data.arrow", "/etc/passwd", "..", "", "a/b.arrow", "C:x", "file://x", "a\\b"])
def test_a_data_file_outside_the_folder_is_refused(tmp_path: Path, name: str):
    folder = as_folder(texts(), tmp_path)
    change_json(folder / "state.json", _data_files=[{"filename": name}])
    with pytest.raises(DataError, match="leaves its folder"):
        opened(folder)


@pytest.mark.parametrize("names", [["../.."], ["/etc"], ["a/b"]])
def test_a_split_outside_the_folder_is_refused(tmp_path: Path, names: list[str]):
    folder = as_folder(dict_of(train=4), tmp_path)
    change_json(folder / "dataset_dict.json", splits=names)
    with pytest.raises(DataError, match="leaves its folder"):
        opened(folder)


def test_a_path_of_an_image_that_leaves_the_folder(tmp_path: Path):
    table = pyarrow.table({"image": ["../secret.png", "in/side.png"], "label": ["a", "b"]})
    features = datasets.Features({"image": datasets.Value("string"), "label": datasets.Value("string")})
    folder = as_folder(datasets.Dataset(table, info=datasets.DatasetInfo(features=features)), tmp_path)
    dataset = opened(folder)
    assert [e.source for e in dataset.examples] == [folder / "in" / "side.png"]
    assert [item.reason for item in dataset.left_out] == ["the path leaves the data set's folder"]


@pytest.mark.parametrize("file", ["state.json", "dataset_info.json"])
@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", '{"_data_files": 3, "features": 3}', '{"_data_files": [3], "features": []}']
)
def test_descriptions_that_are_damaged(tmp_path: Path, file: str, content: str):
    folder = as_folder(texts(), tmp_path)
    (folder / file).write_text(content, encoding="utf-8")
    if (file, content) == ("dataset_info.json", '{"_data_files": [3], "features": []}'):
        assert len(opened(folder).examples) == 4, "without a description, the types of the columns tell"
        return
    with pytest.raises(DataError):
        opened(folder)


@pytest.mark.parametrize("features", [{"label": {"_type": "ClassLabel", "names": 3}}, {"label": {"_type": "ClassLabel", "names": [1]}}])
def test_classes_that_are_damaged(tmp_path: Path, features: Any):
    folder = as_folder(pictures(), tmp_path)
    change_json(folder / "dataset_info.json", features=features)
    with pytest.raises(DataError, match="classes of the column 'label' are damaged"):
        opened(folder)


def test_a_label_beyond_the_classes(tmp_path: Path):
    folder = as_folder(pictures(), tmp_path)
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    info["features"]["label"]["names"] = ["only"]
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(DataError, match="holds 1, and it has 1 classes"):
        opened(folder)


def arrow_of(folder: Path) -> Path:
    (path,) = folder.glob("*.arrow")
    return path


def test_an_arrow_file_that_is_missing_or_cut_off(tmp_path: Path):
    path = arrow_of(folder := as_folder(pictures(), tmp_path))
    whole = path.read_bytes()
    for length in (0, 3, 40, len(whole) // 2, len(whole) - 60):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="is not an Arrow file|has no rows|has no column"):
            opened(folder)
    path.unlink()
    with pytest.raises(DataError, match="is not an Arrow file that can be read"):
        opened(folder)


def test_an_arrow_file_with_other_bytes_in_it(tmp_path: Path):
    """Offsets that point beyond the file are found before anything follows them."""
    path = arrow_of(folder := as_folder(pictures(), tmp_path))
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + b"\xff\xff\xff\x7f"[: len(whole) - place] + whole[place + 4 :])
        try:
            for example in opened(folder).examples:
                example.source.read() if isinstance(example.source, Stored) else None
        except (DataError, UsageError, Unreadable) as error:
            assert str(error)


def test_a_compressed_arrow_file_is_refused(tmp_path: Path):
    path = arrow_of(folder := as_folder(texts(), tmp_path))
    table = pyarrow.table({"text": ["x" * 100_000] * 50, "label": ["a", "b"] * 25})
    for compression in ("zstd", None):
        with pyarrow.ipc.new_stream(path, table.schema, options=pyarrow.ipc.IpcWriteOptions(compression=compression)) as writer:
            writer.write_table(table, max_chunksize=20)
        if compression:
            with pytest.raises(DataError, match="is compressed"):
                opened(folder)
    assert len(opened(folder).examples) == 50


class Harm:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore")
def test_nothing_in_a_saved_folder_executes(tmp_path: Path):
    trap = tmp_path / "executed"
    harm = pickle.dumps(Harm(trap))
    folder = as_folder(texts(), tmp_path)
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": harm, b"huggingface": harm}
    fields = [pyarrow.field("text", pyarrow.string()), pyarrow.field("label", pyarrow.string())]
    fields += [pyarrow.field("trap", pyarrow.binary(), metadata=metadata)]
    schema = pyarrow.schema(fields, metadata=metadata)
    table = pyarrow.table({"text": ["a", "b"], "label": ["x", "y"], "trap": [harm, harm]}, schema=schema)
    with pyarrow.ipc.new_stream(arrow_of(folder), table.schema) as writer:
        writer.write_table(table)
    change_json(folder / "state.json", _format_type="custom", _format_kwargs={"transform": "os.system"}, _fingerprint="../../x")
    change_json(folder / "dataset_info.json", builder_name="evil", features={"text": {"_type": "os.system", "dtype": "__import__('os')"}})
    (folder / "evil.py").write_text(f"open({str(trap)!r}, 'w')", encoding="utf-8")
    assert len(opened(folder).examples) == 2
    assert not trap.exists()


def test_a_saved_folder_is_read_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = as_folder(pictures(), tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(opened(folder).examples) == 4
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Exception, match=r"pip install 'regraft\[datasets\]'"):
        opened(folder)


def test_types_of_other_libraries_with_the_same_name_are_not_taken():
    class Dataset:
        pass

    assert not reader.fits(Dataset()) and not reader.fits({"train": texts()}) and not reader.fits([texts()])


@pytest.mark.weights
@pytest.mark.parametrize("make", [sounds, texts])
def test_a_fit_from_an_object_to_predictions(tmp_path: Path, make: Callable[[int], Any]):
    import regraft

    data = make(12)
    run = regraft.fit(data, out=str(tmp_path / "run"), threads=1)
    assert run.result["left_out"] == [] and run.result["n"] == 12
    again = regraft.fit(as_folder(data, tmp_path), out=str(tmp_path / "again"), threads=1)
    assert run.result["estimate"] == again.result["estimate"]
    assert [p.to_json() for p in run.predict(data)] == [p.to_json() for p in again.predict(tmp_path / "saved")]
