"""report: a run as one page that stands alone.

In: what a run holds, as plain data, and sketches of examples.     Out: HTML without scripts, with its pictures inside.
Never: opens a network, reads an example, or loads anything from elsewhere.
Invariant: whatever stands in names, labels and texts is shown as text (tests/unit/test_report_page.py).
"""

from __future__ import annotations

from regraft.evaluation.report import climb, confusion, curve, depth, figures, ladder, made, numbers, race, remarks, sure, wrong
from regraft.evaluation.report.base import Judged, Report, Section, Shown
from regraft.evaluation.report.page import page

SECTIONS: tuple[Section, ...] = (
    figures.SECTION,
    race.SECTION,
    climb.SECTION,
    ladder.SECTION,
    curve.SECTION,
    depth.SECTION,
    confusion.SECTION,
    numbers.SECTION,
    sure.SECTION,
    wrong.SECTION,
    remarks.SECTION,
    made.SECTION,
)
"""In the order in which they stand on the page; one that has nothing to say is left away."""

__all__ = ["SECTIONS", "Judged", "Report", "Section", "Shown", "page"]
