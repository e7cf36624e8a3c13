"""TensorBoard: event files in a folder, to be seen with `tensorboard --logdir FOLDER`. No connection is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regraft.trackers.base import Opening, Point, Tracker


def _load() -> None:
    import torch.utils.tensorboard  # noqa: F401


class _Session:
    """`id` is the folder: a run that goes on adds a file to it."""

    def __init__(self, opening: Opening) -> None:
        from torch.utils.tensorboard import SummaryWriter

        where = Path(opening.destination) / opening.name if opening.destination else opening.folder / "tensorboard"
        self.id = opening.id or str(where)
        self._writer: Any = SummaryWriter(self.id)

    def params(self, values: Mapping[str, str]) -> None:
        rows = [f"| {name} | {_cell(value)} |" for name, value in values.items()]
        self._writer.add_text("asked", "\n".join(["| asked | value |", "|---|---|", *rows]))

    def notes(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self._writer.add_text(name.replace(".", "/"), value)

    def points(self, points: Sequence[Point]) -> None:
        for point in points:
            self._writer.add_scalar(point.name, point.value, point.step or 0, point.time)
        self._writer.flush()

    def close(self, status: str) -> None:
        self._writer.add_text("status", status)
        self._writer.close()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


TRACKER = Tracker("tensorboard", "the package tensorboard", "tensorboard", _load, _Session)
