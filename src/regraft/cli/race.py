"""regraft race"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import click

from regraft.cli.common import data_options, given_flags, json_option, machine_options, network_options, option, store_option
from regraft.spec import ALL_METRICS


@click.command("race")
@click.argument("data")
@data_options
@option("--metric", type=click.Choice(ALL_METRICS))
@click.option(
    "--model", metavar="NAME", multiple=True, help="A pretrained network; given several times, these race. All that are here if not given."
)
@click.option(
    "--budget",
    metavar="TIME",
    help="What the fit afterwards may take in all: 10m, 90s, 1h30m or seconds. The race ends within 15 % of it, of a small one a quarter.",
)
@click.option("--max-params", metavar="N", help="Parameters of the network at most: 30M, 300k.")
@click.option("--licence", metavar="LICENCE", help="A licence of the weights such as mit, or a kind of one such as permissive.")
@click.option("--max-memory", metavar="SIZE", help="Memory that a fit may hold at most, such as 4GB.")
@click.option("--max-latency", metavar="TIME", help="What one example may take to predict, such as 20ms.")
@network_options
@machine_options
@option("--seed", type=int, default=0, show_default=True)
@option("--balance", is_flag=True)
@store_option
@json_option
def command(data: str, as_json: bool, **options: Any) -> None:
    """Which of several pretrained networks to take for DATA, without fitting one.

    All see the same growing parts of the training examples. A new output layer on each is cross-validated in the same folds; what is
    behind by more than chance allows is dropped, and the others see more, until one is left, all was seen, or the time is over (a minute
    when no budget is given). A fit whose model is auto does the same and goes on with the winner. The test part is not looked at.
    """
    from regraft import jobs
    from regraft.cli.render import answer

    options["model"] = list(options["model"]) or None
    answer(as_json, lambda screen: jobs.race(data, **options, on_event=screen), lambda found: report(found, options))


def report(result: Mapping[str, Any], options: Mapping[str, Any]) -> list[Any]:
    """The networks as a table, the choice in words, and the command that goes on with it."""
    from regraft.cli.render import METRIC_NAMES, number, table
    from regraft.evaluation.transferability import SCORES
    from regraft.modality import MODALITIES

    modality, ran = MODALITIES[result["task"]], result["candidates"]
    scored = [name for name in SCORES if any(name in ((c["scores"] or {}).get("features") or {}) for c in ran)]
    titles = [SCORES[name].title for name in scored]
    columns = [
        "",
        "network",
        "params",
        "licence",
        "published",
        modality.nouns,
        METRIC_NAMES[result["metric"]],
        "behind",
        *titles,
        "time",
        "",
    ]
    rows = [_row(c, result, scored) for c in ran]
    lines: list[Any] = ["", table(columns, rows, (2, 5)), ""]
    for c in ran:
        if layers := (c["scores"] or {}).get("layers"):
            told = ", ".join(f"{SCORES[name].title} {value:.3f}" for name, value in layers.items())
            lines.append(f"{c['name']}, mean over its layers: {told}")
    lines += [f"{other['name']} does not race: {other['why']}" for other in result["others"]]
    lines += [f"{c['name']}: {c['dropped']}" for c in ran if c["dropped"]]
    if result["baseline"]:
        bare = number(result["baseline"]["without_network"]["value"])
        lines.append(
            f"{METRIC_NAMES[result['metric']]} without the network ({modality.without_network}), on the last {modality.nouns}: {bare}"
        )
    lines += [f"{c['name']} is worse than no network" for c in ran if c["worse_than_no_network"]]
    lines += [*result["reasons"], "", f"  {the_command(result, options)}"]
    return lines


def _row(c: Mapping[str, Any], result: Mapping[str, Any], scored: list[str]) -> list[str]:
    from regraft.evaluation.told import race_cells

    name, parameters, seen, reached, behind, time = race_cells(c, result["target"], unit="")
    values = (c["scores"] or {}).get("features") or {}
    return [
        "*" if c["name"] == result["winner"] else "out" if c["dropped"] else "",
        *(name, parameters, c["licence"], c["published"], seen, reached, behind),
        *(f"{values[name]:.3f}" if name in values else "" for name in scored),
        time,
        "worse than no network" if c["worse_than_no_network"] else "",
    ]


def the_command(result: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """What fits the winner."""
    words = ["regraft", "fit", result["data"]]
    for name in ("task", "input", "label", "target", "separator", "group", "split", "weight", "test", "metric", "budget"):
        words += [f"--{name}", str(options[name])] if options.get(name) else []
    return shlex.join([*words, *given_flags(options), "--model", result["winner"]])
