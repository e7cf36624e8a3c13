"""The command `regraft`: finds the sub-command, turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import io
import json
import os
import shlex
import sys
from typing import Any

import click

import regraft
from regraft.errors import Interrupted, RegraftError, nearest, printable

COMMANDS = {
    "inspect": "Facts about a data set before any work: classes, sizes, duplicates, what is broken.",
    "profile": "What a network is worth at each of its depths, for a data set: where to cut it off.",
    "race": "Which of several pretrained networks to take for a data set, found out on parts of it.",
    "plan": "What could be trained on a data set, and what each would give and cost.",
    "fit": "Fit a model to a folder or table of labelled images, texts or sounds.",
    "resume": "Go on with a fit that was interrupted.",
    "predict": "Predict labels with probabilities for files, folders or tables.",
    "evaluate": "Figures with intervals on labelled data, and the confusion table.",
    "compare": "Compare runs of the same data, in pairs on the same examples.",
    "report": "Write a run as one HTML page, with its worst mistakes to look at.",
    "export": "Write a run's model as a file for other programs (ONNX).",
    "features": "Write a frozen network's features of a data set to a file.",
    "show": "Show a run: its model, origin, licence and figures.",
    "runs": "List the runs in a folder.",
    "models": "List the pretrained networks there are to reuse.",
    "cache": "Show or empty the feature store.",
}
"""Name -> short help. Each lives in the file of its name in this folder."""


class Commands(click.Group):
    """Sub-commands that are imported when they are called, so that help and wrong usage answer at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"regraft.cli.{cmd_name}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            hint = nearest(args[0], list(COMMANDS))
            raise click.UsageError(f"there is no command {args[0]!r}" + (f"; {hint}" if hint else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(regraft.__version__, prog_name="regraft", message="%(prog)s %(version)s")
def cli() -> None:
    """Transfer learning by evidence: a folder in, a trustworthy model out.

    \b
    regraft fit photos/                  one sub-folder per class; or a CSV; images, texts or sounds
    regraft predict runs/photos-1 new/   labels with probabilities
    regraft evaluate runs/photos-1 test/ figures with intervals
    """


def main() -> None:
    """Run the command line and exit with its code."""
    import warnings

    debug = bool(os.environ.get("REGRAFT_DEBUG"))
    if not debug:
        warnings.simplefilter("ignore")
    as_json = "--json" in sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        # names of files may hold bytes that are no text: in JSON this is how it spells them
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        if as_json:
            _print_json({"error": "UsageError", "found": error.format_message(), "expected": "", "try": "--help", "faults": []})
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort) as stop:
        code = _interrupted(stop, as_json)
    except RegraftError as error:
        if as_json:
            _print_json(error.to_json())
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        # the reader of our output went away (| head): not an error, and nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        # what the machine refuses (a disk, a right, a device) is no fault of regraft
        if debug:
            raise
        code = _refused(error, as_json)
    except Exception as error:
        if debug:
            raise
        if as_json:
            _print_json({"error": type(error).__name__, "found": str(error), "expected": "", "try": "REGRAFT_DEBUG=1", "faults": []})
        print(f"error: {type(error).__name__}: {printable(str(error))}", file=sys.stderr)
        print("  this is a fault of regraft; REGRAFT_DEBUG=1 shows where it happened", file=sys.stderr)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted(stop: BaseException, as_json: bool) -> int:
    """Say how to go on after Ctrl-C; the exit code that shells give it."""
    # click raises its own in the place of what it caught
    held = stop if isinstance(stop, Interrupted) else stop.__cause__
    if isinstance(held, Interrupted):
        best = f" Until then the best model is {held.run}/bundle." if held.best else ""
        text = f"What was done is kept. To go on: regraft resume {shlex.quote(held.run)}{best}"
    else:
        text = "Features computed so far are kept: the same command goes on from there."
    if as_json:
        _print_json({"error": "Interrupted", "found": "interrupted", "expected": "", "try": text, "faults": []})
    print(f"\ninterrupted. {printable(text)}", file=sys.stderr)
    return Interrupted.exit_code


def _refused(error: OSError, as_json: bool) -> int:
    """Say what the machine refused; the exit code."""
    text = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    if as_json:
        _print_json({"error": type(error).__name__, "found": text, "expected": "", "try": "", "faults": []})
    print(f"error: {printable(text)}", file=sys.stderr)
    return 1


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))
