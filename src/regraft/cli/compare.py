"""regraft compare"""

from __future__ import annotations

import click

from regraft.cli.common import json_option, print_json


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@json_option
def command(runs: tuple[str, ...], as_json: bool) -> None:
    """Compare runs of the same data: the first one with each of the others, in pairs on the same examples."""
    from regraft import jobs
    from regraft.cli.render import console, duration, first_metric, show, table

    found = jobs.compare(*runs)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            run["run"],
            run["model"],
            run["train"],
            f"{run['n']:,}",
            " ".join(first_metric(run["estimate"])),
            duration(run["seconds"]),
            f"{run['bytes'] / 1e6:,.1f}",
        ]
        for run in found["runs"]
    ]
    screen = console()
    show(screen, table(["run", "model", "trained", "n", "cross-validated", "time", "MB"], rows, (3, 5, 6)))
    for pair in found["comparisons"]:
        counted = f"one does better on {pair['only_first']:,}, the other on {pair['only_other']:,}"
        kept = f"; {pair['left_out']:,} were not judged by both" if pair["left_out"] else ""
        show(screen, f"{pair['verdict']} ({counted}{kept})")
