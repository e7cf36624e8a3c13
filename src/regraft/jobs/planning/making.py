"""A plan on its way: what it is of, its limits, and the time that making it may still take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

from regraft.events import Emit, Warned
from regraft.jobs.common import choose_device, core_count
from regraft.jobs.labelled import Labelled
from regraft.jobs.planned import earlier_outcomes
from regraft.modality import MODALITIES, Modality
from regraft.spec import FitSpec
from regraft.strategy.plan import Limits, allowance

BEGUN = 0.85
"""Part of what a plan within a budget may take, after which nothing more is begun: what runs then still has to end."""


@dataclass
class Making:
    """A plan while it is made."""

    spec: FitSpec
    labelled: Labelled
    limits: Limits
    start: float
    emit: Emit
    compare_scratch: bool = False

    def __post_init__(self) -> None:
        self.threads = self.spec.threads or core_count()
        self.modality: Modality = MODALITIES[self.labelled.dataset.task]
        self.metric = self.labelled.target.metrics[0]
        self.outcomes, bad = earlier_outcomes()
        if bad:
            lines = "1 line" if bad == 1 else f"{bad:,} lines"
            self.emit(Warned(f"{lines} of the local record of predictions (outcomes.jsonl) passed over: damaged, or of another version"))
        self.end = self.start + allowance(self.limits.budget) * (1.0 if self.limits.budget is None else BEGUN)

    @cached_property
    def device(self) -> str:
        """Where things are computed; to find out takes PyTorch, where an earlier look does not say."""
        return choose_device(self.spec.device)

    @property
    def left(self) -> float:
        """Seconds that making the plan may still take."""
        return self.end - time.perf_counter()
