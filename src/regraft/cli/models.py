"""regraft models"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import click

from regraft.cli.common import json_option, print_json
from regraft.spec import TASKS

ROWS = 20
"""Networks in a list where there is no terminal to fill."""

RESULTS = 40
"""Transfer results of one network when no limit is given."""


GIVE_UP = (("trained on", 24), ("published", 24), ("trained on", 0), ("licence", 12), ("task", 0), ("GMACs", 0), ("published", 9))
"""What a table gives up where it is too wide, in this order: a column cut to so many characters, or (0) left away."""


@click.command("models")
@click.argument("words", nargs=-1, metavar="[WORDS|NAME]")
@click.option("--task", type=click.Choice(TASKS), help="Only networks for this kind of data.")
@click.option("--max-params", metavar="N", help="At most so many parameters: 30M, 1.5G, 300k.")
@click.option("--max-gmacs", metavar="N", help="At most so many billions of multiply-adds for one image.")
@click.option("--trained-on", metavar="TEXT", help="Part of the name of what it was trained on, such as laion.")
@click.option(
    "--licence",
    metavar="KIND",
    help="permissive, attribution, weak-copyleft, non-commercial, custom (read its terms) or unknown; or a licence such as mit.",
)
@click.option("--here", is_flag=True, help="Only networks whose weights are installed.")
@click.option("--sort", metavar="BY", help="accuracy, params, gmacs, features, results (published ones) or name.")
@click.option("--limit", type=int, metavar="N", help="Show at most so many; a screenful when not given, all with --json.")
@json_option
def command(
    words: tuple[str, ...],
    task: str | None,
    max_params: str | None,
    max_gmacs: str | None,
    trained_on: str | None,
    licence: str | None,
    here: bool,
    sort: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List pretrained networks: those that regraft opens, the first of each task its default; with WORDS or options, all that
    are known and fit. All WORDS must stand in the name, the family or what it was trained on. NAME shows one network whole.
    """
    from regraft.cli.render import console, show
    from regraft.jobs.networks import Listing, listing
    from regraft.pretrained.catalogue import Wanted

    split = tuple(part for word in words for part in word.split())
    wanted = Wanted(split, task, None, None, trained_on, licence, here, sort)
    out = console()
    screenful = max(5, shutil.get_terminal_size().lines - 6) if out.is_terminal else ROWS
    most = screenful if limit is None and not as_json else limit
    found: Listing = listing(wanted, max_params=max_params, max_gmacs=max_gmacs, limit=most)
    if as_json:
        print_json(found.rows)
        return
    if found.whole:
        show(out, *whole(found.rows[0], limit or RESULTS))
        return
    if found.rows:
        show(out, listed(found.rows, out.width))
    for line in below(found):
        show(out, line)


def listed(rows: Sequence[Mapping[str, Any]], width: int) -> Any:
    """Networks as a table that fits: one line each, the words cut and columns left away as the width asks."""
    from regraft.cli.render import table
    from regraft.pretrained.catalogue import HEADLINES

    columns: dict[str, list[str]] = {
        "name": [m["name"] for m in rows],
        "task": [m["task"] for m in rows],
        "params": [size(m["parameters"]) for m in rows],
        "GMACs": ["" if m["gmacs"] is None else f"{m['gmacs']:.3g}" for m in rows],
        "published": [m["published"] for m in rows],
        "trained on": [data(m) for m in rows],
        "licence": [m["licence"] for m in rows],
        "here": [here_word(m) for m in rows],
    }
    for name in ("GMACs", "published", "trained on"):
        if not any(columns[name]):
            del columns[name]
    if len(set(columns["task"])) == 1 and len(rows) > 1:
        del columns["task"]

    def needed(name: str) -> int:
        return max(len(cell) for cell in (name, *columns[name]))

    def over() -> int:
        return sum(map(needed, columns)) + 2 * (len(columns) - 1) - width

    for name, least in GIVE_UP:
        if name in columns and over() > 0:
            room = needed(name) - over()
            if least == 0:
                del columns[name]
            elif name == "published" and room < 24:
                # so short, a figure does not say what it measures: only those of the one kind stay
                columns[name] = [cut(m["published"], max(room, least)) if HEADLINES[m["task"]] in m["values"] else "" for m in rows]
            else:
                columns[name] = [cut(cell, max(room, least)) for cell in columns[name]]
    if not any(columns.get("published", "-")):
        del columns["published"]
    right = [i for i, name in enumerate(columns) if name in ("params", "GMACs")]
    return table([*columns], [*zip(*columns.values(), strict=True)], right)


def cut(text: str, room: int) -> str:
    """A text in at most `room` characters."""
    return text if len(text) <= room else text[: room - 1].rstrip(" ,;(") + "…"


def size(parameters: int | None) -> str:
    """Parameters as people say them."""
    if parameters is None:
        return ""
    return f"{parameters / 1e6:,.1f} M" if parameters < 1e9 else f"{parameters / 1e9:.2f} G"


def data(m: Mapping[str, Any]) -> str:
    """What a network was trained on and how much."""
    from regraft.pretrained.catalogue.base import in_words

    said = in_words(m["trained_on"])
    if m["amount"] is None:
        return said
    about = "nominally " if m["amount_is_nominal"] else ""
    first = " of the first" if " > " in m["trained_on"] else ""
    return f"{said} ({about}{many(m['amount'])} {m['unit']}{first})"


