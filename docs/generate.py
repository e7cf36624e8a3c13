"""Writes the pages that can be read off the program: commands.md and models.md.

python docs/generate.py            write them
python docs/generate.py --check    only say whether they are up to date; exit code 1 when one is not
"""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path

import click

import regraft
from regraft.cli.main import COMMANDS, cli

HERE = Path(__file__).resolve().parent
WIDTH = 100

MARK = "<!-- Written by docs/generate.py from the program itself; `make fix` writes it again. -->"


def help_of(command: click.Command, name: str) -> str:
    """What `NAME --help` prints, at a fixed width and without colours."""
    with click.Context(command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH, color=False) as context:
        context.help_option_names = ["-h", "--help"]
        text = click.unstyle(command.get_help(context))
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def commands_page() -> str:
    """Every command with its help."""
    lines = [MARK, "", "# Commands", "", "What `--help` says. The words are explained in [vocabulary.md](vocabulary.md).", ""]
    lines += ["```text", help_of(cli, "regraft"), "```", ""]
    for name in COMMANDS:
        command = importlib.import_module(f"regraft.cli.{name}").command
        lines += [f"## regraft {name}", "", "```text", help_of(command, f"regraft {name}"), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def models_page() -> str:
    """Every pretrained network with where it comes from."""
    lines = [
        MARK,
        "",
        "# Pretrained networks",
        "",
        "The networks that `regraft models` lists when nothing is asked for. The first of each task is its default. Parameters count the",
        "backbone alone, without the output layer that the network had. `regraft models` also says which of them are installed, and with",
        "words or options (`regraft models --task image --max-params 10M`) what is known of published networks that are not here.",
        "",
        "| name | task | parameters | features | published | licence |",
        "|---|---|---:|---:|---|---|",
    ]
    found = regraft.models()
    for m in found:
        lines.append(f"| {m['name']} | {m['task']} | {m['parameters']:,} | {m['features']:,} | {m['published']} | {m['licence']} |")
    for m in found:
        lines += [
            "",
            f"## {m['name']}",
            "",
            f"{m['about']}.",
            "",
            f"- trained on: {m['trained_on']}",
            f"- published: {m['published']}",
            f"- licence of the weights: {m['licence']}",
            f"- origin: {m['origin']}",
            f"- package: `{m['package']}=={m['version']}`",
            f"- SHA-256 of the file of weights: `{m['sha256']}`",
            f"- examples in a tile: {m['tile']}",
        ]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """File name -> what it should hold."""
    return {"commands.md": commands_page(), "models.md": models_page()}


def main(arguments: list[str]) -> int:
    """Write the pages, or check them; the exit code."""
    check = "--check" in arguments
    stale = []
    for name, wanted in pages().items():
        path = HERE / name
        found = path.read_text(encoding="utf-8") if path.is_file() else ""
        if found == wanted:
            continue
        if not check:
            path.write_text(wanted, encoding="utf-8", newline="\n")
            print(f"wrote docs/{name}")  # noqa: T201
            continue
        stale.append(name)
        changes = difflib.unified_diff(found.splitlines(), wanted.splitlines(), f"docs/{name}", "the program", lineterm="", n=0)
        print("\n".join([*changes][:20]), file=sys.stderr)  # noqa: T201
    if stale:
        print("\n".join(f"docs/{name} differs from what the program says; `make fix` writes it again" for name in stale), file=sys.stderr)  # noqa: T201
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
