"""The examples that were judged worst, as people can look at them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from regraft.evaluation.names import number
from regraft.evaluation.report.base import Judged, Report, Section, Shown, text


def _picture(content: bytes) -> str:
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'


def _wave(levels: Any) -> str:
    """Levels (n,) from 0 to 1, as bars around a middle line."""
    bars = "".join(
        f'<rect x="{i}" y="{30 - 29 * v:.1f}" width=".8" height="{max(0.6, 58 * v):.1f}"/>' for i, v in enumerate(map(float, levels))
    )
    return f'<svg viewBox="0 0 {max(1, len(levels))} 60" preserveAspectRatio="none" aria-hidden="true"><g class="wave">{bars}</g></svg>'


DRAWN: Mapping[str, Callable[[Any], str]] = {
    "jpeg": _picture,
    "text": lambda content: f"<blockquote>{text(content)}</blockquote>",
    "levels": _wave,
}
"""How each kind of sketch is drawn."""


def _said(judged: Judged) -> str:
    cells = judged.cells
    if "probability_of_label" in cells:
        chances = f"{float(cells['probability']):.0%}, its label {float(cells['probability_of_label']):.0%}"
        return f'labelled {text(cells["label"])}, said <span class="said">{text(cells["predicted"])}</span> ({text(chances)})'
    if "value" in cells:
        said, true = (number(float(cells[k])) for k in ("predicted", "value"))
        return f'is {text(true)}, said <span class="said">{text(said)}</span>'
    return f'labelled {text(cells["labels"])}, said <span class="said">{text(cells["predicted"])}</span>'


def _card(shown: Shown) -> str:
    sketch, name = shown.sketch, shown.judged.name
    drawn = DRAWN[sketch.kind](sketch.content) if sketch else ""
    if sketch and sketch.kind == "text":
        # a row of a table is called by its place and how its text begins, which stands above already
        name = name.partition(": ")[0]
    return f"<figure>{drawn}<div>{_said(shown.judged)}</div><figcaption>{text(name, 120)}</figcaption></figure>"


def _body(report: Report) -> str:
    if not report.judged:
        return ""
    if not report.wrong:
        return f"<p>None of the {len(report.judged):,} held-out {text(report.nouns)} was judged wrongly.</p>"
    told = (
        "Each was judged by a model that had not seen it; the surest mistakes come first. Where such an example is right and its label "
        "is not, mend the label."
    )
    unseen = f"<p class='soft'>{text(report.unseen)}</p>" if report.unseen else ""
    return f"<p>{text(told)}</p>{unseen}<div class='cards'>{''.join(map(_card, report.wrong))}</div>"


SECTION = Section("The worst mistakes", _body)
