"""What the cut gives is kept: the same bytes whoever computed them, in whatever order, however often it was interrupted."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import passes
import pytest
import torch
from passes import MAKER, Trunk, bytes_of, over
from torch import nn

from regraft.anatomy.freezing import Frozen
from regraft.anatomy.select import Selected
from regraft.errors import DataError, WriteError
from regraft.features import cut_maker, material
from regraft.features.cut import find_cut, identity
from regraft.features.material import gather, largest, narrowed, of_rows, widened
from regraft.modality import MODALITIES
from regraft.strategy.kept import fits, half_for
from regraft.workspace.segments import Segment
from regraft.workspace.store import Space, space_key


def texts(folder: Path, first: int, count: int) -> list[Path]:
    """Files of texts, each of its own length and content."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:03}.txt" for i in range(first, first + count)]
    for i, path in enumerate(paths, first):
        rng = np.random.default_rng(i)
        path.write_text("".join(chr(97 + c) for c in rng.integers(0, 26, int(rng.integers(3, 60)))) + str(i))
    return paths


@pytest.fixture
def hundred(tmp_path: Path) -> list[Path]:
    return texts(tmp_path / "texts", 0, 100)


def undisturbed(paths: list[Path], tmp_path: Path, **options: Any) -> list[bytes]:
    return bytes_of(over(paths, Space(tmp_path / "run", {}, needed=True), **options))


def computed(paths: list[Path], folder: Path) -> int:
    """How many examples a pass over them adds to the store."""
    before = len(Space(folder, MAKER))
    over(paths, Space(folder, MAKER))
    return len(Space(folder, MAKER)) - before


def test_kept_or_computed_anew_in_another_order_by_other_workers_the_same_bits(hundred, tmp_path):
    whole = undisturbed(hundred, tmp_path)
    assert len(set(whole)) > 100, "examples differ, and there are several windows of several shapes"
    store = tmp_path / "store"
    assert bytes_of(over(hundred, Space(store, MAKER))) == whole
    trunk = Trunk()
    assert bytes_of(over(hundred, Space(store, MAKER), trunk)) == whole
    assert trunk.tiles == 0
    order = [int(i) for i in np.random.default_rng(1).permutation(100)]
    other = tmp_path / "other"
    over([hundred[i] for i in order], Space(other, MAKER), workers=5)
    assert bytes_of(over(hundred, Space(other, MAKER))) == whole
    alone = over(hundred[7:8], Space(None, {}), workers=1)
    together = over(hundred, Space(None, {}))
    for window in range(len(alone.example)):
        kept = together.read(together.windows_of(np.array([7]))[window : window + 1])
        assert all(np.array_equal(array, kept[name]) for name, array in alone.read(np.array([window])).items())


def test_ten_more_files_are_ten_more_examples_and_another_name_is_none(hundred, tmp_path):
    store = tmp_path / "store"
    assert computed(hundred, store) == 100
    more = texts(tmp_path / "texts", 100, 10)
    assert computed([*more, *hundred], store) == 10
    renamed = [path.rename(path.with_name(f"other name {path.name}")) for path in hundred]
    twin = tmp_path / "twin.txt"
    twin.write_bytes(renamed[3].read_bytes())
    assert computed([*renamed, twin], store) == 0


def test_a_changed_bit_is_found_said_and_computed_again(hundred, tmp_path, monkeypatch):
    monkeypatch.setattr(material, "FLUSH_BYTES", 4000)
    whole = undisturbed(hundred, tmp_path)
    store = tmp_path / "store"
    over(hundred, Space(store, MAKER))
    segments = sorted(store.glob("*.safetensors"))
    assert len(segments) > 3
    held = len(Segment.open(segments[1]))
    content = segments[1].read_bytes()
    segments[1].write_bytes(content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :])
    said: list[Any] = []
    assert bytes_of(over(hundred, Space(store, MAKER), emit=said.append)) == whole
    assert "1 damaged file in the feature store passed over: the features there are computed again" in [
        getattr(e, "message", "") for e in said
    ]
    assert f"{held} examples computed, {100 - held} already there" in said[-1].note
    trunk = Trunk()
    over(hundred, Space(store, MAKER), trunk, emit=lambda event: said.append(event))
    assert trunk.tiles == 0


