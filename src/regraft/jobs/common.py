"""What several verbs need: threads, devices, the data as asked for, memory."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.data.base import Asked
from regraft.errors import DataError, UsageError
from regraft.events import Emit, Event, Said, Warned
from regraft.facts import LeftOut
from regraft.modality import MODALITIES, Modality

if TYPE_CHECKING:
    pass

EXTENSIONS = {name: modality.extensions for name, modality in MODALITIES.items()}


def asked(task: str | None, input: str | None, label: str | None, *, group: str | None = None, labelled: bool = True) -> Asked:
    """What the user said about the data, with what this regraft can read."""
    return Asked(task, input, label, EXTENSIONS, labelled, group)


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def wait_without_spinning() -> None:
    """Let PyTorch's idle threads sleep instead of spin, unless the user chose otherwise or PyTorch is there already.

    Small matrix products on a machine where something else runs: 2 s instead of 18 to 25 s (docs/log.md).
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        # what cuBLAS needs to give the same bits twice; read when a GPU is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


# at once: a network of the user's own code imports PyTorch before any verb would
wait_without_spinning()


def choose_device(wanted: str) -> str:
    """`auto` is the first GPU where PyTorch sees one, else the CPU; UsageError when the wanted one is not there."""
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return wanted
    kind, _, number = wanted.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise UsageError(f"--device {wanted}: expected auto, cpu, cuda or cuda:N")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= there:
        raise UsageError(f"--device {wanted}: PyTorch sees {there} CUDA device{'s' * (there != 1)} here", move="--device cpu")
    return f"cuda:{int(number or 0)}"


@contextmanager
def computing_threads(threads: int) -> Iterator[None]:
    """PyTorch with so many threads and memory that stays with the process; as it was afterwards."""
    import torch

    from regraft.features.memory import kept_memory

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with kept_memory(), _repeatable_gpu():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _repeatable_gpu() -> Iterator[None]:
    """On a GPU the kernels that give the same bits twice, and float32 that is float32: convolutions would round what they read to ten bits
    (TF32), as `--precision fp32` says they do not. bfloat16 is there for those who want speed.
    """
    import torch

    if not torch.cuda.is_available():
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    with warnings.catch_warnings(), torch.backends.cudnn.flags(True, benchmark=False, deterministic=True, allow_tf32=False):
        # where an operation has no such kernel, it runs as it can
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.utils.deterministic.fill_uninitialized_memory = filled  # pyright: ignore[reportAttributeAccessIssue]


def peak_memory_mb() -> float | None:
    """The most memory that this process has held so far, in MB; None where it cannot be told."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1024 if sys.platform != "darwin" else peak / 1024 / 1024, 1)


def memory_room_mb() -> float:
    """The memory that this process may come to hold, in MB: what it holds, and what the machine, or a container's limit, still has.
    Infinite where it cannot be told.
    """
    free: list[float] = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free += [int(line.split()[1]) / 1024 for line in file if line.startswith("MemAvailable")]
    except (OSError, ValueError, IndexError):
        return float("inf")
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        free.append((int(limit) - int(used)) / 1024**2)
    except (OSError, ValueError):
        pass  # no limit, or none that is told here
    return (resident_mb() or 0.0) + min(free, default=float("inf"))


def resident_mb() -> float | None:
    """The memory that this process holds now, in MB; None where it cannot be told."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return round(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2, 1)
    except (OSError, ValueError, IndexError):
        return peak_memory_mb()


def check_losses(left_out: Sequence[LeftOut], kept: int, modality: Modality, *, strict: bool, emit: Emit) -> None:
    """Say what is left out; stop when it is more than half, or anything with `strict`."""
    if not left_out:
        return
    lines = [f"{item.name}: {item.reason}" for item in left_out]
    more = [f"and {len(lines) - 20:,} more"] if len(lines) > 20 else []
    broken = len(left_out)
    if strict:
        raise DataError(
            f"{broken:,} {modality.noun if broken == 1 else modality.nouns} cannot be used",
            faults=lines[:20] + more,
            move="mend or remove them, or leave --strict away",
        )
    if broken > kept:
        raise DataError(
            f"{broken:,} of {broken + kept:,} {modality.nouns} cannot be used, more than half: something else is wrong",
            faults=lines[:20] + more,
            move="check the path, --task, --input and --label",
        )
    emit(
        Warned(
            "\n".join(
                [
                    f"{broken:,} left out of {broken + kept:,}:",
                    *(f"  {line}" for line in lines[:10]),
                    *([f"  and {len(lines) - 10:,} more"] if len(lines) > 10 else []),
                ]
            )
        )
    )


def say_notes(notes: Mapping[str, int], total: int, emit: Emit) -> None:
    """Say what was noted of single examples, counted."""
    for note, count in notes.items():
        emit(Said(f"{count:,} of {total:,} are {note}"))


def versions() -> dict[str, str]:
    """What wrote a bundle."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("regraft", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


class Messages:
    """A listener that passes events on and keeps what was said, for results that programs read."""

    def __init__(self, listener: Emit) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self._listener = listener

    def __call__(self, event: Event) -> None:
        if isinstance(event, Said):
            self.said.append(event.message)
        elif isinstance(event, Warned):
            self.warned.append(event.message)
        self._listener(event)

    def to_json(self) -> dict[str, list[str]]:
        """Plain data."""
        return {"said": self.said, "warned": self.warned}


def patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    """Patterns of names, parted by commas, in the order given."""
    texts = [given] if isinstance(given, str) else given
    return tuple(dict.fromkeys(p.strip() for text in texts for p in text.split(",") if p.strip()))


def as_source(value: Any) -> Any:
    """Strings and paths as Path, other objects as they are."""
    return Path(value) if isinstance(value, (str, os.PathLike)) else value


def has_bfloat16(device: str) -> bool:
    """Whether the device has instructions for bfloat16: emulated, a step takes ten times as long, and timing it minutes."""
    from regraft.features.engines.base import without_bfloat16

    return device != "cpu" or not without_bfloat16()
