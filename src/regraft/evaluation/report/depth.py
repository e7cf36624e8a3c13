"""The depth profile: what a linear head is worth on the features of each depth of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.evaluation.depths import TITLES, first_key, short, span, ticks
from regraft.evaluation.report.base import Report, Section, text

WIDTH, PLOT, LEFT, RIGHT, TOP = 720, 240, 52, 18, 14


def _body(report: Report) -> str:
    return f"{_drawn(report.profile)}{_told(report)}" if report.profile.get("depths") else ""


def _drawn(found: Mapping[str, Any]) -> str:
    """Figures with their intervals, the share of the multiply-adds up to there as bars, the model without a network as a broken line."""
    depths: Sequence[Mapping[str, Any]] = found["depths"]
    key = first_key(depths[0]["metrics"])
    figures = [d["metrics"][key] for d in depths]
    bare = found["baseline"]["without_network"]["metrics"][key]["value"]
    low, high = span([*(f["low"] for f in figures), *(f["high"] for f in figures), bare], most=1.0 if key != "mae" else None)
    across, base = (WIDTH - LEFT - RIGHT) / len(depths), TOP + PLOT
    xs = [LEFT + across * (i + 0.5) for i in range(len(depths))]
    y = lambda value: base - (value - low) / (high - low) * PLOT
    height = base + 22 + round(5.2 * max(len(short(d["at"])) for d in depths))
    out: list[str] = []
    for x, d in zip(xs, depths, strict=True):
        tall = (1 - d["saved"]["macs"]) * PLOT
        out.append(
            f'<rect class="share" x="{x - across * 0.36:.1f}" y="{base - tall:.1f}" width="{across * 0.72:.1f}" height="{tall:.1f}"/>'
        )
    for value in ticks(low, high):
        out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        out.append(f'<text x="{LEFT - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    out.append(f'<line class="ideal" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(bare):.1f}" y2="{y(bare):.1f}"/>')
    out.append(f'<text x="{WIDTH - RIGHT}" y="{y(bare) - 5:.1f}" text-anchor="end">without the network</text>')
    line = " ".join(f"{x:.1f},{y(f['value']):.1f}" for x, f in zip(xs, figures, strict=True))
    out.append(f'<polyline class="line" points="{line}"/>')
    named = {found["earliest"]["at"], found["highest"]["at"]}
    for x, d, f in zip(xs, depths, figures, strict=True):
        kind = "named" if d["at"] in named else "plain"
        out.append(f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{y(f["low"]):.1f}" y2="{y(f["high"]):.1f}"/>')
        out.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y(f["value"]):.1f}" r="{5 if kind == "named" else 3.5}"/>')
        turned = f'transform="translate({x + 4:.1f},{base + 12}) rotate(-60)" text-anchor="end"'
        out.append(f'<text class="{kind}" {turned}>{text(short(d["at"]))}</text>')
    return f'<div class="wide"><svg class="plot broad" viewBox="0 0 {WIDTH} {height}" role="img">{"".join(out)}</svg></div>'


def _told(report: Report) -> str:
    found = report.profile
    key = first_key(found["depths"][0]["metrics"])
    early, top = found["earliest"]["at"], found["highest"]["at"]
    said = f"Highest: {top}; the earliest that is not clearly worse: {early}." if early != top else f"Highest, and the earliest: {top}."
    saved = next(d["saved"]["macs"] for d in found["depths"] if d["at"] == early)
    if saved > 0:
        said += f" To end the network there saves {saved:.0%} of its multiply-adds (--at {early})."
    how = f"{TITLES[key]} of a linear head on the features of each depth of {found['model']}, cross-validated on {found['n']:,} "
    how += f"{report.nouns}, with 95 % intervals. Bars: the share of the multiply-adds up to there."
    return f"<p>{text(said)}</p><p class='soft'>{text(how[0].upper() + how[1:])}</p>"


SECTION = Section("What each depth of the network is worth", _body)
