"""regraft resume"""

from __future__ import annotations

import os
from pathlib import Path

import click

from regraft.cli.common import code_option, json_option, print_json


@click.command("resume")
@click.argument("run")
@code_option
@json_option
def command(run: str, as_json: bool, allow_code: bool) -> None:
    """Go on with the fit in the folder RUN that was interrupted, killed or ran out of disk.

    It continues where it was, with the decisions that it had taken, and ends with the model that it would have written. Data, weights
    and versions have to be what they were; what differs is named. A run that is finished is shown as it is.
    """
    from regraft import jobs
    from regraft.cli.fit import report
    from regraft.cli.render import Screen, console, show
    from regraft.events import Said
    from regraft.workspace.lock import read_lock

    with Screen(quiet=as_json) as screen:
        where = read_lock(Path(run)).get("folder")
        if isinstance(where, str) and where != os.getcwd() and Path(where).is_dir():
            # the paths of the spec are meant from there
            screen(Said(f"in {where}, where the fit was begun"))
            run = str(Path(run).resolve())
            os.chdir(where)
        found = jobs.resume(run, allow_code=allow_code, on_event=screen)
    if as_json:
        print_json(found.result)
        return
    out = console()
    for line in report(found.result):
        show(out, line)
