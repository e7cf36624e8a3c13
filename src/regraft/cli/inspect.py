"""regraft inspect"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from regraft.cli.common import (
    data_options,
    engine_options,
    json_option,
    machine_options,
    network_options,
    option,
    store_option,
    strict_option,
)


@click.command("inspect")
@click.argument("data")
@data_options
@click.option("--model", metavar="NAME", help="Run this network once and say what its features show of the data.")
@network_options
@machine_options
@engine_options
@option("--seed", type=int, default=0, show_default=True)
@strict_option
@store_option
@click.option("--out", metavar="DIR", help="With --model: write the whole lists (suspicious labels, near-duplicates, curve) as CSV files.")
@json_option
def command(data: str, as_json: bool, **options: Any) -> None:
    """Facts about DATA before any work: how many examples of which classes, sizes, duplicates, what will be left out.

    Every example is read; no network runs, and nothing is kept. With --model that network runs once over everything, and its features
    stay for a later fit: near-duplicates, suspicious labels, how similar the data is to what the network knows, and what more data would
    bring. Options are those of `regraft fit`.
    """
    from regraft import jobs
    from regraft.cli.render import answer

    answer(as_json, lambda screen: jobs.inspect(data, **options, on_event=screen), report)


def report(result: Mapping[str, Any]) -> list[Any]:
    """What was found, as tables and sentences."""
    from regraft.cli.render import amount, table
    from regraft.modality import MODALITIES

    nouns = MODALITIES[result["task"]].nouns
    n, test = result["n"], result["n"]["test"]
    lines: list[Any] = ["", f"{n['train']:,} {nouns} to train on" + (f", {test:,} to test on" if test else "")]
    lines += _spread_lines(result)
    rows = [[name, *(amount(v[k]) for k in ("least", "p5", "median", "p95", "largest"))] for name, v in result["sizes"].items()]
    if rows:
        lines += ["", table(["size", "least", "5 %", "median", "95 %", "largest"], rows, range(1, 6))]
    twice, crossing, disputed = result["duplicates"], *(result["duplicates"][k] for k in ("on_both_sides", "with_different_labels"))
    lines.append("")
    if twice["groups"]:
        lines.append(f"exact duplicates: {twice['extra_copies']:,} more than one of {twice['groups']:,} contents")
        for title, found in (("with different labels", disputed), ("on both sides of the split", crossing)):
            if found["groups"]:
                lines.append(f"  {title}: {found['groups']:,}")
                lines += ["    " + "; ".join(f"{e['name']} ({e['label']}, {e['part']})" for e in g[:4]) for g in found["examples"][:5]]
    else:
        lines.append("exact duplicates: none")
    if result["groups"]["n"]:
        both = result["groups"]["in_both_parts"]
        lines.append(f"groups: {result['groups']['n']:,}" + (f", {both:,} of them in both parts" if both else ""))
    lines += [f"{count:,} are {note}" for note, count in result["notes"].items()]
    broken = result["left_out"]
    lines.append(f"left out: {len(broken):,}" if broken else "left out: none")
    lines += [f"  {item['name']}: {item['reason']}" for item in broken[:20]]
    lines += [f"  and {len(broken) - 20:,} more"] if len(broken) > 20 else []
    return lines + (_evidence_lines(result) if "evidence" in result else [])


def _evidence_lines(result: Mapping[str, Any]) -> list[Any]:
    """What a network found, check by check."""
    from regraft.cli.render import METRIC_NAMES, figure, table
    from regraft.evaluation.trust import CHECKS, Listing

    found = result["evidence"]
    key = next(iter(found["metrics"]))
    lines: list[Any] = ["", f"what {found['model']} shows, with a linear layer: {METRIC_NAMES[key]} {figure(found['metrics'][key])}"]
    for check in CHECKS.values():
        lines.append("")
        for told in check.told(found[check.name]):
            lines.append(table(told.columns, told.rows) if isinstance(told, Listing) else told)
    written = result.get("written", [])
    return lines + ([""] + [f"written: {path}" for path in written] if written else [])


def _spread_lines(result: Mapping[str, Any]) -> list[Any]:
    from regraft.cli.render import amount, table

    train, test = result["spread"]["train"], result["spread"]["test"]
    parts = ["train", "test"] if test else ["train"]
    if result["target"] == "number":
        rows = [[key, *(amount(result["spread"][p][key]) for p in parts)] for key in train]
        return ["", table(["value", *parts], rows, range(1, 3))]
    names = sorted(train, key=lambda k: -train[k]) if len(train) > 30 else list(train)
    rows = [[name, *(f"{result['spread'][p].get(name, 0):,}" for p in parts)] for name in names[:30]]
    title = "class" if result["target"] == "class" else "label"
    lines: list[Any] = ["", table([title, *parts], rows, range(1, 3))]
    if len(names) > 30:
        lines.append(f"and {len(names) - 30:,} more; {train[names[-1]]:,} to {train[names[0]]:,} examples each")
    return lines
