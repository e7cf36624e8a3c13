"""regraft fit"""

from __future__ import annotations

from typing import Any

import click

from regraft.cli.common import (
    data_options,
    edit_options,
    engine_options,
    json_option,
    machine_options,
    network_options,
    option,
    print_json,
    setting_help,
    store_option,
    strict_option,
)
from regraft.spec import ALL_METRICS


@click.command("fit")
@click.argument("data")
@data_options
@option("--metric", type=click.Choice(ALL_METRICS))
@option("--model", metavar="NAME")
@option("--max-params", metavar="N")
@option("--licence", metavar="LICENCE")
@option("--max-memory", metavar="SIZE")
@option("--max-latency", metavar="TIME")
@network_options
@edit_options
@option("--train", metavar="HOW")
@option("--augment", metavar="WHAT", default="auto", show_default=True)
@option("--views", metavar="K")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help=setting_help())
@machine_options
@engine_options
@option("--budget", metavar="TIME")
@option("--out", metavar="DIR")
@option("--seed", type=int, default=0, show_default=True)
@strict_option
@option("--balance", is_flag=True)
@store_option
@option("--track", multiple=True, metavar="TRACKER[:WHERE]")
@click.option("--replay", metavar="RUN", help="Use the decisions of another run of the same data and spec: nothing is measured again.")
@click.option("--plan", metavar="FILE.json", help="Follow a plan that `regraft plan --out` wrote: network, rung and settings are its own.")
@json_option
def command(data: str, as_json: bool, **options: Any) -> None:
    """Fit a model to DATA: a folder with one sub-folder per class, a folder with train/ and test/, or a table (CSV, TSV,
    JSON Lines, Parquet, Excel).

    The network is frozen and gets a new output layer for what you predict: one class, several labels, or a number. The
    estimate is cross-validated; a test part is only ever used for the figures that carry its name.
    """
    from regraft.deadline import Deadline, OutOfTime, too_little

    # what it took to start counts too, and what it takes to load the rest
    deadline = Deadline.of(options["budget"], process=True)
    try:
        run = _run(data, {**options, "budget": deadline if options["budget"] else None}, as_json)
    except OutOfTime:
        raise too_little(deadline) from None
    finally:
        deadline.silence()
    from regraft.cli.render import console, show

    if as_json:
        print_json(run.result)
        return
    out = console()
    for line in report(run.result):
        show(out, line)


def _run(data: str, options: dict[str, Any], as_json: bool) -> Any:
    from regraft import jobs
    from regraft.cli.render import Screen

    with Screen(quiet=as_json) as screen:
        return jobs.fit(data, **options, on_event=screen)


def report(result: Any, *, tables: bool = False) -> list[Any]:
    """What a finished fit shows; with `tables` also the race and the ladder as such, which it told of on its way."""
    from regraft.cli.render import duration, first_metric, ladder, metrics_table, race
    from regraft.evaluation.names import judged_on
    from regraft.modality import MODALITIES
    from regraft.spec import clock_time

    modality = MODALITIES[result["task"]]
    parts = [(f"{judged_on(result)} {modality.nouns}", result["estimate"], result["baseline"])]
    if test := result.get("test"):
        parts.append((f"test, {test['n']:,} {modality.nouns}", test["metrics"], test["baseline"]))
    lines: list[Any] = ["", metrics_table(parts, modality.without_network), ""]
    if test and (fresh := test.get("without_duplicates")):
        name, value = first_metric(fresh["metrics"])
        lines.append(f"test {name} without the {test['n'] - fresh['n']:,} that stand in the training part: {value}")
    memory = f", {result['peak_memory_mb']:,.0f} MB of memory at most" if result["peak_memory_mb"] else ""
    if budget := result.get("budget"):
        more = "; ".join(budget["with_more"])
        lines.append(f"budget {clock_time(budget['seconds'])}, {budget['used']:.1f} s used" + (f"; with more time: {more}" if more else ""))
    for table in filter(None, (race(result), ladder(result)) if tables else ()):
        lines += ["", table, ""]
    lines += [*told, ""] if (told := result.get("explanation")) else []
    lines += [
        f"{result['run']}: {duration(result['seconds'])}{memory}; licence of the weights: {result['licence']}",
        f"  regraft predict {result['run']} FILES     regraft evaluate {result['run']} DATA     regraft show {result['run']}",
    ]
    return lines
