"""Of classes: whether a probability means what it says."""

from __future__ import annotations

from regraft.evaluation.names import number
from regraft.evaluation.report.base import Report, Section, text

BINS = 10
"""Of equally many examples each: bins of equal width leave most examples in the last one (Nguyen & O'Connor 2015)."""

LEAST = 40
"""Examples from which a curve says something."""

SIDE, EDGE = 320, 36


def _body(report: Report) -> str:
    pairs = [
        (float(j.cells["probability"]), j.cells["predicted"] == j.cells["label"])
        for j in report.judged
        if "probability_of_label" in j.cells and j.cells["probability"]
    ]
    if len(pairs) < LEAST:
        return ""
    pairs.sort()
    ends = [round(k * len(pairs) / BINS) for k in range(BINS + 1)]
    points = [
        (sum(p for p, _ in own) / len(own), sum(right for _, right in own) / len(own))
        for own in (pairs[a:b] for a, b in zip(ends, ends[1:], strict=False))
        if own
    ]
    at = lambda v: EDGE + v * (SIDE - 2 * EDGE)
    drawn = " ".join(f"{at(x):.1f},{SIDE - at(y):.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{at(x):.1f}" cy="{SIDE - at(y):.1f}" r="3.5"/>' for x, y in points)
    plot = (
        f'<svg class="plot" viewBox="0 0 {SIDE} {SIDE}" role="img">'
        f'<line class="ideal" x1="{at(0)}" y1="{SIDE - at(0)}" x2="{at(1)}" y2="{SIDE - at(1)}"/>'
        f'<polyline class="line" points="{drawn}"/><g class="dots" style="fill-opacity:1">{dots}</g>'
        f'<text x="{SIDE / 2}" y="{SIDE - 10}" text-anchor="middle">probability that was said</text>'
        f'<text x="12" y="{SIDE / 2}" transform="rotate(-90 12 {SIDE / 2})" text-anchor="middle">part that was right</text>'
        f'<text x="{at(0)}" y="{SIDE - 22}" text-anchor="middle">0</text>'
        f'<text x="{at(1)}" y="{SIDE - 22}" text-anchor="middle">1</text></svg>'
    )
    figure = report.result["estimate"].get("calibration_error")
    told = f"Each point: a tenth of the held-out {report.nouns}. On the broken line probabilities mean what they say."
    if figure:
        told += f" Mean distance (calibration error): {number(figure['value'])}."
    return f"{plot}<p class='soft'>{text(told)}</p>"


SECTION = Section("Whether its probabilities hold", _body)
