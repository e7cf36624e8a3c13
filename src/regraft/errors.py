"""The one tree of errors. Each says what was found, what was expected, and the next move."""

from __future__ import annotations

from collections.abc import Sequence


class RegraftError(Exception):
    """A fault that a person can mend; shown without a stack trace.

    `faults` lists everything that was wrong when several things were, so that all can be mended at once.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", move: str = "", faults: Sequence[str] = ()) -> None:
        self.found, self.expected, self.move, self.faults = found, expected, move, tuple(faults)
        super().__init__(str(self))

    def __str__(self) -> str:
        """The whole message, one thing a line."""
        lines = [self.found, *(f"  - {fault}" for fault in self.faults)]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.move:
            lines.append(f"  try: {self.move}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The same for a program."""
        return {
            "error": type(self).__name__,
            "found": self.found,
            "expected": self.expected,
            "try": self.move,
            "faults": list(self.faults),
        }


class UsageError(RegraftError, ValueError):
    """What was asked for cannot be meant: a wrong option, name or value."""

    exit_code = 2


class DataError(RegraftError):
    """The data set cannot be used as it is."""


class ModelError(RegraftError):
    """A pretrained network cannot be had or does not fit."""


class MissingExtra(ModelError):
    """Something optional is not installed; `move` holds the install line."""


class BundleError(RegraftError):
    """A bundle is damaged, foreign, or newer than this regraft."""


class RunError(RegraftError):
    """A run folder is missing, taken or not finished."""


class Unreadable(Exception):
    """One example cannot be read; the reason is counted and shown, the others go on."""


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint such as `did you mean 'head'?`, or nothing when no known word is close."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""
