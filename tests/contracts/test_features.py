"""The frozen part, run once: a row is a function of the example, the network and the settings alone.

Networks are small random ones with batch norm and attention-free layers; the inputs are real files of every modality.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import shutil
import threading
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft.errors import ModelError
from regraft.features import Extracted, extract, stream
from regraft.modality import MODALITIES, Modality
from regraft.workspace.store import Space, Store, space_key

torch = pytest.importorskip("torch")
nn = torch.nn

TILE = 4
COUNT = 14
RATE = 16_000


class ImageNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 12, 5, stride=2), nn.BatchNorm2d(12)
        self.deep = nn.Conv2d(12, 24, 3, groups=4)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.deep(torch.relu(self.norm(self.conv(x))))).mean((2, 3))


class TextNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(200, 24)
        self.mix = nn.TransformerEncoderLayer(24, 2, 48, batch_first=True)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        hidden = self.mix(self.words(input_ids), src_key_padding_mask=attention_mask == 0)
        mask = attention_mask[..., None].float()
        return (hidden * mask).sum(1) / mask.sum(1)


class SoundNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(80, 24, 3, stride=2, padding=1)

    def forward(self, mel: Any, positions: Any) -> Any:
        hidden = torch.nn.functional.gelu(self.conv(mel))
        mask = (torch.arange(hidden.shape[2])[None] < positions[:, None])[:, None].float()
        return (hidden * mask).sum(2) / mask.sum(2)


def write_image(path: Path, i: int) -> None:
    rng = np.random.default_rng(i)
    size = (int(rng.integers(30, 70)), int(rng.integers(30, 70)), 3)
    Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)


def write_text(path: Path, i: int) -> None:
    rng = np.random.default_rng(i)
    path.write_text(" ".join(f"w{k}" for k in rng.integers(0, 190, int(rng.integers(1, 40)))), encoding="utf-8")


def write_sound(path: Path, i: int) -> None:
    """A third of a second to five seconds: one to six windows of one second."""
    rng = np.random.default_rng(i)
    seconds = 0.3 + 4.8 * i / COUNT
    tone = np.sin(2 * np.pi * rng.uniform(200, 900) * np.arange(int(seconds * RATE)) / RATE) * rng.uniform(0.2, 0.8)
    samples = tone + rng.normal(size=len(tone)) * np.linspace(0.01, 0.3, len(tone))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def word_tokenizer(folder: Path) -> dict[str, Path]:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {f"w{i}": i + 2 for i in range(190)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return {"tokenizer.json": folder / "tokenizer.json"}


def sound_libraries(folder: Path) -> dict[str, Path]:
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    return {}


@dataclass
class Kind:
    """What one modality needs to be put to the test."""

    ending: str
    write: Callable[[Path, int], None]
    network: Callable[[], Any]
    preprocessing: dict[str, Any]
    needs: Callable[[Path], dict[str, Path]] = lambda folder: {}


KINDS = {
    "image": Kind(
        ".png",
        write_image,
        ImageNet,
        {"size": 24, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3},
    ),
    "text": Kind(".txt", write_text, TextNet, {"tokenizer": "tokenizer.json", "max_tokens": 32, "pad_id": 0}, word_tokenizer),
    "audio": Kind(".wav", write_sound, SoundNet, {"window_seconds": 1}, sound_libraries),
}


class Watched:
    """A trunk that counts what goes through it, and can be told to break at a call."""

    def __init__(self, trunk: Any, breaks_at: int | None) -> None:
        self.trunk, self.breaks_at, self.tile, self.side_by_side = trunk, breaks_at, trunk.tile, trunk.side_by_side
        self.calls = self.windows = 0

    def __call__(self, windows: Sequence[Any]) -> np.ndarray:
        assert 1 <= len(windows) <= self.tile
        self.calls += 1
        if self.calls == self.breaks_at:
            raise KeyboardInterrupt
        self.windows += len(windows)
        return self.trunk(windows)


class Bench:
    """Files of one modality, a network, and the pass."""

    def __init__(self, name: str, folder: Path) -> None:
        self.kind, self.modality, self.folder = KINDS[name], MODALITIES[name], folder
        folder.mkdir(parents=True, exist_ok=True)
        self.prepare = self.modality.preparer(self.kind.preprocessing, self.kind.needs(folder))
        torch.manual_seed(0)
        self.network = self.kind.network()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        self.paths = [folder / f"{i:02d}{self.kind.ending}" for i in range(COUNT)]
        for i, path in enumerate(self.paths):
            self.kind.write(path, i)
        self.opened = 0
        self.last: Watched | None = None

    def space(self) -> Space:
        return Space(self.folder / "space", {"for": "tests"})

    def run(
        self,
        space: Space,
        paths: Sequence[Path] | None = None,
        *,
        workers: int = 2,
        modality: Modality | None = None,
        breaks_at: int | None = None,
        summaries: Space | None = None,
    ) -> Extracted:
        from regraft.features.engines.torch import TorchTrunk

        def trunk() -> Watched:
            self.opened += 1
            self.last = Watched(TorchTrunk(self.network, self.modality, self.kind.preprocessing, TILE, "cpu"), breaks_at)
            return self.last

        paths = self.paths if paths is None else paths
        names = [p.name for p in paths]
        return extract(names, paths, modality or self.modality, trunk, self.prepare, space, summaries=summaries, workers=workers)


@pytest.fixture(params=list(KINDS))
def bench(request, tmp_path):
    return Bench(request.param, tmp_path / "bench")


def anew() -> Space:
    return Space(None, {})


def same_bits(one: np.ndarray, two: np.ndarray) -> bool:
    return one.shape == two.shape and one.dtype == two.dtype == np.float32 and one.tobytes() == two.tobytes()


def test_stored_is_what_would_be_computed_anew(bench):
    first = bench.run(bench.space())
    assert first.computed == COUNT and first.kept == list(range(COUNT)) and first.features.shape == (COUNT, 24)
    assert np.isfinite(first.features).all() and len(np.unique(first.features, axis=0)) == COUNT
    stored = bench.run(bench.space())
    assert stored.computed == 0 and bench.opened == 1, "the network is not even opened"
    assert same_bits(stored.features, first.features)
    assert same_bits(bench.run(anew()).features, first.features)


def test_the_order_of_the_sources_changes_no_bit(bench):
    whole = bench.run(anew()).features
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(COUNT)
        assert same_bits(bench.run(anew(), [bench.paths[i] for i in order]).features, whole[order])


def test_neighbours_change_no_bit(bench):
    whole = bench.run(anew()).features
    for i, path in enumerate(bench.paths):
        assert same_bits(bench.run(anew(), [path]).features, whole[i : i + 1]), path.name
    half = bench.run(anew(), bench.paths[1::2]).features
    assert same_bits(half, whole[1::2])


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_number_of_workers_changes_no_bit(bench, workers):
    assert same_bits(bench.run(anew(), workers=workers).features, bench.run(anew(), workers=2).features)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(bench, threads):
    """Whatever PyTorch was told before, a tile runs on one core: on more, kernels add in another order."""
    whole = bench.run(anew(), workers=1).features
    torch.set_num_threads(threads)
    assert same_bits(bench.run(anew(), workers=threads).features, whole)
    assert torch.get_num_threads() == threads, "what comes after the pass has them again"


class Meeting:
    """A trunk whose calls wait for each other; it notes how many ran at once, where, and with how many threads a kernel."""

    tile = 1

    def __init__(self, side_by_side: bool, meet: int) -> None:
        self.side_by_side, self.barrier = side_by_side, threading.Barrier(meet, timeout=20)
        self.threads: set[int] = set()
        self.kernels: set[int] = set()

    def __call__(self, windows: Sequence[Any]) -> np.ndarray:
        self.barrier.wait()
        self.threads.add(threading.get_ident())
        self.kernels.add(torch.get_num_threads())
        return np.ones((len(windows), 2), np.float32)


def passed(tmp_path: Path, trunk: Any, workers: int, count: int = 6) -> list[Any]:
    kind = KINDS["image"]
    paths = [tmp_path / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        kind.write(path, i)
    modality = dataclasses.replace(MODALITIES["image"], chunk=1)
    return list(stream(paths, modality, lambda: trunk, modality.preparer(kind.preprocessing, {}), workers=workers))


def test_tiles_run_side_by_side_on_one_core_each(tmp_path):
    trunk = Meeting(True, 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rows = passed(tmp_path, trunk, workers=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(rows) == 6 and len(trunk.threads) == 2 and threading.get_ident() not in trunk.threads
    assert trunk.kernels == {1}


def test_a_gpu_gets_one_tile_at_a_time(tmp_path):
    trunk = Meeting(False, 1)
    assert len(passed(tmp_path, trunk, workers=3)) == 6
    assert trunk.threads == {threading.get_ident()}


@pytest.mark.parametrize("side_by_side", [True, False])
def test_an_error_in_a_tile_reaches_the_caller_and_no_thread_is_left(tmp_path, side_by_side):
    class Broken:
        tile = 2

        def __init__(self) -> None:
            self.side_by_side = side_by_side

        def __call__(self, windows: Sequence[Any]) -> np.ndarray:
            raise ModelError("the network is broken")

    with pytest.raises(ModelError, match="the network is broken"):
        passed(tmp_path, Broken(), workers=2, count=40)
    assert not [t for t in threading.enumerate() if t.name.startswith("regraft")]


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_size_of_chunks_changes_no_bit(bench, chunk):
    other = dataclasses.replace(bench.modality, chunk=chunk)
    assert same_bits(bench.run(anew(), modality=other).features, bench.run(anew()).features)


def test_how_often_the_store_is_written_changes_no_bit(bench, monkeypatch):
    whole = bench.run(anew()).features
    monkeypatch.setattr(importlib.import_module("regraft.features.extract"), "FLUSH_ROWS", 1)
    assert same_bits(bench.run(bench.space()).features, whole)
    assert len(list((bench.folder / "space").glob("*.ids.npy"))) == COUNT
    again = bench.run(bench.space())
    assert again.computed == 0 and same_bits(again.features, whole)


@pytest.mark.parametrize("breaks_at", [2, 3])
def test_an_interrupted_pass_goes_on_where_it_stopped(bench, breaks_at):
    whole = bench.run(anew()).features
    with pytest.raises(KeyboardInterrupt):
        # one worker, so that the tiles run one after the other
        bench.run(bench.space(), breaks_at=breaks_at, workers=1)
    kept = len(bench.space())
    assert 0 < kept < COUNT, "what was computed before the interruption is kept"
    if bench.modality.name == "image":
        assert kept == (breaks_at - 1) * TILE
    rest = bench.run(bench.space())
    assert rest.computed == COUNT - kept
    if bench.modality.name != "audio":
        assert bench.last.windows == COUNT - kept, "nothing goes through the network twice"
    assert same_bits(rest.features, whole)


def test_an_interrupted_pass_leaves_no_half_written_files(bench):
    with pytest.raises(KeyboardInterrupt):
        bench.run(bench.space(), breaks_at=2)
    names = {p.name for p in (bench.folder / "space").iterdir()}
    assert not [n for n in names if n.endswith(".part")]
    assert {n.removesuffix(".ids.npy") for n in names if n.endswith(".ids.npy")} == {
        n.removesuffix(".rows.npy") for n in names if n.endswith(".rows.npy")
    }


def test_renamed_and_moved_files_are_known(bench):
    first = bench.run(bench.space())
    moved = bench.folder / "elsewhere"
    moved.mkdir()
    paths = [path.rename(moved / f"other name {COUNT - i}{path.suffix}") for i, path in enumerate(bench.paths)]
    for path in paths:
        os.utime(path, (1, 1))
    again = bench.run(bench.space(), paths)
    assert again.computed == 0 and bench.opened == 1
    assert same_bits(again.features, first.features)


def test_a_changed_file_alone_is_computed_again(bench):
    first = bench.run(bench.space())
    facts = bench.paths[5].stat()
    bench.kind.write(bench.paths[5], 99)
    os.utime(bench.paths[5], ns=(facts.st_atime_ns, facts.st_mtime_ns))
    again = bench.run(bench.space())
    assert again.computed == 1
    others = [i for i in range(COUNT) if i != 5]
    assert same_bits(again.features[others], first.features[others])
    assert not same_bits(again.features[5:6], first.features[5:6])


@pytest.mark.parametrize("workers", [1, 4])
def test_equal_content_is_computed_once(bench, workers):
    copies = [bench.folder / f"copy {i}{bench.kind.ending}" for i in range(4)]
    for i, copy in enumerate(copies):
        shutil.copyfile(bench.paths[i], copy)
    alone = bench.run(anew())
    windows = bench.last.windows
    both = bench.run(bench.space(), [*copies, *bench.paths], workers=workers)
    assert both.computed == COUNT and bench.last.windows == windows
    assert same_bits(both.features[:4], alone.features[:4]) and same_bits(both.features[4:], alone.features)
    assert both.identities[:4] == both.identities[4:8]
    assert len(bench.space()) == COUNT


def test_every_source_gives_exactly_one_row(bench):
    from regraft.features.engines.torch import TorchTrunk

    bad = bench.folder / f"bad{bench.kind.ending}"
    bad.write_bytes(b"")
    twin = bench.folder / f"twin{bench.kind.ending}"
    shutil.copyfile(bench.paths[2], twin)
    sources = [bad, twin, *bench.paths, bad, bench.folder / f"absent{bench.kind.ending}"]
    trunk = lambda: TorchTrunk(bench.network, bench.modality, bench.kind.preprocessing, TILE, "cpu")
    rows = list(stream(sources, bench.modality, trunk, bench.prepare))
    assert sorted(row.index for row in rows) == list(range(len(sources)))
    assert {row.index for row in rows if row.reason} == {0, len(sources) - 2, len(sources) - 1}


def test_broken_files_are_named_and_the_others_go_on(bench):
    whole = bench.run(anew()).features
    bad = [bench.folder / f"bad {i}{bench.kind.ending}" for i in range(2)]
    bad[0].write_bytes(b"")
    found = bench.run(bench.space(), [bad[0], *bench.paths, bad[1]])
    assert [item.name for item in found.left_out] == ["bad 0" + bench.kind.ending, "bad 1" + bench.kind.ending]
    assert "empty" in found.left_out[0].reason and "no such file" in found.left_out[1].reason
    assert found.kept == list(range(1, COUNT + 1)) and same_bits(found.features, whole)


def test_features_that_are_not_numbers_leave_the_example_out(bench):
    with torch.no_grad():
        next(iter(bench.network.parameters())).fill_(float("nan"))
    found = bench.run(bench.space())
    assert found.kept == [] and len(found.left_out) == COUNT and len(bench.space()) == 0
    assert all("finite" in item.reason for item in found.left_out)


def test_summaries_are_kept_beside_the_features(bench):
    """The rows for the model without a network come from the same pass, and are there the next time."""
    first = bench.run(bench.space(), summaries=Space(bench.folder / "summaries", {}))
    again = bench.run(bench.space(), summaries=Space(bench.folder / "summaries", {}))
    assert again.computed == 0 and len(first.summaries) == len(again.summaries) == COUNT
    for one, two in zip(first.summaries, again.summaries, strict=True):
        assert np.array_equal(one, two)
    late = bench.run(bench.space(), summaries=anew())
    assert late.computed == 0, "features are not computed again because summaries are missing"
    assert all(np.array_equal(one, two) for one, two in zip(late.summaries, first.summaries, strict=True))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def garbage(path: Path) -> None:
    path.write_bytes(b"no array " * 100)


def doubles(path: Path) -> None:
    np.save(path, np.load(path).astype(np.float64))


@pytest.mark.parametrize("which", ["rows", "ids"])
@pytest.mark.parametrize("damage", [cut_short, emptied, pickled, garbage, doubles, Path.unlink], ids=lambda f: f.__name__)
def test_a_damaged_segment_is_passed_over(tmp_path, damage, which):
    bench = Bench("image", tmp_path / "bench")
    whole = bench.run(bench.space(), bench.paths[:6])
    bench.run(bench.space())
    older = min((bench.folder / "space").glob(f"*.{which}.npy"))
    damage(older)
    space = bench.space()
    assert len(space) == COUNT - 6 and space.damaged == (0 if damage is Path.unlink and which == "ids" else 1)
    again = bench.run(space)
    assert again.computed == 6 and same_bits(again.features[:6], whole.features)
    assert bench.run(bench.space()).computed == 0


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"zz": "x"}'])
def test_damaged_notes_do_not_stop_a_pass(tmp_path, content):
    space = Space(tmp_path / "space", {})
    space.add(bytes(16), np.ones(3, np.float32), "cut to 256 tokens")
    space.flush()
    (notes,) = (tmp_path / "space").glob("*.notes.json")
    assert Space(tmp_path / "space", {}).notes == {bytes(16): "cut to 256 tokens"}
    notes.write_text(content, encoding="utf-8")
    assert len(Space(tmp_path / "space", {})) in (0, 1)


def test_a_store_that_cannot_be_written_to_does_not_stop_a_pass(tmp_path, monkeypatch):
    bench = Bench("image", tmp_path / "bench")
    whole = bench.run(anew()).features
    space = bench.space()

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert same_bits(bench.run(space).features, whole)


def filled(store: Store, name: str, used: int) -> str:
    """A space of about 40 kB that was last used at a time."""
    maker = {"name": name}
    space = store.space(maker)
    rng = np.random.default_rng(used)
    for i in range(10):
        space.add(i.to_bytes(16, "big"), rng.normal(size=1000).astype(np.float32))
    space.flush()
    os.utime(store.root / space_key(maker) / "space.json", (used, used))
    return space_key(maker)


@pytest.mark.parametrize(("room", "stay"), [(4, "abcd"), (3, "bcd"), (2, "cd"), (1, "d"), (0, "")])
def test_the_least_recently_used_go_first(tmp_path, room, stay):
    store = Store(tmp_path, limit=room * 42_000)
    keys = {name: filled(store, name, 1000 + used) for used, name in enumerate("abcd")}
    removed = store.trim()
    assert {s.key for s in store.spaces()} == {keys[name] for name in stay}
    assert {s.key for s in removed} == {keys[name] for name in "abcd" if name not in stay}
    assert sum(s.bytes for s in store.spaces()) <= store.limit


def test_using_a_space_makes_it_recent(tmp_path):
    store = Store(tmp_path, limit=42_000)
    keys = {name: filled(store, name, 1000 + used) for used, name in enumerate("ab")}
    assert len(store.space({"name": "a"})) == 10
    store.trim()
    assert [s.key for s in store.spaces()] == [keys["a"]]


@pytest.mark.parametrize("protected", "abc")
def test_the_space_in_use_is_never_removed_and_the_bound_still_holds(tmp_path, protected):
    store = Store(tmp_path, limit=42_000)
    keys = {name: filled(store, name, 1000 + used) for used, name in enumerate("abc")}
    store.trim(protect=(keys[protected],))
    left = {s.key for s in store.spaces()}
    assert keys[protected] in left
    assert left == {keys[protected]}, "the others go, whenever they were used last: the bound holds"


def test_a_bound_smaller_than_the_space_in_use_keeps_it(tmp_path):
    store = Store(tmp_path, limit=1)
    key = filled(store, "a", 1000)
    assert store.trim(protect=(key,)) == []
    assert len(store.space({"name": "a"})) == 10


def test_makers_that_differ_in_anything_do_not_share_rows():
    from regraft.features import maker_of
    from regraft.features.engines import engine_of

    given: dict[str, Any] = {
        "weights_sha256": "a",
        "architecture": {"builder": "timm", "name": "x"},
        "preprocessing": {"size": 224},
        "modality": MODALITIES["image"],
        "tile": 16,
        "device": "cpu",
        "engine": engine_of("torch", "fp32"),
    }
    others: dict[str, Any] = {
        "weights_sha256": "b",
        "architecture": {"builder": "timm", "name": "y"},
        "preprocessing": {"size": 240},
        "modality": MODALITIES["text"],
        "tile": 8,
        "device": "cuda:0",
        "engine": engine_of("openvino", "bf16"),
        "files": {"tokenizer.json": "c"},
    }
    keys = {space_key(maker_of(**given))} | {space_key(maker_of(**{**given, name: value})) for name, value in others.items()}
    assert len(keys) == 1 + len(others)
    assert space_key(maker_of(**dict(reversed(given.items())))) == space_key(maker_of(**given))
