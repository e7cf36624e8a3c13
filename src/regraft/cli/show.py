"""regraft show"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from regraft.cli.common import allow_option, edit_options, json_option, print_json

TARGET_NAMES = {"class": "classes", "multilabel": "labels", "number": "number"}
"""What stands before the names of the outputs."""


@click.command("show")
@click.argument("what", metavar="RUN|MODEL")
@edit_options
@allow_option
@click.option(
    "--train",
    metavar="LAYERS",
    help="Layers that would train, such as head or 'last 2 blocks, head'.  [default: what the recipe says, else head]",
)
@click.option("--depth", type=int, metavar="N", help="How many names deep layers are listed.  [default: so deep that blocks are seen]")
@click.option("--cut", is_flag=True, help="Also where the frozen part ends, what is kept of an example there, and what that saves.")
@json_option
def command(what: str, as_json: bool, train: str | None, depth: int | None, cut: bool, allow: tuple[str, ...], **edits: Any) -> None:
    """Show RUN (a run's folder or a bundle): the model, its origin and licence, figures, what was left out.

    Or MODEL, a pretrained network such as efficientnet-lite0: its layers in the order in which data passes, with shapes of one
    example, parameters, multiply-adds, and what would train; after changes, and with what they change, where there are any
    (--remove, --replace, --insert, --recipe). Layers are chosen by path (blocks.3), glob (blocks.*.attn), range (blocks.8-11),
    kind (kind:BatchNorm2d) or word (stem, blocks, head, norms, last 2 blocks, last 30%).
    """
    from pathlib import Path

    from regraft.errors import UsageError

    edited = any(value for value in edits.values())
    if Path(what).exists():
        if edited or train or allow or cut or depth is not None:
            raise UsageError(f"{what} is a folder: --train, --depth, --cut, --allow and changes are for the name of a network")
        _show_run(what, as_json)
        return
    if "/" in what and ":" not in what:
        _show_run(what, as_json)  # says that there is no such run
        return
    if depth is not None and not 1 <= depth <= 20:
        raise UsageError(f"--depth {depth}: expected 1 to 20")
    _show_model(what, as_json, train or None, depth, cut, allow, edits)


def _show_model(
    name: str, as_json: bool, train: str | None, depth: int | None, cut: bool, allow: tuple[str, ...], edits: Mapping[str, Any]
) -> None:
    from regraft.cli.render import console, show, table
    from regraft.errors import UsageError
    from regraft.jobs.common import patterns
    from regraft.jobs.network import show_model, written_steps
    from regraft.pretrained import Access, find_model

    try:
        facts = find_model(name, Access(allow=patterns(allow)))
    except UsageError as error:
        found, dot, hint = error.found.partition(". ")
        raise UsageError(
            f"{found.rstrip('.')}, and no folder of a run{dot}{hint}", move=error.move or "regraft models, or regraft runs"
        ) from None
    steps = written_steps(
        edits["recipe"],
        edits["remove"],
        edits["replace"],
        edits["insert"],
        edits["resize_input"],
        edits["lora"],
        edits["rank"],
        edits["at"],
    )
    found = show_model(facts, steps=steps, train=train, depth=depth, cut=cut)
    if as_json:
        print_json(found)
        return
    out, model = console(), found["model"]
    if said := facts.differences():
        show(out, said)
    inputs = ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in found["inputs"].items())
    show(out, f"{model['name']}: {model['about']}", f"input: {inputs}", "")
    rows, part = [], None
    for layer in found["layers"]:
        own = "blocks" if layer["part"].startswith("block") else layer["part"]
        if layer["part"] in ("", "blocks") and layer["children"] and layer["depth"] < found["depth"]:
            continue  # a container whose layers are listed themselves
        if layer["kind"] == "Parameter" and "." in layer["path"]:
            continue  # counted in the layer that holds it
        if own and own != part:
            part = own
            rows.append([part, "", "", "", "", ""])
        state = "new" if layer["new"] else ""
        if layer["parameters"]:
            share = layer["trained"] / layer["parameters"]
            state += ", " if state else ""
            state += "trained" if share == 1 else "frozen" if share == 0 else f"{percent(share)} trained"
        shape = "x".join(map(str, layer["output"])) if layer["output"] else ""
        calls = f" ({layer['calls']} times)" if layer["calls"] > 1 else ""
        name = "  " * layer["depth"] + layer["path"] + calls
        rows.append([name, layer["kind"], shape, short(layer["parameters"]), short(layer["macs"]), state])
    show(out, table(["layer", "kind", "output", "parameters", "multiply-adds", ""], rows, (3, 4)))
    share = percent(found["trained"] / max(1, found["parameters"]))
    total = f"{short(found['trained'])} of {short(found['parameters'])} parameters trained, {share}"
    show(out, "", f"{total}; {short(found['macs'])} multiply-adds an example")
    for line in found.get("patch", []):
        show(out, line)
    for line in _told_cut(found["cut"]) if cut else []:
        show(out, line)


def _told_cut(cut: Mapping[str, Any]) -> list[str]:
    if cut["empty"]:
        return ["", f"no cut: {cut['reason']}"]
    kept = [f"{'x'.join(map(str, t['shape']))} {t['dtype']}" + (f" ({t['after']})" if cut["tensors"][1:] else "") for t in cut["tensors"]]
    long = next((f" of length {t['shape'][t['varying'][0] - 1]}" for t in cut["tensors"] if t["varying"]), "")
    once = f"{short(cut['trunk_macs'])} of {short(cut['macs'])} multiply-adds"
    return [
        "",
        f"cut after {cut['after']}: what comes before is frozen and runs once for each example",
        f"  kept of an example{long}: {memory(cut['bytes'])}: {', '.join(kept)}",
        f"  saved at every further step: {once}, {percent(cut['saved'])}",
    ]


def memory(count: int) -> str:
    """A number of bytes with three digits: 37.6 kB."""
    told = short(count)
    return f"{told}B" if " " in told else f"{told} B"


def percent(share: float) -> str:
    """A share with two digits that matter, never 100 % unless it is all: 0.076 %."""
    if share >= 0.995:
        return "100 %" if share == 1 else f"{min(99.9, 100 * share):.3g} %"
    return f"{100 * share:.2g} %"


def short(count: int) -> str:
    """A large number with three digits: 4.65 M."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count) if count else ""


def _show_run(run: str, as_json: bool) -> None:
    from regraft import jobs
    from regraft.cli.fit import report
    from regraft.cli.render import console, details, show, table
    from regraft.jobs.recording import of_shipped

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
        ["train", f"{bundle['train']}: {_trained(bundle)}, {bundle['head']['in']} features to {bundle['head']['out']} outputs"],
        ["size", f"{weights:.1f} MB"],
        ["written by", ", ".join(f"{k} {v}" for k, v in bundle["versions"].items())],
    ]
    if recipe := (result or {}).get("recipe") or bundle["architecture"].get("recipe"):
        rows.insert(3, ["changed", "; ".join(_in_words(s) for s in recipe)])
    rows[-2:-2] = _settings(of_shipped(found["decisions"], bundle["train"]))
    show(out, table(["", ""], rows))
    if result:
        for line in report(result, tables=True):
            show(out, line)
        for line in details(result):
            show(out, "")
            show(out, line)
        if result["left_out"]:
            show(out, f"\nleft out: {len(result['left_out']):,}")
            for item in result["left_out"][:10]:
                show(out, f"  {item['name']}: {item['reason']}")


