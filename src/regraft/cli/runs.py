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
    from regraft.cli.render import console, duration, figure, show, table

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
        test = run["test"]["metrics"]["accuracy"] if run["test"] else None
        rows.append(
            [
                run["run"],
                run["model"],
                f"{run['n']:,}",
                figure(run["estimate"]["accuracy"]),
                f"{test['value']:.3f}" if test else "",
                duration(run["seconds"]),
            ]
        )
    show(console(), table(["run", "model", "n", "accuracy, cross-validated", "test", "time"], rows, (2, 4, 5)))
