"""Windows of several lengths in few passes: padded to the longest of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from regraft.features.material import Material

WORTH = 0.85
"""Two groups take the place of one where they have at most this part of its tokens: each costs a pass through the network."""

WORTH_OF_A_STEP = 0.6
"""The same in steps of 16 or 32 texts, where a pass costs more beside its tokens: the gradient of a table of words is as large as it.
Measured on 16 questions, CPU time an example: 33 ms in one group, 37 in two of fewer tokens, 46 in all their lengths (docs/log.md)."""

Window = Mapping[str, np.ndarray]


def windows_apart(material: Material, windows: np.ndarray) -> list[Window]:
    """Windows of any lengths, each by itself, in their order."""
    each: list[Window] = [{}] * len(windows)
    for kind in np.unique(material.kind[windows]):
        alike = np.flatnonzero(material.kind[windows] == kind)
        arrays = material.read(windows[alike])
        for i, own in zip(alike, (dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)), strict=True):
            each[i] = own
    return each


def length_of(window: Window) -> int:
    """How long a window is."""
    return len(next(iter(window.values())))


def in_two(lengths: np.ndarray, worth: float = WORTH) -> list[np.ndarray]:
    """Places of texts in one group or two, so that padded to the longest of their group they take the fewest tokens."""
    order = np.argsort(lengths, kind="stable")
    longest, count = int(lengths.max()), len(lengths)
    short = np.arange(1, count)
    tokens = lengths[order][: count - 1] * short + longest * (count - short)
    if not len(tokens) or tokens.min() > worth * longest * count:
        return [order]
    cut = int(tokens.argmin()) + 1
    return [order[:cut], order[cut:]]


def at_one_length(windows: Sequence[Window]) -> dict[str, np.ndarray]:
    """Windows of one length as arrays (windows, ...)."""
    return {name: np.stack([window[name] for window in windows]) for name in windows[0]}
