"""regraft features"""

from __future__ import annotations

from typing import Any

import click

from regraft.cli.common import (
    column_options,
    engine_options,
    json_option,
    machine_options,
    network_options,
    print_json,
    store_option,
    strict_option,
    task_option,
)


@click.command("features")
@click.argument("data")
@click.option("--model", metavar="NAME", help="The pretrained network; the default of the task when not given.")
@network_options
@click.option("--out", required=True, metavar="FILE", help="Where to write: .parquet, .npz (with names and labels) or .npy (rows alone).")
@task_option
@column_options
@machine_options
@engine_options
@strict_option
@store_option
@json_option
def command(data: str, as_json: bool, out: str, **options: Any) -> None:
    """Write the features that a frozen network gives for every example of DATA."""
    from regraft import jobs
    from regraft.cli.render import Screen, console, show

    with Screen(quiet=as_json) as screen:
        result = jobs.extract_features(data, out=out, **options, on_event=screen)
    shape = list(result["features"].shape)
    if as_json:
        print_json({"out": out, "shape": shape, **{k: result[k] for k in ("model", "licence", "left_out", "said", "warned")}})
    else:
        show(console(), f"{out}: {shape[0]:,} rows of {shape[1] if len(shape) > 1 else 0} features")
