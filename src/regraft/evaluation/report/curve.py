"""The learning curve: how errors fall with the examples, and what more of them would bring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.evaluation.depths import span, ticks
from regraft.evaluation.names import number
from regraft.evaluation.report.base import Report, Section, table, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 560, 300, 56, 18, 14, 46


def _body(report: Report) -> str:
    found = report.curve
    return f"{_drawn(found)}{_told(found, report.nouns)}" if found.get("points") else ""


def _drawn(found: Mapping[str, Any]) -> str:
    """Errors of every draw as dots, their means as a line, and beyond it the forecast as a broken line in its interval."""
    points: Sequence[Mapping[str, Any]] = found["points"]
    last = points[-1]
    ahead = [f for f in found.get("forecasts", {}).values()] if found["told"] else []
    errors = [e for p in points for e in p["errors"]] + [f[k] for f in ahead for k in ("low", "high")]
    low, high = span(errors, most=None)
    first, end = points[0]["examples"], max(last["examples"], *(f["examples"] for f in ahead)) if ahead else last["examples"]
    reach = math.log(end / first) or 1.0
    x = lambda n: LEFT + math.log(n / first) / reach * (WIDTH - LEFT - RIGHT)
    y = lambda e: TOP + (high - e) / (high - low) * (HEIGHT - TOP - FOOT)
    out: list[str] = []
    for value in ticks(low, high):
        out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        out.append(f'<text x="{LEFT - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for n in _places([p["examples"] for p in points] + [f["examples"] for f in ahead], x):
        out.append(f'<text x="{x(n):.1f}" y="{HEIGHT - 26}" text-anchor="middle">{n:,}</text>')
    if ahead:
        over = [(last["examples"], last["error"]), *((f["examples"], f["high"]) for f in ahead)]
        under = [(f["examples"], f["low"]) for f in reversed(ahead)]
        out.append(f'<polygon class="band" points="{_path([*over, *under], x, y)}"/>')
        middle = [(last["examples"], last["error"]), *((f["examples"], f["error"]) for f in ahead)]
        out.append(f'<polyline class="line ahead" points="{_path(middle, x, y)}"/>')
    out.append(f'<polyline class="line" points="{_path([(p["examples"], p["error"]) for p in points], x, y)}"/>')
    dots = "".join(f'<circle cx="{x(p["examples"]):.1f}" cy="{y(e):.1f}" r="3"/>' for p in points for e in p["errors"])
    out.append(f'<g class="dots">{dots}</g>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">learnt from, {text(found["nouns"])}</text>')
    middle_y = (TOP + HEIGHT - FOOT) / 2
    turned = f'transform="rotate(-90 13 {middle_y})" text-anchor="middle"'
    out.append(f'<text x="13" y="{middle_y}" {turned}>held out: {text(found["error_name"])}</text>')
    return f'<div class="wide"><svg class="plot broad" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(out)}</svg></div>'


def _path(points: Sequence[tuple[float, float]], x: Any, y: Any) -> str:
    return " ".join(f"{x(n):.1f},{y(e):.1f}" for n, e in points)


def _places(sizes: Sequence[int], x: Any) -> list[int]:
    """Those that can be written beside each other, from the largest on."""
    shown: list[int] = []
    for n in sorted(set(sizes), reverse=True):
        if all(abs(x(n) - x(other)) > 40 for other in shown):
            shown.append(n)
    return shown


def _told(found: Mapping[str, Any], nouns: str) -> str:
    how = "A linear layer on the features learnt from parts of the examples, smaller ones inside larger ones, each dot one draw"
    said = f"<p class='soft'>{text(how)}; all were judged on the same held-out {text(nouns)}.</p>"
    if not found["told"]:
        return f"<p>What more {text(nouns)} would bring cannot be told: {text(found['reason'])}.</p>{said}"
    rows = []
    for words, key in (("twice as many", "twice"), ("four times", "four_times")):
        f = found["forecasts"][key]
        gain = f"{number(f['gain'])} lower ({number(f['gain_low'])} to {number(f['gain_high'])})"
        rows.append([words, f"{f['examples']:,}", f"{number(f['error'])} ({number(f['low'])} to {number(f['high'])})", gain])
    head = ["", f"{text(nouns)} to learn from", text(found["error_name"]), "against now"]
    ahead = "Forecasts (broken line) with 90 % intervals are for more of the same kind."
    return f"{table(head, rows, right=(1,))}{said.removesuffix('</p>')} {ahead}</p>"


SECTION = Section("What more examples would bring", _body)
