"""The picture of a depth profile: an SVG that stands alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, PLOT = 760, 300
"""Of the picture, and the height of its plot."""

LEFT, RIGHT, TOP = 62, 24, 64

INK, PALE, LINE, MARK = "#222222", "#dfe6ee", "#1f5fa8", "#c2571a"

TITLES = {"accuracy": "accuracy", "f1_micro": "F1, over all decisions", "mae": "mean absolute error (lower is better)"}


def first_key(metrics: Mapping[str, Any]) -> str:
    """The figure that stands for all."""
    return next(key for key in TITLES if key in metrics)


def drawn(result: Mapping[str, Any]) -> str:
    """A profile as SVG: the figure at each depth with its interval, what has to be computed up to there as bars, the model without a
    network as a line.
    """
    depths = result["depths"]
    key = first_key(depths[0]["metrics"])
    figures = [d["metrics"][key] for d in depths]
    bare = result["baseline"]["without_network"]["metrics"][key]["value"]
    low, high = span([*(f["low"] for f in figures), *(f["high"] for f in figures), bare], most=1.0 if key != "mae" else None)
    across = (WIDTH - LEFT - RIGHT) / len(depths)
    xs = [LEFT + across * (i + 0.5) for i in range(len(depths))]
    base = TOP + PLOT
    # names stand at an angle below the plot
    height = base + 48 + round(5.5 * max(len(short(d["at"])) for d in depths))
    up = lambda value: base - (value - low) / (high - low) * PLOT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 22, f"{result['model']} at each depth: {result['n']:,} examples, cross-validated", size=15),
        _text(LEFT, 42, f"{TITLES[key]} with 95 % intervals; bars: share of the multiply-adds up to there"),
    ]
    for x, d in zip(xs, depths, strict=True):
        tall, wide = (1 - d["saved"]["macs"]) * PLOT, across * 0.72
        out.append(f'<rect x="{x - wide / 2:.1f}" y="{base - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{PALE}"/>')
    for value in ticks(low, high):
        out += [_line(LEFT, up(value), WIDTH - RIGHT, up(value), "#cccccc"), _text(LEFT - 8, up(value) + 4, f"{value:g}", anchor="end")]
    out.append(_line(LEFT, up(bare), WIDTH - RIGHT, up(bare), MARK, "5 4"))
    out.append(_text(WIDTH - RIGHT, up(bare) - 5, "without the network", anchor="end", fill=MARK))
    points = " ".join(f"{x:.1f},{up(f['value']):.1f}" for x, f in zip(xs, figures, strict=True))
    out.append(f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.5"/>')
    for x, d, f in zip(xs, depths, figures, strict=True):
        named = d["at"] in (result["earliest"]["at"], result["highest"]["at"])
        out.append(_line(x, up(f["low"]), x, up(f["high"]), LINE))
        out += [_line(x - 4, up(f[end]), x + 4, up(f[end]), LINE) for end in ("low", "high")]
        out.append(f'<circle cx="{x:.1f}" cy="{up(f["value"]):.1f}" r="{5 if named else 3.5}" fill="{MARK if named else LINE}"/>')
        out.append(
            f'<text transform="translate({x + 4:.1f},{base + 12}) rotate(-60)" text-anchor="end" font-size="11" '
            f'fill="{MARK if named else INK}">{escape(short(d["at"]))}</text>'
        )
    early, top = result["earliest"]["at"], result["highest"]["at"]
    said = f"earliest not clearly worse than the highest: {early}; highest: {top}" if early != top else f"highest, and the earliest: {top}"
    out.append(_text(LEFT, height - 14, said, fill=MARK))
    return "\n".join([*out, "</svg>", ""])


def short(name: str) -> str:
    """A name that fits below a plot."""
    return name if len(name) <= 24 else "..." + name[-22:]


def span(values: Sequence[float], most: float | None) -> tuple[float, float]:
    """The bounds of the axis, with a margin; from zero to `most` at the widest."""
    low, high = min(values), max(values)
    margin = (high - low or 1.0) * 0.08
    return max(0.0, low - margin), high + margin if most is None else min(most, high + margin)


def ticks(low: float, high: float) -> list[float]:
    """Round values between two bounds, about five."""
    step = 10.0 ** int(f"{(high - low) / 5:e}".split("e")[1])
    step = next(step * k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= 6)
    first = int(low / step) + (low > 0 and low % step > 0)
    return [round(k * step, 10) for k in range(first, int(high / step + 1e-9) + 1)]


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", fill: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'
