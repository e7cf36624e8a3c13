"""regraft runs"""

from __future__ import annotations

import click

from regraft.cli.common import json_option, print_json


@click.command("runs")
@click.argument("folder", default="runs")
@json_option
def command(folder: str, as_json: bool) -> None:
    """List the runs in FOLDER (runs/ when not given), oldest first."""
    from regraft import jobs
    from regraft.cli.render import console, duration, first_metric, show, table

    found = jobs.runs(folder)
    if as_json:
        print_json(found)
        return
    if not found:
        show(console(), f"no runs in {folder}")
        return
    rows = []
    for run in found:
        if not run["finished"]:
            rows.append([run["run"], "not finished", "", "", "", ""])
            continue
        name, value = first_metric(run["estimate"])
        test = first_metric(run["test"]["metrics"])[1] if run["test"] else ""
        rows.append(
            [
                run["run"],
                run["model"],
                f"{run['n']:,}",
                f"{name} {value}",
                test,
                duration(run["seconds"]),
            ]
        )
    show(console(), table(["run", "model", "n", "cross-validated", "test", "time"], rows, (2, 4, 5)))
