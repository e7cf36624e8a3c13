"""regraft models"""

from __future__ import annotations

import click

from regraft.cli.common import json_option, print_json
from regraft.spec import TASKS


@click.command("models")
@click.option("--task", type=click.Choice(TASKS), help="Only networks for this kind of data.")
@json_option
def command(task: str | None, as_json: bool) -> None:
    """List the pretrained networks there are to reuse; the first of each task is its default."""
    from regraft import jobs
    from regraft.cli.render import console, show, table

    found = jobs.models(task=task)
    if as_json:
        print_json(found)
        return
    rows = []
    for m in found:
        rows.append(
            [
                m["name"],
                m["task"],
                f"{m['parameters'] / 1e6:.1f} M",
                m["trained_on"],
                m["published"],
                m["licence"],
                "yes" if m["here"] else "no",
            ]
        )
    out = console()
    show(out, table(["name", "task", "parameters", "trained on", "published", "licence", "here"], rows, (2,)))
    lines = {m["install"] for m in found if not m["here"]}
    for line in sorted(lines):
        show(out, f"\nto have the others: {line}")
