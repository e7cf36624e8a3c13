"""Events and figures as people read them: a live line on a terminal, plain lines elsewhere, colours only where wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from regraft.cli.common import print_json
from regraft.errors import printable
from regraft.evaluation.names import METRIC_NAMES, duration, figure, first_key, number
from regraft.evaluation.told import RACE_COLUMNS, ladder_table, race_rows
from regraft.events import Done, Event, HeldOut, Progress, Said, Started, Warned

PLAIN_EVERY = 15.0
"""Seconds between two lines of progress where there is no terminal."""


NEW_LINE = "\n"
"""All that messages may do to a screen: labels and names come from files, which can hold escape sequences."""


def console(stderr: bool = False) -> Console:
    """A console that honours NO_COLOR and pipes; as wide as it needs to be where there is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=not stream.isatty(), width=None if stream.isatty() else 200)


class Screen:
    """Shows events on standard error; what was said is kept for --json. Used as a context."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = console(stderr=True)
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self._bar: Any = None
        self._task: Any = None
        self._started: dict[str, tuple[float, int, str]] = {}
        self._last = 0.0
        self._held_out: tuple[str, str] = ("", "")
        """What judged folds say, and of which trainings."""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, HeldOut):
            self._held_out = held_out_so_far(event), trainings(event.stage)
        elif isinstance(event, Done):
            self._stop()
            if not self.quiet:
                self.console.print(
                    f"  {event.stage}: {escape(printable(event.note))}, {event.seconds:.1f} s"
                    if event.note
                    else f"  {event.stage}: {event.seconds:.1f} s",
                    style="dim",
                )
        elif isinstance(event, Said) and not self.quiet:
            self.console.print(f"  {escape(printable(event.message, keep=NEW_LINE))}")
        elif isinstance(event, Warned):
            self.console.print(Text("  note: " + printable(event.message, keep=NEW_LINE).replace("\n", "\n  "), style="yellow"))

    def _start(self, event: Started) -> None:
        self._stop()
        self._started[event.stage] = (time.monotonic(), event.total, event.unit)
        self._last = time.monotonic()
        if not self.live:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        class Lines(Bar):
            """A bar, and below it what is known of a step."""

            def get_renderables(self) -> Iterable[Any]:
                yield self.make_tasks_table(self.tasks)
                if below := "".join(task.fields["below"] for task in self.tasks):
                    yield Text(f"    {below}", no_wrap=True, overflow="ellipsis")

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[time]}"),
        )
        self._bar = Lines(*columns, console=self.console, transient=True)
        self._task = self._bar.add_task(event.stage, total=event.total or None, unit=event.unit, time="", below="")
        self._bar.start()

    def _progress(self, event: Progress) -> None:
        start, total, unit = self._started.get(event.stage, (time.monotonic(), 0, ""))
        total = event.total or total
        if self._bar is not None:
            below = ", ".join(self._of_step(event))
            self._bar.update(self._task, completed=event.done, total=total or None, time=self._time(event, unit, start, total), below=below)
            return
        now = time.monotonic()
        if self.quiet or now - self._last < PLAIN_EVERY:
            return
        self._last = now
        counted = f"{event.done:,}{f' of {total:,}' if total else ''} {unit}"
        told = [counted, self._time(event, unit, start, total), *self._of_step(event)]
        self.console.print(f"  {event.stage}: {', '.join(filter(None, told))}")

    def _time(self, event: Progress, unit: str, start: float, total: int) -> str:
        """How fast it goes, and how long yet."""
        rate, left = event.per_second, event.seconds_left
        if left is None and total and event.done and event.loss is None:
            left = (time.monotonic() - start) / event.done * (total - event.done)
        counted = "examples" if event.loss is not None else unit
        told = [f"{amount(rate)} {counted}/s" if rate is not None else "", f"about {duration(left)} left" if left and left >= 0.5 else ""]
        return ", ".join(filter(None, told))

    def _of_step(self, event: Progress) -> list[str]:
        """What is known of a step of a training, and of the folds before."""
        if event.loss is None:
            return []
        held, of = self._held_out
        told = [f"loss {event.loss:.3g}", f"learning rate {event.lr:.2g}" if event.lr is not None else ""]
        return [*filter(None, told), *([held] if held and of == trainings(event.stage) else [])]

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def trainings(stage: str) -> str:
    """What the trainings of all folds are called together: a stage is one of them."""
    return stage.split(",", 1)[0]


def held_out_so_far(event: HeldOut) -> str:
    """The figure of the folds that were judged so far."""
    folds = "1 fold" if event.fold == 1 else f"{event.fold} folds"
    return f"held out: {METRIC_NAMES.get(event.metric, event.metric)} {number(event.so_far)} ({folds})"


def amount(value: float) -> str:
    """A size: whole from ten on, else three digits."""
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.3g}"


def show(out: Console, *things: Any) -> None:
    """Print tables and lines; without a terminal, lines end where their text ends."""
    for thing in things:
        thing = printable(thing, keep=NEW_LINE) if isinstance(thing, str) else thing
        if out.is_terminal:
            out.print(thing, markup=False)
            continue
        with out.capture() as captured:
            out.print(thing, markup=False)
        print(*(line.rstrip() for line in captured.get().splitlines()), sep="\n", file=out.file)


def answer(as_json: bool, work: Callable[[Screen], Any], report: Callable[[Any], Iterable[Any]]) -> None:
    """Do the work of a verb while its events are shown, and print what came of it: as JSON, or as its report of tables and lines."""
    with Screen(quiet=as_json) as screen:
        result = work(screen)
    if as_json:
        print_json(result if isinstance(result, Mapping) else result.to_json())
    else:
        show(console(), *report(result))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> Table:
    """A table without lines; `right` names the columns whose cells stand to the right."""
    out = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        out.add_column(Text(printable(column)), justify="right" if i in right else "left", overflow="fold", no_wrap=False)
    for row in rows:
        out.add_row(*(Text(printable(cell)) for cell in row))
    return out


def first_metric(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """(name, value) of the figure that stands for all."""
    key = first_key(metrics)
    return METRIC_NAMES[key], number(metrics[key]["value"])


def metrics_table(parts: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]], without: str) -> Table:
    """Figures of one or more parts, each (title, metrics, baseline), with the baselines below."""
    rows: list[list[str]] = []
    shown = parts[0][1]
    for key, name in METRIC_NAMES.items():
        if key in shown:
            rows.append([name, *(figure(metrics[key]) if key in metrics else "" for _, metrics, _ in parts)])
    rows.append(["", *("" for _ in parts)])
    first = first_key(shown)
    name = METRIC_NAMES[first]
    if any("without_network" in baseline for _, _, baseline in parts):
        cells = [figure(b["without_network"]["metrics"][first]) if "without_network" in b else "" for _, _, b in parts]
        rows.append([f"{name} without the network ({without})", *cells])
    says = parts[0][2]["constant"]["says"]
    says = says if len(says) <= 40 else says[:37] + "..."
    rows.append([f"{name} of always saying {says!r}", *(figure(b["constant"]["metrics"][first]) for _, _, b in parts)])
    return table(["", *(title for title, _, _ in parts)], rows)


def details(result: Mapping[str, Any]) -> list[Table | str]:
    """What a target adds to the figures."""
    if "confusion" in result:
        return [confusion_table(result["confusion"])]
    if "each_label" in result:
        return [labels_table(result["each_label"])]
    return []


def ladder(result: Mapping[str, Any]) -> Table | None:
    """The rungs of a climb, each with what was expected of it and measured; None where nothing was climbed."""
    columns, rows = ladder_table(result, first_key(result["estimate"]))
    return table(columns, rows) if rows else None


def race(result: Mapping[str, Any]) -> Table | None:
    """The networks of the race before a fit; None where nobody raced."""
    raced = result.get("race")
    return table(RACE_COLUMNS, race_rows(raced), (1, 2)) if raced else None


def labels_table(rows: Sequence[Mapping[str, Any]], limit: int = 40) -> Table:
    """The figures of each label; of many the commonest."""
    chosen = sorted(rows, key=lambda r: -r["n"])[:limit] if len(rows) > limit else rows
    keys = ("precision", "recall", "f1", "average_precision")
    cells = [[r["label"], f"{r['n']:,}", *("" if r[k] is None else f"{r[k]:.3f}" for k in keys)] for r in chosen]
    title = "label" if len(chosen) == len(rows) else f"label (the commonest {limit} of {len(rows)})"
    return table([title, "examples", "precision", "recall", "F1", "average precision"], cells, range(1, 6))


def confusion_table(confusion: Mapping[str, Any], limit: int = 12) -> Table | str:
    """Rows true, columns predicted; for more classes than fit, the pairs most often mistaken."""
    labels, rows = confusion["labels"], confusion["rows"]
    if len(labels) <= limit:
        return table(
            ["true \\ predicted", *labels],
            [[label, *(str(n) if n else "." for n in row)] for label, row in zip(labels, rows, strict=True)],
            range(1, len(labels) + 1),
        )
    wrong = [(n, labels[i], labels[j]) for i, row in enumerate(rows) for j, n in enumerate(row) if n and i != j]
    wrong.sort(key=lambda item: (-item[0], item[1], item[2]))
    if not wrong:
        return "no mistakes"
    return table(["most often mistaken", "for", "times"], [[a, b, str(n)] for n, a, b in wrong[:limit]], (2,))
