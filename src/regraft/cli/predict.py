"""regraft predict"""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import click

from regraft.cli.common import allow_option, code_option, json_option, machine_options, option, outside_option


@click.command("predict")
@click.argument("run", metavar="RUN|MODEL")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER|TABLE...")
@click.option("--input", metavar="COLUMN", help="The column of a table that holds the text or the path.")
@click.option(
    "--top", type=int, metavar="N", help="The N most probable labels with their probabilities.  [default: the predicted one; in JSON all]"
)
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV: name, what is predicted, and each label's probability.")
@outside_option
@json_option
@machine_options
@option("--offline", is_flag=True)
@allow_option
@code_option
def command(
    run: str,
    inputs: tuple[str, ...],
    as_csv: bool,
    as_json: bool,
    top: int | None,
    offline: bool,
    allow_code: bool,
    allow: tuple[str, ...],
    **options: Any,
) -> None:
    """Predict with the model in RUN (a run's folder or a bundle), for any number of inputs, in order: the label and its
    probability; the labels at or above their thresholds; or a number and the interval that holds nine of ten.

    Or with MODEL, a pretrained network as it was published, such as efficientnet-lite0 or timm:resnet50.a1_in1k: the classes that it was
    trained on.

    For a text model an input is a file of text or a CSV. An input that cannot be read is named on standard error, and
    the exit code is 1.
    """
    from pathlib import Path

    from regraft.cli.render import Screen
    from regraft.errors import UsageError, printable
    from regraft.facts import LeftOut, NumberPrediction
    from regraft.jobs.use import open_predictor, stream_predictions

    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    if as_csv and top is not None:
        raise UsageError("--csv has a column for each label, and --top leaves labels out", move="--json --top N")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    broken = count = 0
    with Screen(quiet=True) as screen:
        predictor = open_predictor(run, offline=offline, allow_code=allow_code, allow=allow, on_event=screen)
        if as_csv:
            writer.writerow(["name", *predictor.target.columns()])
        for item in stream_predictions(predictor, [Path(i) for i in inputs], top=top, **options, on_event=screen):
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
            elif top is not None and not isinstance(item, NumberPrediction):
                print(item.name, *(cell for label, p in item.probabilities.items() for cell in (printable(label), f"{p:.3f}")), sep="\t")
            else:
                print(item.name, *item.short(), sep="\t")
            count += 1
    if as_json:
        print("\n]" if count else "[]")
    if broken:
        raise SystemExit(1)


def _json_item(value: dict[str, Any], count: int) -> None:
    print(("[\n" if count == 0 else ",\n") + json.dumps(value, ensure_ascii=False), end="")
