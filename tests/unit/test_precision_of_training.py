"""Which precision training takes where it was left open: timed, and only where the processor has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from regraft.features.engines import base
from regraft.jobs.deeper import _in_the_precision  # pyright: ignore[reportPrivateUsage]
from regraft.strategy.settings import Settings
from regraft.training import deeper


@pytest.mark.parametrize(
    ("device", "without", "timed", "taken"),
    [
        ("cpu", "no instructions", ["fp32"], "fp32"),
        ("cpu", "", ["fp32", "bf16"], "bf16"),
        ("cuda", "no instructions", ["fp32", "bf16"], "bf16"),
    ],
)
def test_bfloat16_is_timed_where_it_is_not_emulated(
    device: str, without: str, timed: list[str], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, decided = [], {}

    def seconds(learner: Any, task: Any, settings: Settings, seed: int) -> float:
        tried.append(settings.precision)
        return {"fp32": 2.0, "bf16": 1.0}[settings.precision]

    monkeypatch.setattr(deeper, "seconds_of_steps", seconds)
    monkeypatch.setattr(base, "without_bfloat16", lambda: without)
    recorder = SimpleNamespace(held_decision=lambda name: None)
    work: Any = SimpleNamespace(
        device=device, train=range(400), seed=0, recorder=recorder, decide=lambda **more: decided.update(more), emit=lambda event: None
    )
    settings = Settings(epochs=20, batch=16, lr=1e-3, layer_decay=1.0, precision="auto")
    assert _in_the_precision(None, None, settings, work).precision == taken  # pyright: ignore[reportArgumentType]
    assert tried == timed and list(decided["precision_timed"]) == timed
