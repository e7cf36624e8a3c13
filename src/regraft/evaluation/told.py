"""A climb and a race as rows of plain words: the same on the terminal and on the page of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.evaluation.names import duration, figure, number
from regraft.strategy.wording import in_points, span

COLUMNS = ("rung", "over", "gain: expected", "measured", "time: expected", "taken", "memory: expected", "held", "")
"""Of a climb: what a rung gains is over the best one before it."""

RACE_COLUMNS = ("network", "parameters", "seen", "figure", "behind the best", "time", "")
"""Of a race. A figure is of a linear output layer on as many examples as were seen."""


def ladder_table(result: Mapping[str, Any], key: str) -> tuple[list[str], list[list[str]]]:
    """(names of columns, a row for each rung of a climb in the order of changes): what was predicted, and measured; no rows where nothing
    was climbed. `key` is the figure's; columns of which nothing is known are left away.
    """
    rows = [_rung(step, result["train"], key) for step in result.get("ladder") or ()]
    filled = [i for i in range(len(COLUMNS)) if any(row[i] for row in rows)]
    return [COLUMNS[i] for i in filled], [[row[i] for i in filled] for row in rows]


def _rung(step: Mapping[str, Any], ships: str, key: str) -> list[str]:
    predicted, measured = step.get("predicted") or {}, step.get("measured") or {}
    cost = lambda name, said: _range(predicted[name], said) if name in predicted else ""
    took, memory = measured.get("seconds"), measured.get("memory")
    if key in measured:  # the head, from which a climb begins
        gained = number(measured[key])
    else:
        gained = gain_said(measured["gain"], key) if "gain" in measured else ""
    return [
        step["train"],
        step.get("than", ""),
        gain_said(predicted["gain"], key) if "gain" in predicted else "",
        gained,
        cost("seconds", duration),
        "" if took is None else duration(took),
        cost("memory", _megabytes),
        "" if memory is None else _megabytes(memory),
        _state(step, ships),
    ]


def _state(step: Mapping[str, Any], ships: str) -> str:
    if step["train"] == ships:
        return "this model"
    return "not trained" if not step["tried"] else "kept at first" if step["kept"] else "not kept"


def gain_said(gain: Mapping[str, float], key: str) -> str:
    """A gain with its interval: in points, or as less error."""
    return span(gain, "+.3g", unit=" less error") if key == "mae" else in_points(gain)


def _range(found: Mapping[str, float], said: Any) -> str:
    return f"{said(found['value'])} ({said(found['low'])} to {said(found['high'])})"


def _megabytes(value: float) -> str:
    return f"{value:,.0f} MB"


def race_rows(race: Mapping[str, Any]) -> list[list[str]]:
    """The networks of a race, as it found them, and those that did not race; each with what became of it."""
    ran = [_network(c, race["winner"], race["target"]) for c in race["candidates"]]
    return [*ran, *([other["name"], "", "", "", "", "", f"did not race: {other['why']}"] for other in race["others"])]


def _network(c: Mapping[str, Any], winner: str, target: str) -> list[str]:
    worse = "worse than no network" if c["worse_than_no_network"] else ""
    state = "taken" if c["name"] == winner else c["dropped"] or "not taken"
    pilot = c.get("pilot")
    trained = f"{pilot['steps']} steps of training: {pilot['head']:.3g} to {pilot['figure']:.3g}" if pilot else ""
    return [*race_cells(c, target), "; ".join(filter(None, [state, trained, worse]))]


def race_cells(c: Mapping[str, Any], target: str, unit: str = " points") -> list[str]:
    """What is measured of a network in a race, as cells: the RACE_COLUMNS but for the last. Of what `target` names as a share it is behind
    in points, written with their `unit`.
    """
    behind = ""
    if (gap := c["gap"]) and gap["value"]:
        behind = span(gap, ".3g") if target == "number" else span(gap, ".1f", 100, unit)
    return [
        c["name"],
        f"{c['parameters'] / 1e6:.1f} M",
        "" if c["seen"] is None else f"{c['seen']:,}",
        "" if c["figure"] is None else figure(c["figure"]),
        behind,
        duration(c["seconds"]) if c["seconds"] else "",
    ]


def grouped(lines: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Lines of which those that begin with two spaces belong to the one before: each with its own."""
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("  ") and found:
            found[-1][1].append(line[2:])
        else:
            found.append((line, []))
    return found
