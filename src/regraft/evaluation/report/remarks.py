"""What was said and warned of, and what was left out."""

from __future__ import annotations

from regraft.evaluation.report.base import Report, Section, table, text

SHOWN = 50
"""Left-out examples that are named."""


def _listed(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def _body(report: Report) -> str:
    result = report.result
    out = ""
    if warned := result.get("warned"):
        out += f"<p>To know before it is trusted:</p>{_listed(warned)}"
    if said := result.get("said"):
        out += f"<p>Found and decided:</p>{_listed(said)}"
    if left := result.get("left_out"):
        more = f", of which {SHOWN} are named" if len(left) > SHOWN else ""
        out += f"<p>Left out: {len(left):,}{more}</p>"
        out += table(["", "why"], [[text(item["name"], 120), text(item["reason"], 200)] for item in left[:SHOWN]])
    return out


SECTION = Section("Remarks", _body)
