"""Weights & Biases: files in the run's folder that `wandb sync` sends, or at once where WANDB_MODE=online says so.

The destination is PROJECT or TEAM/PROJECT. `WANDB_MODE`, `WANDB_PROJECT`, `WANDB_ENTITY` and `WANDB_DIR` are heard.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from regraft.trackers.base import Opening, Point, Tracker

QUIET = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
"""wandb's own settings, where the user did not choose: it reports faults to nobody, and says nothing on the screen."""

OWN = {
    "console": "off",
    "disable_git": True,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""It keeps what regraft tells, and nothing that it finds on the machine."""


def _load() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import wandb  # noqa: F401


class _Session:
    def __init__(self, opening: Opening) -> None:
        import wandb

        team, _, project = (opening.destination or "").rpartition("/")
        self.id = opening.id or uuid.uuid4().hex[:12]
        self._run: Any = wandb.init(
            project=project or os.environ.get("WANDB_PROJECT") or "regraft",
            entity=team or None,
            name=opening.name,
            id=self.id,
            resume="allow",
            dir=os.environ.get("WANDB_DIR") or str(opening.folder),
            mode=os.environ.get("WANDB_MODE") or "offline",  # pyright: ignore[reportArgumentType]
            settings=wandb.Settings(**OWN),
        )
        self._curves: set[str] = set()

    def params(self, values: Mapping[str, str]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def notes(self, values: Mapping[str, str]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def points(self, points: Sequence[Point]) -> None:
        for (curve, step), together in groupby(points, lambda p: (p.name.rpartition("/")[0], p.step)):
            figures = {point.name: point.value for point in together}
            if step is None:
                self._run.summary.update(figures)
                continue
            # the run's own steps only rise: trainings have theirs
            if curve not in self._curves:
                self._curves.add(curve)
                self._run.define_metric(f"{curve}/step", hidden=True)
                self._run.define_metric(f"{curve}/*", step_metric=f"{curve}/step")
            self._run.log({**figures, f"{curve}/step": step})

    def close(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


TRACKER = Tracker("wandb", "the package wandb", "wandb", _load, _Session)