def many(number: int) -> str:
    """A count in thousands, millions or billions from a million on."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:,}"


def here_word(m: Mapping[str, Any]) -> str:
    """The cell under `here`."""
    return "yes" if m["here"] else "no" if m["openable"] else "facts"


def below(found: Any) -> list[str]:
    """What is said under a list."""
    lines = [found.said] if found.said else []
    rows = found.rows
    if found.more:
        lines.append(f"\n{found.more:,} more fit; --limit {len(rows) + found.more} shows all, --json for a program")
    for name, count in (found.unknown or {}).items():
        if count:
            lines.append(f"{count:,} more left out: nobody published their {'GMACs' if name == 'gmacs' else name}")
    if any(not m["openable"] for m in rows):
        lines.append("facts: this regraft knows what was published of the network, and cannot open it")
    lines += [f"\nto have the others: {line}" for line in sorted({m["install"] for m in rows if not m["here"] and m["install"]})]
    if found.others:
        how = "regraft models WORDS, or an option such as --task image; NAME shows one whole"
        lines.append(f"\nthe catalogue knows {found.others:,} more: {how}")
    return lines


def whole(m: Mapping[str, Any], limit: int) -> list[Any]:
    """Everything about one network."""
    from regraft.cli.render import table
    from regraft.pretrained.catalogue import VALUE_NAMES, gathered, source_line
    from regraft.pretrained.catalogue.base import in_words

    counted = {"whole": "in the whole file of weights", "backbone": "without the output layer"}.get(m["counted"], "")
    gmacs = "" if m["gmacs"] is None else f"{m['gmacs']:.3g} for one image"
    if m["gmacs_224"] is not None and m["gmacs_224"] != m["gmacs"]:
        gmacs += f"; {m['gmacs_224']:.3g} at 224 px"
    windows = {"": "", "any": ", of any length"}.get(m["window"], f", {m['window']} s at once")
    input_is = [f"{m['input_size']} px" if m["input_size"] else "", f"up to {m['max_tokens']:,} tokens" if m["max_tokens"] else ""]
    input_is.append(f"{m['sample_rate']:,} samples/s{windows}" if m["sample_rate"] else windows.removeprefix(", "))
    facts = {
        "name": m["name"],
        "about": m["about"],
        "here": here_line(m),
        "same weights": m["same_as"],
        "task": ", ".join(filter(None, (m["task"], m["domain"]))),
        "family": m["family"],
        "trained on": data(m) or "not stated",
        "supervision": in_words(m["supervision"]),
        "languages": m["languages"],
        "parameters": f"{size(m['parameters']) or 'not stated'} {counted}".rstrip(),
        "GMACs": gmacs,
        "input": ", ".join(filter(None, input_is)),
        "features": f"{m['features']:,}" if m["features"] else "",
        "released": m["released"],
        "licence": licence_line(m),
        "own code": "its repository asks to run code of its own, which regraft never does" if m["remote_code"] else "",
        "origin": m.get("origin", ""),
        "published": m["published"] if not m["values"] or m.get("origin") else "",
    }
    parts: list[Any] = [table(["", ""], [[key, value] for key, value in facts.items() if value])]
    if m["values"]:
        rows = [[f"{m['values'][name]:,.2f}".rstrip("0").rstrip("."), after] for name, after in VALUE_NAMES.items() if name in m["values"]]
        parts += ["", table(["published", ""], rows, (0,))]
    parts += results(m, limit)
    keys = list(dict.fromkeys((*m["sources"], *(t["source"] for t in m["transfer"]))))
    parts += ["", table(["source", f"gathered {gathered()}"], [[key, source_line(key)] for key in keys])]
    return parts


def results(m: Mapping[str, Any], limit: int) -> list[Any]:
    """How a network transferred: frozen features first."""
    from regraft.cli.render import table

    if not m["transfer"]:
        return ["", "no published transfer to another data set is known"]
    frozen = ("linear probe", "knn", "frozen features", "shallow mlp on frozen features")
    first = sorted(m["transfer"], key=lambda t: (t["method"] not in frozen, t["method"], t["dataset"].casefold(), -(t["n"] or 0)))
    rows = []
    for t in first[:limit]:
        n = f"{t['n']:,}" if t["n"] else "none" if t["n"] == 0 else ""
        said = t["setting"] if t["setting"] not in ("", "full") or n else t["setting"] or "not stated"
        value = f"{t['value']:.2f}" + ("" if t["std"] is None else f" ± {t['std']:.2f}")
        dataset = t["dataset"] + (" (trained on it)" if t["seen"] else "")
        rows.append([dataset, ", ".join(filter(None, (n, said))), t["method"], value, t["metric"], t["split"], t["source"]])
    more = len(first) - len(rows)
    after = [f"{more:,} more results: --limit {len(first)}"] if more else []
    return ["", table(["data set", "examples", "method", "value", "metric", "part", "source"], rows, (3,)), *after]


def here_line(m: Mapping[str, Any]) -> str:
    """Whether it is here, and how to get it."""
    if m["here"]:
        return f"yes: regraft fit DATA --model {m['name']}"
    if m["install"]:
        return f"no: {m['install']}"
    return "no" if m["openable"] else "no, facts only: this regraft cannot open it"


def licence_line(m: Mapping[str, Any]) -> str:
    """The licence of the weights with what its kind means."""
    means = {
        "attribution": "permissive, its makers must be named",
        "weak-copyleft": "weak copyleft",
        "custom": "terms of its own: read them",
        "unknown": "what was read states none",
    }
    return f"{m['licence']} ({means.get(m['licence_kind'], m['licence_kind'])})"
