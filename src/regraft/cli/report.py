"""regraft report"""

from __future__ import annotations

import click

from regraft.cli.common import json_option, print_json


@click.command("report")
@click.argument("run")
@click.option("--data", metavar="DATA", help="Where the run's data lies now, if it was moved.")
@click.option("--out", metavar="FILE.html", help="The file to write.  [default: report.html in the run's folder]")
@click.option("--full", is_flag=True, help="Let the network run again for what the feature store lacks: learning curve and depths.")
@json_option
def command(run: str, data: str | None, out: str | None, full: bool, as_json: bool) -> None:
    """Write RUN as one HTML page: figures with intervals, what was gained, what it cost, what more examples would bring, what each depth
    of the network is worth, and the worst mistakes with their pictures or texts.

    The page needs nothing else, loads nothing and runs no script. `fit` writes it too, without the learning curve and the depths; they are
    made from features in the feature store.
    """
    from regraft import jobs
    from regraft.cli.render import Screen, console, show

    with Screen(quiet=as_json) as screen:
        found = jobs.report(run, data=data, out=out, full=full, on_event=screen)
    if as_json:
        print_json(found)
        return
    show(console(), f"{found['file']}: {found['mistakes']:,} mistakes among held-out examples, {found['shown']} of them to be seen")
