"""regraft show"""

from __future__ import annotations

import click

from regraft.cli.common import json_option, print_json

TARGET_NAMES = {"class": "classes", "multilabel": "labels", "number": "number"}
"""What stands before the names of the outputs."""


@click.command("show")
@click.argument("run")
@json_option
def command(run: str, as_json: bool) -> None:
    """Show RUN (a run's folder or a bundle): the model, its origin and licence, figures, confusion, what was left out."""
    from regraft import jobs
    from regraft.cli.fit import report
    from regraft.cli.render import console, details, show, table

    found = jobs.show(run)
    if as_json:
        print_json(found)
        return
    bundle, result, out = found["bundle"], found["result"], console()
    model = bundle["model"]
    more = " ..." if len(bundle["labels"]) > 12 else ""
    weights = bundle["files"]["model.safetensors"]["bytes"] / 1e6
    rows = [
        ["task", bundle["task"]],
        [TARGET_NAMES[found["target"]], f"{len(bundle['labels'])}: {', '.join(bundle['labels'][:12])}{more}"],
        ["network", f"{model['name']}: {model['about']}"],
        ["trained on", model["trained_on"]],
        ["licence", f"{model['licence']} (weights)"],
        ["origin", model["origin"]],
        ["train", f"{bundle['train']}: a new output layer, {bundle['head']['in']} features to {bundle['head']['out']} outputs"],
        ["size", f"{weights:.1f} MB"],
        ["written by", ", ".join(f"{k} {v}" for k, v in bundle["versions"].items())],
    ]
    show(out, table(["", ""], rows))
    if result:
        for line in report(result):
            show(out, line)
        for line in details(result):
            show(out, "")
            show(out, line)
        if result["left_out"]:
            show(out, f"\nleft out: {len(result['left_out']):,}")
            for item in result["left_out"][:10]:
                show(out, f"  {item['name']}: {item['reason']}")