def test_five_times_killed_and_finished_the_same_bytes(hundred, tmp_path):
    """Killed at moments that nobody chose: after a number of segments and a part of a tile's time."""
    whole = undisturbed(hundred, tmp_path)
    store, rng = tmp_path / "store", np.random.default_rng(int.from_bytes(os.urandom(4)))
    for _ in range(5):
        before = len(list(store.glob("*.safetensors")))
        process = started(hundred, store, 0.01)
        enough = before + int(rng.integers(1, 12))
        wait_for(lambda: len(list(store.glob("*.safetensors"))) >= enough, process)  # noqa: B023 - called at once
        time.sleep(rng.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    kept = len(Space(store, MAKER))
    assert 5 <= kept < 100, "some was kept, and some is left to do"
    assert computed(hundred, store) == 100 - kept
    assert bytes_of(over(hundred, Space(store, MAKER))) == whole


def test_two_processes_at_once_the_same_bytes(hundred, tmp_path):
    whole, store = undisturbed(hundred, tmp_path), tmp_path / "store"
    both = [started(paths, store, 0.005) for paths in (hundred, hundred[::-1])]
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    assert computed(hundred, store) == 0
    assert bytes_of(over(hundred, Space(store, MAKER))) == whole


def started(paths: list[Path], folder: Path, seconds: float) -> Any:
    """A pass in a process of its own. A server that has imported everything forks it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "regraft.features.material", "regraft.modality"])
    process = context.Process(target=passes.in_a_process, args=(paths, folder, seconds), daemon=True)
    process.start()
    return process


def wait_for(there: Any, process: Any) -> None:
    end = time.monotonic() + 60
    while not there():
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.002)


def test_a_full_disk_is_said_and_what_was_there_stays(hundred, tmp_path, monkeypatch):
    monkeypatch.setattr(material, "FLUSH_BYTES", 4000)
    whole, store = undisturbed(hundred, tmp_path), tmp_path / "store"
    replace, room = os.replace, iter(range(3))

    def full(source: Any, target: Any) -> None:
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as small:
        small.setattr(os, "replace", full)
        with pytest.raises(WriteError, match="cannot be written: No space left on device") as caught:
            over(hundred, Space(store, MAKER, needed=True))
        assert "make room" in str(caught.value.move)
    assert not list(store.glob(".*"))
    there = len(Space(store, MAKER))
    assert 0 < there < 100
    assert computed(hundred, store) == 100 - there
    assert bytes_of(over(hundred, Space(store, MAKER))) == whole


def test_an_interruption_keeps_what_was_computed(hundred, tmp_path):
    hundred[60].unlink()
    with pytest.raises(DataError, match=r"060\.txt has changed during the fit: there is no such file"):
        over(hundred, Space(tmp_path / "store", MAKER), workers=1)
    assert 0 < len(Space(tmp_path / "store", MAKER)) < 100


def test_prepared_windows_are_kept_as_they_are(hundred, tmp_path):
    space = Space(tmp_path / "run", {}, needed=True)
    found = gather([p.name for p in hundred], hundred, MODALITIES["text"], passes.prepare, space)
    for i, path in enumerate(hundred[:20]):
        prepared = passes.prepare(path.read_text())
        windows = found.windows_of(np.array([i]))
        assert found.share[windows].tolist() == pytest.approx([w / sum(prepared.weights) for w in prepared.weights])
        for window, w in zip(prepared.windows, windows, strict=True):
            assert np.array_equal(found.read(np.array([w]))["x"][0], window["x"])


# ---------------------------------------------------------------- half precision


@pytest.mark.parametrize(("precision", "error", "kind"), [("bfloat16", 2.0**-8, "BF16"), ("float16", 2.0**-11, "F16")])
def test_half_precision_rounds_to_the_nearest_and_takes_half(hundred, tmp_path, precision, error, kind):
    space = Space(tmp_path / "half", {})
    half, whole = over(hundred, space, precision=precision), over(hundred, Space(None, {}))
    for w in range(len(whole.example)):
        one, two = half.read(np.array([w])), whole.read(np.array([w]))
        assert one["0"].dtype == np.float32 and one["1"].dtype == bool and np.array_equal(one["1"], two["1"])
        assert (np.abs(one["0"] - two["0"]) <= error * np.abs(two["0"]) + 1e-7).all() and not np.array_equal(one["0"], two["0"])
    (path,) = (tmp_path / "half").glob("*.safetensors")
    assert f'"{kind}"'.encode() in path.read_bytes()


def test_half_precision_is_that_of_pytorch_and_has_no_infinity():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=5000) * 10.0 ** rng.integers(-6, 4, 5000), [0.0, -0.0, np.nan, np.inf, -np.inf, 1e38]])
    values = values.astype(np.float32)
    ours = widened(narrowed(values, "bfloat16"))
    assert np.array_equal(ours, torch.from_numpy(values).bfloat16().float().numpy(), equal_nan=True)
    ours = widened(narrowed(values, "float16"))
    theirs = torch.from_numpy(values).clamp(-65504, 65504).half().float().numpy()
    assert np.array_equal(ours, theirs, equal_nan=True) and not np.isinf(ours).any()
    assert narrowed(np.arange(3), "float16").dtype == np.int64 and narrowed(values, "float32") is values
    with pytest.raises(ValueError, match="float8"):
        narrowed(values, "float8")
    assert of_rows(values[:, None]).read(np.array([4]))["input"].dtype == np.float32


def test_which_half_precision_and_when(hundred):
    assert fits(50, 100) and not fits(51, 100)
    assert [half_for(x) for x in (0, 1, 4094, 4095, 1e9)] == ["float16"] * 3 + ["bfloat16"] * 2

    class Loud(Trunk):
        def __call__(self, windows: Any) -> Any:
            return [{"0": np.array([-5000.0, 3], np.float32), "1": np.array([10**9])} for _ in windows]

    assert largest(hundred[:4], MODALITIES["text"], passes.prepare, Loud()) == 5000


# ---------------------------------------------------------------- what it is known by


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks(self.norm(self.stem(x))).mean((2, 3)))


def known(change: Any = lambda network: None, trained: tuple[str, ...] = ("blocks.1", "head")) -> dict[str, Any]:
    torch.manual_seed(0)
    network = Small().eval()
    change(network)
    return identity(find_cut(network, {"x": torch.rand(2, 3, 12, 12)}, Frozen(Selected(trained))))


def test_a_cut_is_known_by_what_comes_before_it():
    cut = known()
    assert cut["after"] == "blocks.0" and [t["shape"] for t in cut["tensors"]] == [[4, 8, 8]]
    assert known() == cut, "in another network with the same weights"

    def other_rest(network: Any) -> None:
        nn.init.normal_(network.blocks[1].weight)
        network.head = nn.Linear(4, 9)

    def other_names(network: Any) -> None:
        network.norm.running_mean = nn.Buffer(network.norm.running_mean.clone())
        network.blocks[1].added = nn.Parameter(torch.ones(1))

    assert known(other_rest) == cut and known(other_names) == cut
    # what trains after the same cut does not enter either
    assert known(trained=("blocks.1.weight", "head")) == cut


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.norm.running_var.mul_(1.01),
        lambda n: n.stem.bias.data.add_(1e-6),
        lambda n: n.to(memory_format=torch.channels_last),
        lambda n: setattr(n.norm, "eps", 1e-3),
        lambda n: setattr(n, "norm", nn.Sequential(n.norm, nn.ReLU())),
    ],
)
def test_what_changes_a_bit_before_the_cut_changes_what_it_is_known_by(change):
    one, other = known(), known(lambda network: torch.no_grad()(change)(network))
    assert (one["operations"], one["weights"]) != (other["operations"], other["weights"])


def test_the_maker_of_what_a_cut_gives():
    given: dict[str, Any] = {
        "cut": known(),
        "network": "small",
        "preprocessing": {"size": 12},
        "modality": MODALITIES["image"],
        "tile": 4,
        "device": "cpu",
        "precision": "float32",
        "files": {"tokenizer.json": "a"},
    }
    others = {
        "cut": known(lambda n: n.stem.bias.data.add_(1)),
        "preprocessing": {"size": 24},
        "modality": dataclasses.replace(MODALITIES["image"], name="other"),
        "tile": 8,
        "device": "cuda:0",
        "precision": "float16",
        "files": {"tokenizer.json": "b"},
    }
    keys = {space_key(cut_maker(**{**given, name: value})) for name, value in others.items()}
    assert len(keys | {space_key(cut_maker(**given))}) == 1 + len(others)
