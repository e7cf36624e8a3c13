"""State dicts out of files that strangers wrote: safetensors, or PyTorch's format by `weights_only=True`; nothing executes."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import ModelError, UsageError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

HEADER_LIMIT = 32 << 20
"""Bytes of a safetensors header that are believed: some 200,000 tensors."""

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
"""Endings of PyTorch's own format, which is a pickle: read with `weights_only=True`, which builds tensors and plain containers only."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file on the CPU, by name; a state dict that lies inside (`state_dict`, `model`) is found.

    ModelError says why a file is refused: another format, truncated, a header beyond reason, objects that only code can make.
    """
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix in PICKLES:
        return _unwrapped(_pickle(path), path)
    raise ModelError(
        f"{path.name} is not a file of weights that is read", expected=f".safetensors, or {', '.join(PICKLES)} with nothing but tensors"
    )


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_safetensors(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path.name} is not safetensors that can be read: {error}", move="fetch or copy it again") from None


def check_safetensors(path: Path) -> None:
    """ModelError when the length of the header, which comes first in the file, cannot be right; nothing is parsed for it."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(9)
    if len(start) < 9 or start[8:9] != b"{":
        pickle = start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        raise ModelError(
            f"{path.name} is not safetensors" + (": it is a pickle under another name, which is not read" if pickle else ""),
            move="fetch or copy it again",
        )
    header = struct.unpack("<Q", start[:8])[0]
    if header > HEADER_LIMIT:
        raise ModelError(f"{path.name} states a header of {header:,} bytes", expected=f"at most {HEADER_LIMIT:,}")
    if header + 8 > size:
        raise ModelError(
            f"{path.name} is truncated: its header alone has {header:,} bytes, the file {size:,}", move="fetch or copy it again"
        )


def safetensors_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself beside its tensors."""
    from safetensors import SafetensorError, safe_open

    check_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path.name} is not safetensors that can be read: {error}", move="fetch or copy it again") from None


def _pickle(path: Path) -> Any:
    import pickle

    import torch

    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                unfolded = sum(entry.file_size for entry in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise ModelError(f"{path.name} is damaged: {error}", move="fetch or copy it again") from None
        # PyTorch stores without compression: what unfolds was not written by it
        if unfolded > 1.5 * path.stat().st_size + (1 << 20):
            raise ModelError(
                f"{path.name} would unfold from {path.stat().st_size:,} to {unfolded:,} bytes", expected="tensors as PyTorch stores them"
            )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), "")
        raise ModelError(
            f"{path.name} holds more than tensors: loading it would run code that lies in it, and that is never done. {reason}".strip(),
            expected="safetensors, or a state dict that `torch.load(weights_only=True)` reads",
            move="ask whoever made it for a .safetensors file",
        ) from None
    except Exception as error:
        # a damaged archive raises whatever the damage makes it raise
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"{path.name} cannot be read ({type(error).__name__}: {first})"[:300], move="fetch or copy it again") from None


def _unwrapped(held: Any, path: Path) -> dict[str, Tensor]:
    import torch

    for _ in range(3):
        inner = next(
            (held[k] for k in ("state_dict", "model", "model_state") if isinstance(held, dict) and isinstance(held.get(k), dict)), None
        )
        if inner is None:
            break
        held = inner
    if not isinstance(held, dict) or not held or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in held.items()):
        raise ModelError(
            f"{path.name} holds no state dict: names with tensors", expected="what `torch.save(network.state_dict(), ...)` writes"
        )
    if all(name.startswith("module.") for name in held):
        held = {name.removeprefix("module."): tensor for name, tensor in held.items()}
    return {name: tensor.detach() for name, tensor in held.items()}


def as_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with every floating tensor as float32, contiguous, none sharing memory with another; whole numbers as they are."""
    import torch

    out, seen = {}, set()
    for name, tensor in state.items():
        tensor = tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        pointer = tensor.untyped_storage().data_ptr()
        out[name] = tensor.clone(memory_format=torch.contiguous_format) if pointer in seen else tensor.contiguous()
        seen.add(pointer)
    return out


