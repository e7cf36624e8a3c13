"""A climb: each rung with what was predicted of it and measured, and the explanation in words."""

from __future__ import annotations

from regraft.evaluation.report.base import Report, Section, table, text
from regraft.evaluation.told import grouped, ladder_table


def _body(report: Report) -> str:
    columns, rows = ladder_table(report.result, report.key)
    if not rows:
        return ""
    shown = table(list(map(text, columns)), [list(map(text, row)) for row in rows])
    how = (
        "From the fewest changes to the most. A gain is over the best model before, on the same held-out examples, with its 95 % interval; "
        "what was expected has 90 % intervals. Memory is that of the whole process, and said where the rung raised it."
    )
    told = "".join(_paragraph(line, own) for line, own in grouped(report.result.get("explanation") or ()))
    return f"{shown}<p class='soft'>{text(how)}</p>{told}"


def _paragraph(line: str, own: list[str]) -> str:
    """A line, with those that belong to it as a list."""
    below = f"<ul>{''.join(f'<li>{text(item)}</li>' for item in own)}</ul>" if own else ""
    return f"<p>{text(line)}</p>{below}"


SECTION = Section("The ladder, predicted and measured", _body)
