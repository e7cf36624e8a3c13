"""regraft cache"""

from __future__ import annotations

import click

from regraft.cli.common import json_option, print_json


@click.command("cache")
@click.option("--empty", is_flag=True, help="Remove everything that is kept.")
@click.option("--remove", metavar="KEY", help="Remove one entry; the start of its key is enough.")
@json_option
def command(empty: bool, remove: str | None, as_json: bool) -> None:
    """Show the feature store: what is kept, what made it, how much room it takes. It can always be computed again."""
    import time

    from regraft import jobs
    from regraft.cli.render import console, duration, show, table
    from regraft.errors import UsageError

    if empty and remove:
        raise UsageError("--empty and --remove exclude each other")
    if empty or remove:
        gone = jobs.clear_cache(remove)
        if as_json:
            print_json(gone)
        else:
            show(console(), f"removed {len(gone['removed'])} entries, {gone['bytes'] / 1e6:,.1f} MB")
        return
    found = jobs.cache()
    if as_json:
        print_json(found)
        return
    out = console()
    show(
        out,
        f"{found['folder']}: {found['bytes'] / 1e6:,.1f} MB of at most {found['limit'] / 1e9:,.1f} GB (REGRAFT_CACHE_SIZE, REGRAFT_HOME)",
    )
    rows = []
    for space in found["spaces"]:
        maker = space["maker"]
        what = maker.get("architecture", {}).get("name") or maker.get("modality", "?")
        how = maker.get("engine", maker.get("kind", "?"))
        rows.append(
            [
                space["key"][:8],
                str(what),
                how,
                f"{space['rows']:,}",
                f"{space['bytes'] / 1e6:,.1f} MB",
                f"{duration(max(0.0, time.time() - space['used']))} ago",
            ]
        )
    if rows:
        show(out, table(["key", "network", "made by", "rows", "size", "used"], rows, (3, 4)))
