"""What every tracker promises: what a session is told can be read back with the tool's own reader, and a run that goes on is one run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regraft.spec import TRACKERS as NAMES
from regraft.trackers import TRACKERS, Opening, load_tracker
from regraft.trackers.base import LONGEST, Point

Read = Callable[[Path, str], tuple[dict[str, list[tuple[int, float]]], dict[str, str], str]]
"""(folder, id) -> curves by name, texts by name, status."""


def read_tensorboard(folder: Path, id: str):
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

    # files of one run are read in the order of their names, as TensorBoard does
    held = EventAccumulator(id, size_guidance={TENSORS: 0})
    held.Reload()
    curves = {tag: [(e.step, e.value) for e in held.Scalars(tag)] for tag in held.Tags()["scalars"]}
    texts = {
        tag.removesuffix("/text_summary").replace("/", "."): held.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
        for tag in held.Tags()["tensors"]
    }
    asked = dict(re.findall(r"^\| (\w+) \| (.*) \|$", texts["asked"], re.MULTILINE))
    return curves, texts | asked, texts["status"]


def read_mlflow(folder: Path, id: str):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "regraft"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == id and run.info.run_name == "photos-1"
    curves = {name: [(m.step, m.value) for m in client.get_metric_history(id, name)] for name in run.data.metrics}
    texts = {name.removeprefix("regraft."): value for name, value in run.data.tags.items()}
    return curves, texts | run.data.params, run.info.status.lower().replace("killed", "interrupted")


def records(data: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes it, after the 7 bytes that wandb puts first: blocks of 32 KB, of pieces with
    (checksum, length, kind), kind being 1 whole, 2 first, 3 middle, 4 last.
    """
    assert data[:4] == b":W&B"
    at, held = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        held += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield held
            held = b""


def read_wandb(folder: Path, id: str):
    from wandb.proto import wandb_internal_pb2 as pb

    curves: dict[str, list[tuple[int, float]]] = {}
    texts: dict[str, str] = {}
    status = ""
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime_ns):
        assert path.name == f"run-{id}.wandb"
        for data in records(path.read_bytes()):
            record = pb.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                for name, value in row.items():
                    step = row.get(f"{name.rpartition('/')[0]}/step")
                    if step is not None and not name.endswith("/step"):
                        curves.setdefault(name, []).append((step, value))
            elif kind == "summary":
                curves |= {i.key: [(0, json.loads(i.value_json))] for i in record.summary.update if not i.key.startswith("training/")}
            elif kind in ("config", "run"):
                config = record.config if kind == "config" else record.run.config
                texts |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in config.update}
            elif kind == "exit":
                status += "finished," if record.exit.exit_code == 0 else "interrupted,"
    return curves, texts, status


STEPS = 1100

READ: dict[str, Read] = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "wandb": read_wandb}


def settled(name: str, folder: Path, id: str, ends: int = 1):
    """What can be read once everything is written: wandb's own process ends its file a moment after it was told to."""
    for _ in range(100):
        found = READ[name](folder, id)
        if name != "wandb" or found[2].count(",") == ends:
            break
        time.sleep(0.1)
    return (*found[:2], found[2].rstrip(",").rpartition(",")[2])


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracker whose packages are installed, as it is without any settings of the user's; no name is looked up."""
    # not imported here: what a tracker sets, it sets before
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    for variable in [v for v in os.environ if v.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(variable)
    looked_up: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *of, **more: looked_up.append(of) or (_ for _ in ()).throw(OSError("no network")))
    tracker, _ = load_tracker(request.param)
    yield tracker.name
    assert not looked_up


def test_the_table_has_those_that_can_be_asked_for():
    assert tuple(TRACKERS) == NAMES
    assert all(name == tracker.name for name, tracker in TRACKERS.items())


def test_what_is_told_can_be_read_back_and_a_run_goes_on(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    tracker, now = TRACKERS[name], time.time()
    session = tracker.open(Opening("photos-1", tmp_path, None, None))
    # more than one call takes
    session.params({"train": "top=1", "data": "photos | more", **{f"p{i}": "x" * LONGEST for i in range(120)}})
    session.notes({"decision.model": "one", "run": "runs/photos-1"})
    session.points([Point("training/fold_1/loss", 1.0 / step, step, now) for step in range(1, STEPS)])
    session.points([Point("training/held_out/accuracy", 0.8, 1, now)])
    session.close("interrupted")
    assert settled(name, tmp_path, session.id)[2] == "interrupted"
    # TensorBoard names files by the second
    time.sleep(1.1 if name == "tensorboard" else 0)
    again = tracker.open(Opening("photos-1", tmp_path, None, session.id))
    assert again.id == session.id
    again.points([Point("training/fold_1/loss", 0.1, STEPS, now), Point("estimate/accuracy", 0.9, None, now)])
    again.notes({"decision.model": "two"})
    again.close("finished")
    curves, texts, status = settled(name, tmp_path, again.id, ends=2)
    assert [step for step, _ in curves["training/fold_1/loss"]] == [*range(1, STEPS + 1)]
    assert curves["training/fold_1/loss"][1][1] == pytest.approx(0.5) and curves["training/fold_1/loss"][-1][1] == pytest.approx(0.1)
    assert curves["training/held_out/accuracy"] == [(1, pytest.approx(0.8))]
    assert curves["estimate/accuracy"] == [(0, pytest.approx(0.9))]
    assert texts["train"] == "top=1" and texts["decision.model"] == "two" and texts["run"] == "runs/photos-1"
    assert status == "finished" and len(texts["p119"]) == LONGEST
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_a_destination_is_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    where = {"tensorboard": "logs", "mlflow": "sqlite:///runs.db", "wandb": "team/birds"}[name]
    session = TRACKERS[name].open(Opening("photos-1", tmp_path / "own", where, None))
    session.points([Point("estimate/accuracy", 0.9, None, time.time())])
    session.close("finished")
    if name == "wandb":
        assert session._run.project == "birds" and session._run.entity == "team"
    else:
        assert (tmp_path / {"tensorboard": "logs/photos-1", "mlflow": "runs.db"}[name]).exists()
        assert not any((tmp_path / "own").iterdir())
