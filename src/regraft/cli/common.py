"""Options that several commands share, and how they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

from regraft.spec import ENGINES, METRICS, PRECISIONS, TASKS, FitSpec, help_texts

_HELP = help_texts(FitSpec)

Command = Callable[..., Any]


def option(name: str, **more: Any) -> Callable[[Command], Command]:
    """A click option whose help is the text under the field of `FitSpec` of the same name."""
    more.setdefault("help", _HELP[name.lstrip("-").replace("-", "_")])
    return click.option(name, **more)


def setting_help() -> str:
    """What --set does."""
    return _HELP["settings"]


def task_option(command: Command) -> Command:
    """--task"""
    return option("--task", type=click.Choice(TASKS))(command)


def column_options(command: Command) -> Command:
    """--input and --label"""
    return option("--input", metavar="COLUMN")(option("--label", metavar="COLUMN")(command))


def data_options(command: Command) -> Command:
    """What says how data is to be read: the same for every command that opens labelled data."""
    for decorate in reversed(
        (
            task_option,
            column_options,
            option("--target", type=click.Choice(list(METRICS))),
            option("--separator", metavar="TEXT"),
            option("--group", metavar="COLUMN"),
            option("--split", metavar="COLUMN"),
            option("--weight", metavar="COLUMN"),
            option("--test", metavar="PATH|FRACTION"),
            outside_option,
        )
    ):
        command = decorate(command)
    return command


def edit_options(command: Command) -> Command:
    """What changes a network: --recipe, --remove, --replace, --insert, --resize-input, --at, --lora, --rank"""
    for decorate in (
        option("--rank", type=int, metavar="N"),
        option("--lora", metavar="LAYERS"),
        option("--at", metavar="LAYER"),
        option("--resize-input", type=int, metavar="PIXELS"),
        option("--insert", multiple=True, metavar="PATH=LAYER"),
        option("--replace", multiple=True, metavar="PATH=LAYER"),
        option("--remove", multiple=True, metavar="PATH"),
        option("--recipe", metavar="FILE"),
    ):
        command = decorate(command)
    return command


def network_options(command: Command) -> Command:
    """--offline, --allow-code and --allow"""
    return option("--offline", is_flag=True)(option("--allow-code", is_flag=True)(allow_option(command)))


def allow_option(command: Command) -> Command:
    """--allow"""
    return option("--allow", multiple=True, metavar="PATTERN")(command)


def code_option(command: Command) -> Command:
    """--allow-code, of a model that was fitted before"""
    return click.option("--allow-code", is_flag=True, help="Import and run the code of your own that the model was made with.")(command)


def machine_options(command: Command) -> Command:
    """--device and --threads"""
    return option("--device", default="auto", metavar="DEVICE")(option("--threads", type=int, metavar="N")(command))


def engine_options(command: Command) -> Command:
    """--engine and --precision"""
    precision = option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
    return option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True)(precision(command))


def store_option(command: Command) -> Command:
    """--store / --no-store"""
    return click.option("--store/--no-store", default=True, help=_HELP["store"])(command)


def strict_option(command: Command) -> Command:
    """--strict"""
    return option("--strict", is_flag=True)(command)


def outside_option(command: Command) -> Command:
    """--allow-outside"""
    return option("--allow-outside", is_flag=True)(command)


def json_option(command: Command) -> Command:
    """--json"""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON for a program.")(command)


def given_flags(options: Mapping[str, Any]) -> list[str]:
    """Of the flags that a fit has too, those that were given: for the command that goes on with what was found."""
    return [f"--{name.replace('_', '-')}" for name in ("allow_outside", "balance", "offline", "allow_code") if options.get(name)]


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
