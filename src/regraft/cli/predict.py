"""regraft predict"""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import click

from regraft.cli.common import code_option, json_option, machine_options, outside_option


@click.command("predict")
@click.argument("run")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER|TABLE...")
@click.option("--input", metavar="COLUMN", help="The column of a table that holds the text or the path.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV: name, what is predicted, and each label's probability.")
@outside_option
@json_option
@machine_options
@code_option
def command(run: str, inputs: tuple[str, ...], as_csv: bool, as_json: bool, **options: Any) -> None:
    """Predict with the model in RUN (a run's folder or a bundle), for any number of inputs, in order: the label and its
    probability; the labels at or above their thresholds; or a number and the interval that holds nine of ten.

    For a text model an input is a file of text or a CSV. An input that cannot be read is named on standard error, and
    the exit code is 1.
    """
    from pathlib import Path

    from regraft.cli.render import Screen
    from regraft.errors import UsageError
    from regraft.facts import LeftOut
    from regraft.jobs.run import open_run
    from regraft.jobs.use import stream_predictions

    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    header = open_run(run).model.target.columns()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        writer.writerow(["name", *header])
    broken = count = 0
    with Screen(quiet=True) as screen:
        for item in stream_predictions(run, [Path(i) for i in inputs], **options, on_event=screen):
            if isinstance(item, LeftOut):
                broken += 1
                print(f"cannot read {item.name}: {item.reason}", file=sys.stderr)
                if as_json:
                    _json_item({"name": item.name, "error": item.reason}, count)
                    count += 1
                continue
            if as_json:
                _json_item(item.to_json(), count)
            elif as_csv:
                writer.writerow([item.name, *item.cells()])
            else:
                print(item.name, *item.short(), sep="\t")
            count += 1
    if as_json:
        print("\n]" if count else "[]")
    if broken:
        raise SystemExit(1)


def _json_item(value: dict[str, Any], count: int) -> None:
    print(("[\n" if count == 0 else ",\n") + json.dumps(value, ensure_ascii=False), end="")
