"""How a value with its interval is written: the same in sentences, on the terminal and on the page of a run."""

from __future__ import annotations

from collections.abc import Mapping


def span(found: Mapping[str, float], form: str, scale: float = 1, unit: str = "") -> str:
    """A value with its interval (`value`, `low`, `high`): each times `scale`, in the `form` of a number."""
    # + 0.0: what is nothing has no sign
    value, low, high = (f"{found[name] * scale + 0.0:{form}}" for name in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})"


def in_points(gain: Mapping[str, float]) -> str:
    """A gain of a share with its interval, in points."""
    return span(gain, "+.1f", 100, " points")
