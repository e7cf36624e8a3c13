"""The race before a fit: which networks were looked at, and why this one was taken."""

from __future__ import annotations

from regraft.evaluation.names import METRIC_NAMES
from regraft.evaluation.report.base import Report, Section, table, text
from regraft.evaluation.told import RACE_COLUMNS, race_rows


def _body(report: Report) -> str:
    race = report.result.get("race")
    if not race:
        return ""
    rows = [[text(cell, 200) for cell in row] for row in race_rows(race)]
    head = [text(name) for name in RACE_COLUMNS]
    said = "".join(f"<p>{text(line)}</p>" for line in race["reasons"])
    how = f"Figure: {METRIC_NAMES[race['metric']]} of a linear output layer, cross-validated on as many of the {race['n']:,} training "
    how += f"{report.nouns} as were seen, with 95 % intervals; how far a network is behind the best is compared in pairs, on the same ones."
    return f"{table(head, rows, right=(1, 2))}{said}<p class='soft'>{text(how)}</p>"


SECTION = Section("Which networks raced", _body)
