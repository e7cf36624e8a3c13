"""The record that every engine fills in, and the trunk: tiles through an engine."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.anatomy import freeze
from regraft.errors import MissingExtra, ModelError, RegraftError, UsageError
from regraft.modality import Modality

Run = Callable[[dict[str, Tensor]], Any]
"""One tile's inputs in, its rows (tile, d) out: a tensor or an array. Several threads may call it at once, each on a core of its own."""

ALIKE = {"fp32": 0.9999, "bf16": 0.95}
"""Least cosine between an engine's row and the network's own, by precision. Rounding to bfloat16 leaves 0.98 to 0.9999 with noise for
input (docs/log.md); a graph that does not fit another length leaves less."""


@dataclass(frozen=True)
class Engine:
    """A way to run the trunk. `make` turns a frozen float32 network into a `Run`; everything else is facts.

    make(network, inputs, varies, threads)   inputs: those of one tile; varies: other tiles may have another last dimension;
                                             threads: how many threads will call the run at once
    missing(device)                          why it cannot be used on a device, or ""
    """

    name: str
    precision: str
    make: Callable[[nn.Module, dict[str, Tensor], bool, int], Run]
    missing: Callable[[str], str]
    move: str = ""
    """What to do when it is missing."""
    packages: tuple[str, ...] = ()
    """Whose version can change its rows, beside torch."""
    traced: bool = False
    """Made from one tile that was watched: the first tile of every shape is compared with the network itself."""
    tried: bool = True
    """Whether `auto` may time it. One that takes minutes to make is used when it was asked for, or is known to pay."""

    @property
    def label(self) -> str:
        """What it is called: `openvino bf16`."""
        return f"{self.name} {self.precision}"

    @property
    def exact(self) -> bool:
        """Whether it differs from torch float32 by no more than the order of summation."""
        return self.precision == "fp32"

    def identity(self) -> dict[str, Any]:
        """What of it can change a bit of the rows."""
        return {"engine": self.label, **{name: _version(name) for name in self.packages}}

    def require(self, device: str) -> None:
        """MissingExtra or UsageError when it cannot be used here."""
        if reason := self.missing(device):
            if reason.endswith("not installed"):
                raise MissingExtra(f"the engine {self.label}: {reason}", move=self.move)
            raise UsageError(f"the engine {self.label}: {reason}", move="" if self.move.startswith("pip") else self.move)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def without_bfloat16() -> str:
    """In words, when this CPU has no instructions for bfloat16: it is emulated then, slower than float32 and no better."""
    known = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return "" if any(found() for found in known if found) else "this CPU has no instructions for bfloat16"


def lacking(*modules: str) -> str:
    """Which of some modules is not installed, in words; empty when all are there. Nothing is imported."""
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            return f"the package {module} is not installed"
    return ""


class Trunk:
    """Runs tiles of exactly `tile` windows; a shorter one is filled up with copies of its first, which changes nothing.

    Several threads may call it at once. The engine is made for the first tile. ModelError when it cannot be, or when its rows are
    not the network's.
    """

    def __init__(
        self,
        network: nn.Module,
        modality: Modality,
        preprocessing: Mapping[str, Any],
        tile: int,
        device: str,
        engine: Engine,
        threads: int = 1,
    ) -> None:
        self.modality, self.preprocessing, self.tile, self.engine, self.threads = modality, preprocessing, tile, engine, threads
        self.device = torch.device(device)
        self.side_by_side = self.device.type == "cpu"
        self.network = freeze(network).to(self.device)
        if modality.name == "image":
            self.network = self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._run: Run | None = None
        self._shapes: set[Any] = set()
        self._lock = threading.Lock()

    def __call__(self, windows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Features (windows, d) float32 of at most `tile` windows of equal shape."""
        filled = [*windows, *[windows[0]] * (self.tile - len(windows))]
        with torch.inference_mode():
            inputs = {k: v.to(self.device) for k, v in self.modality.collate(filled, self.preprocessing).items()}
            rows = self._prepared(inputs)(inputs)
        if rows.ndim != 2 or len(rows) != self.tile:
            raise ModelError(f"the network gave {tuple(rows.shape)} for {self.tile} examples", expected="one row of features an example")
        return as_rows(rows)[: len(windows)]

    def _prepared(self, inputs: dict[str, Tensor]) -> Run:
        """The engine's run, made when first needed and compared when it meets a new shape."""
        shape = tuple((k, v.shape) for k, v in inputs.items())
        if self._run is not None and shape in self._shapes:
            return self._run
        with self._lock:
            run = self._run
            if run is None:
                try:
                    run = self.engine.make(self.network, inputs, self.modality.name != "image", self.threads)
                except RegraftError:
                    raise
                except Exception as error:  # compilers and exporters raise whatever a network makes them raise
                    raise _unfit(self.engine, f"cannot take this network ({first_line(error)})") from None
            if shape not in self._shapes and self.engine.traced:
                self._compare(run, inputs)
            self._shapes.add(shape)
            self._run = run
        return run

    def _compare(self, run: Run, inputs: dict[str, Tensor]) -> None:
        """ModelError when the engine's rows are not the network's: a graph made from one tile may not fit another shape."""
        ours = as_rows(self.network(**inputs))
        try:
            theirs = as_rows(run(inputs))
        except RuntimeError as error:
            raise _unfit(self.engine, f"cannot run this network ({first_line(error)})") from None
        if ours.shape != theirs.shape or cosines(ours, theirs).min() < ALIKE[self.engine.precision]:
            raise _unfit(self.engine, "gives other features of this network than torch")


def _unfit(engine: Engine, what: str) -> ModelError:
    return ModelError(f"the engine {engine.label} {what}", move="--engine torch")


def first_line(error: Exception) -> str:
    """What an error says first, in at most 200 characters; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def as_rows(rows: Any) -> np.ndarray:
    """Rows (n, d) float32 of a tensor or an array."""
    return rows.float().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows, np.float32)


def cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The cosine between the rows of two matrices (n, d), in their order: (n,) float64. Rows of zeros are alike."""
    one, two = one.astype(np.float64), two.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    equal = (one == two).all(1)
    return np.where(equal, 1.0, (one * two).sum(1) / np.where(lengths > 0, lengths, 1))