def _settings(decisions: Mapping[str, Any]) -> list[list[str]]:
    """How the network was trained: every setting, with who said so where it does not follow from the data, and views."""
    rows: list[list[str]] = []
    settings = decisions.get("settings") or decisions.get("head_settings")
    if isinstance(settings, dict):
        said = decisions.get("settings_from") or {}
        told = [
            f"{k} {str(v).lower() if isinstance(v, bool) else v}" + (f" ({said[k]})" if k in said else "")
            for k, v in settings.items()
            if v or k in said
        ]
        rows.append(["settings", ", ".join(told)])
        if off := [k for k, v in settings.items() if not v and k not in said]:
            rows.append(["off", ", ".join(off)])
    if views := decisions.get("views"):
        rows.append(
            ["views", f"{views['count']} of each training example: {', '.join(kind['name'] for kind in views['augment']) or 'as it is'}"]
        )
    if wise := decisions.get("wise"):
        rows.append(["weights", f"{wise['mix']:.0%} of the way from the head's solution to the end of the training"])
    if (temperature := decisions.get("temperature")) and temperature["kept"]:
        rows.append(["temperature", f"{temperature['value']:.3g}, in the output layer"])
    return rows


def _trained(bundle: Mapping[str, Any]) -> str:
    """What was trained, before the sizes of the head."""
    head = "a new output layer" if bundle["head"].get("linear", True) else "a new head of several layers"
    if bundle["train"] == "none":
        return "its own output layer, " + ("a linear map behind it" if bundle["head"].get("linear", True) else "classes by name")
    if bundle["train"] == "lora":
        return f"adapters, now part of the pretrained weights, with {head}"
    return head if bundle["train"] == "head" else f"from the pretrained weights, with {head}"


def _in_words(step: Mapping[str, Any]) -> str:
    """A step of a recipe."""
    if step["op"] == "truncate":
        return f"cut off after {step.get('after')}"
    return f"{step['op']} {', '.join(str(v) for k, v in step.items() if k != 'op')}"
