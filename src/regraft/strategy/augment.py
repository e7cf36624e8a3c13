"""Which augmentations are used. Pure: what was measured in, a choice out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regraft.facts import Figure

TRIED = 256
"""Training examples at most on which an augmentation is tried that can change what an example is."""


def harmful(change: Figure) -> bool:
    """Whether an augmentation changes what examples are: held-out models decide clearly worse on changed examples than on the same ones
    as they are. `change` is the paired difference with its interval, below 0 where changed ones are decided worse.
    """
    return change.high < 0


def tried_places(examples: int) -> list[int]:
    """Which of so many training examples an augmentation is tried on: evenly from all over the data."""
    count = min(examples, TRIED)
    return sorted({round(i * (examples - 1) / max(1, count - 1)) for i in range(count)})


def asked_for(text: str, known: Mapping[str, Any], nouns: str) -> tuple[list[str], list[str]]:
    """(names of augmentations, what is wrong) of what `--augment` says, where `known` are those of such inputs."""
    if text == "auto":
        return list(known), [] if known else [f"{nouns} have no augmentations: expected --views 1"]
    names = [name.strip() for name in text.split(",")]
    wrong = [name for name in names if name not in known]
    expected = f"expected auto, none or some of {', '.join(known)}" if known else f"{nouns} have none"
    return [name for name in known if name in names], [f"--augment {name}: {expected}" for name in wrong]
