"""regraft evaluate"""

from __future__ import annotations

from typing import Any

import click

from regraft.cli.common import (
    code_option,
    column_options,
    json_option,
    machine_options,
    option,
    outside_option,
    print_json,
    store_option,
    strict_option,
)


@click.command("evaluate")
@click.argument("run")
@click.argument("data")
@column_options
@option("--split", metavar="COLUMN")
@machine_options
@code_option
@strict_option
@outside_option
@store_option
@json_option
def command(run: str, data: str, as_json: bool, **options: Any) -> None:
    """Judge the model in RUN on labelled DATA: figures with 95 % intervals, baselines, and the confusion
    table, or the figures of each label.
    """
    from regraft import jobs
    from regraft.cli.render import Screen, console, details, metrics_table, show
    from regraft.jobs.run import open_run

    with Screen(quiet=as_json) as screen:
        result = jobs.evaluate(run, data, **options, on_event=screen)
    if as_json:
        print_json(result)
        return
    modality = open_run(run).model.modality
    out = console()
    for line in (
        "",
        metrics_table([(f"{result['n']:,} {modality.nouns}", result["metrics"], result["baseline"])], modality.without_network),
        "",
        *details(result),
    ):
        show(out, line)
