"""regraft export"""

from __future__ import annotations

from typing import Any

import click

from regraft.cli.common import code_option, json_option, option, print_json

KINDS = ("onnx",)
"""Those of `artifacts/exports`, which is imported only when one is written."""


@click.command("export")
@click.argument("run")
@click.option("--to", type=click.Choice(KINDS), default="onnx", show_default=True, help="The kind of file.")
@click.option("--out", metavar="FILE", help="The file.  [default: RUN/onnx/model.onnx]")
@json_option
@option("--threads", type=int, metavar="N")
@code_option
def command(run: str, as_json: bool, **options: Any) -> None:
    """Write the model in RUN (a run's folder or a bundle), the network with its head, as one file for other programs.

    A JSON file of the same name says how inputs are prepared, what the outputs mean, and how the file was checked: on examples of
    the data of the fit where that is still there, else on made-up ones. A file that does not say what PyTorch says is not left.
    """
    from regraft.cli.render import Screen, console, show
    from regraft.jobs.export import export

    with Screen(quiet=as_json) as screen:
        found = export(run, **options, on_event=screen)
    if as_json:
        print_json(found)
        return
    checked = found["checked"]
    show(
        console(),
        f"{found['path']}: inputs {', '.join(_sized(i) for i in found['inputs'])}; output {_sized(found['outputs'][0])}",
        f"checked on {checked['examples']} {checked['on']}: scores differ from PyTorch's by {checked['largest_difference']:.1g} at most "
        f"(the largest is {checked['largest_score']:.2g}); {checked['equal_decisions']} of {checked['examples']} are decided equally",
        f"how inputs are prepared: {found['file'].rsplit('.', 1)[0]}.json"
        + (f"; beside it {', '.join(found['files'])}" if found["files"] else ""),
        f"licence of the weights: {found['model']['licence']}",
    )


def _sized(value: dict[str, Any]) -> str:
    return f"{value['name']} ({', '.join(map(str, value['shape']))})"