@dataclass
class Fit:
    """How weights fit a network. `allow` are patterns of names whose differences are meant; with them it is filled in which these were.

    new        tensors of the network that the weights lack, or have in another shape -> how many numbers: they stay as they were drawn
    left_out   names of tensors that the network lacks
    """

    allow: tuple[str, ...] = ()
    new: dict[str, int] = field(default_factory=dict[str, int])
    left_out: list[str] = field(default_factory=list[str])

    def allows(self, name: str) -> bool:
        """Whether a difference at this tensor is meant."""
        return any(fnmatchcase(name, pattern) for pattern in self.allow)

    def check(self, names: Collection[str], what: str) -> None:
        """UsageError for a pattern that chooses no tensor at all."""
        for pattern in self.allow:
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = nearest(pattern.removesuffix(".*"), sorted({n.rsplit(".", depth)[0] for n in names for depth in (0, 1, 2)}))
                raise UsageError(f"--allow {pattern} chooses no tensor of {what} or of the weights. {hint}".rstrip())


def fitting(
    state: Mapping[str, Tensor],
    make: Callable[[], nn.Module],
    what: str,
    *,
    optional: Callable[[str], bool] = lambda name: False,
    fit: Fit | None = None,
) -> dict[str, Tensor]:
    """The tensors of `state` that the network of `make` has, float32; the network is only outlined, not filled with numbers.

    ModelError names what is missing, extra and of another shape, but for what `fit` allows. `optional` names may be extra.
    """
    import torch

    fit = fit or Fit()
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    fit.check({*wanted, *found}, what)
    extra = [name for name in found if name not in wanted and not optional(name)]
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    other = [name for name in wanted if name in found and wanted[name] != found[name]]
    new = [name for name in (*missing, *other) if fit.allows(name)]
    fit.left_out += [name for name in extra if fit.allows(name)]
    if all(fit.allows(name) for name in (*missing, *extra, *other)):
        if new and len(new) >= sum(not name.endswith("num_batches_tracked") for name in wanted):
            raise ModelError(f"nothing of the weights fits {what}", move="name the architecture that the weights were made with")
        return _completed(state, wanted, new, make, fit)
    missing, extra, other = ([name for name in names if not fit.allows(name)] for names in (missing, extra, other))
    faults = _some([f"missing: {n} {wanted[n]}" for n in missing], "missing")
    faults += _some([f"extra: {n} {found[n]}" for n in extra], "extra")
    faults += _some([f"of another shape: {n} is {found[n]}, expected {wanted[n]}" for n in other], "of another shape")
    raise ModelError(
        f"the weights are not those of {what}: {len(missing)} tensors are missing, {len(extra)} extra, {len(other)} of another shape",
        faults=faults,
        move=_advice([*missing, *extra, *other], fit.allow, len(wanted)),
    )


def _advice(names: Sequence[str], allowed: Sequence[str], of: int) -> str:
    """What to try: another architecture; or, when less than half differs, the patterns that allow it."""
    if 2 * len(names) > of:
        return "name the architecture that the weights were made with"
    patterns = dict.fromkeys(f"{n.split('.')[0]}.*" if "." in n else n for n in names)
    return f'--allow "{", ".join([*allowed, *patterns])}", if these differences are meant'


def _completed(
    state: Mapping[str, Tensor], wanted: Mapping[str, Any], new: Sequence[str], make: Callable[[], nn.Module], fit: Fit
) -> dict[str, Tensor]:
    import torch

    out = as_float32({name: state[name] for name in wanted if name in state and name not in new})
    if new:
        with torch.random.fork_rng(devices=[]):
            # the same numbers every time: the features are known by the weights and what was allowed
            torch.manual_seed(0)
            drawn = make().state_dict()
        fit.new |= {name: drawn[name].numel() for name in new}
        out |= as_float32({name: drawn[name].clone() for name in new})
    for name, shape in wanted.items():
        # a counter that old files leave out, and that nothing but training reads
        out.setdefault(name, torch.zeros(shape, dtype=torch.int64))
    return {name: out[name] for name in wanted}


def _some(lines: list[str], word: str) -> list[str]:
    return lines if len(lines) <= 4 else [*lines[:3], f"{word}: {len(lines) - 3} more"]
