"""The one tree of errors. Each says what was found, what was expected, and the next move."""

from __future__ import annotations

import re
from collections.abc import Sequence

TEXT_LIMIT = 2_000
"""Characters of one part of a message; a longer one is cut."""

_RAW = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What must not reach a screen: control characters, escape sequences, marks that turn the writing, halves of characters."""


def printable(text: str, keep: str = "") -> str:
    """The text with what moves or recolours a screen written out (`\\x1b`, `\\n`); characters in `keep` stay."""
    return text if text.isascii() and text.isprintable() else _RAW.sub(lambda m: m[0] if m[0] in keep else _written_out(m[0]), text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _clear(text: str) -> str:
    text = printable(text, keep="\n")
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 4] + " ..."


class RegraftError(Exception):
    """A fault that a person can mend; shown without a stack trace.

    `faults` lists everything that was wrong when several things were, so that all can be mended at once.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", move: str = "", faults: Sequence[str] = ()) -> None:
        self.found, self.expected, self.move = _clear(found), _clear(expected), _clear(move)
        self.faults = tuple(_clear(fault) for fault in faults)
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


class CutError(ModelError):
    """A network cannot be divided into a frozen and a trained part; it can still be trained whole. `found` says why."""


class MissingExtra(ModelError):
    """Something optional is not installed; `move` holds the install line."""


class BundleError(RegraftError):
    """A bundle is damaged, foreign, or newer than this regraft."""


class RunError(RegraftError):
    """A run folder is missing, taken or not finished."""


class WriteError(RunError, OSError):
    """What regraft wants to keep cannot be written: a full disk, or a folder that may not be written to."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a fit: its folder `run` holds what was done, and `resume` goes on from there. `best`: a bundle is there already."""

    exit_code = 130

    def __init__(self, run: str, *, best: bool = False) -> None:
        self.run, self.best = run, best
        super().__init__(f"interrupted; regraft resume {run} goes on")


class Unreadable(Exception):
    """One example cannot be read; the reason is counted and shown, the others go on."""


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint such as `did you mean 'head'?`, or nothing when no known word is close."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""
