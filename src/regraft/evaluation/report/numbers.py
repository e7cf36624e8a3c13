"""Of a number: what was said against what is true."""

from __future__ import annotations

from regraft.evaluation.names import number
from regraft.evaluation.report.base import Report, Section, text

DOTS = 2_000
"""Examples at most, evenly from all of them."""

SIDE, EDGE = 380, 40


def _body(report: Report) -> str:
    pairs = [(float(j.cells["value"]), float(j.cells["predicted"])) for j in report.judged if "value" in j.cells]
    if not pairs:
        return ""
    pairs = pairs[:: -(-len(pairs) // DOTS)]
    low, high = min(map(min, pairs)), max(map(max, pairs))
    reach = (high - low) or 1.0
    at = lambda v: (v - low) / reach * (SIDE - 2 * EDGE) + EDGE
    dots = "".join(f'<circle cx="{at(x):.1f}" cy="{SIDE - at(y):.1f}" r="2.5"/>' for x, y in pairs)
    ends = (
        f'<text x="{EDGE}" y="{SIDE - 14}">{text(number(low))}</text>'
        f'<text x="{SIDE - EDGE}" y="{SIDE - 14}" text-anchor="end">{text(number(high))}</text>'
        f'<text x="{SIDE / 2}" y="{SIDE - 14}" text-anchor="middle">true</text>'
        f'<text x="12" y="{SIDE / 2}" transform="rotate(-90 12 {SIDE / 2})" text-anchor="middle">said</text>'
    )
    ideal = f'<line class="ideal" x1="{EDGE}" y1="{SIDE - EDGE}" x2="{SIDE - EDGE}" y2="{EDGE}"/>'
    return f'<svg class="plot" viewBox="0 0 {SIDE} {SIDE}" role="img">{ideal}<g class="dots">{dots}</g>{ends}</svg>'


SECTION = Section("What was said against what is true", _body)
