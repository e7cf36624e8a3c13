"""regraft plan"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from regraft.cli.common import data_options, given_flags, json_option, machine_options, network_options, option, store_option
from regraft.spec import ALL_METRICS

if TYPE_CHECKING:
    from regraft.strategy.cost import Range
    from regraft.strategy.plan import Option, Plan


@click.command("plan")
@click.argument("data")
@data_options
@option("--metric", type=click.Choice(ALL_METRICS))
@click.option(
    "--model",
    metavar="NAME",
    multiple=True,
    help="A pretrained network; given several times, all are looked at. auto: which one, a race finds out.",
)
@click.option("--budget", metavar="TIME", help="What a fit may take: 10m, 90s, 1h30m or seconds. Making the plan takes at most 15 % of it.")
@click.option("--max-memory", metavar="SIZE", help="Memory that a fit may hold at most, such as 4GB.")
@click.option("--max-latency", metavar="TIME", help="What one example may take to predict, such as 20ms.")
@click.option("--max-params", metavar="N", help="Parameters of the network at most: 30M, 300k.")
@click.option("--licence", metavar="LICENCE", help="A licence of the weights such as mit, or a kind of one such as permissive.")
@click.option("--price-per-hour", type=float, metavar="PRICE", help="What an hour of this machine costs: options then say what they do.")
@click.option(
    "--compare-scratch",
    is_flag=True,
    help="Also train the network from random weights for a moment, and say what that would take to the end: half as long again.",
)
@network_options
@machine_options
@option("--seed", type=int, default=0, show_default=True)
@option("--balance", is_flag=True)
@store_option
@click.option("--why", is_flag=True, help="Say of each option the rules and the evidence behind its numbers.")
@click.option("--out", metavar="FILE.json", help="Write the plan, which `regraft fit DATA --plan FILE.json` follows; it may be edited.")
@json_option
def command(data: str, as_json: bool, why: bool, **options: Any) -> None:
    """What could be trained on DATA, what each is expected to give and to cost, and which to take, before the time is spent.

    A part of the training examples goes through the network, a head is fitted to it, and a few steps of deeper training are timed. What is
    made is kept for the fit. The test part is not looked at. Intervals hold nine times of ten.
    """
    from regraft import jobs
    from regraft.cli.render import answer

    options["model"] = list(options["model"]) or None
    answer(as_json, lambda screen: jobs.plan(data, **options, on_event=screen), lambda found: report(found, options, why=why))


def report(plan: Plan, options: dict[str, Any], *, why: bool) -> list[Any]:
    """The options as a table, the choice in words, and the command that does it."""
    from regraft.cli.render import METRIC_NAMES, duration, table

    price = plan.price_per_hour
    several = len({o.model for o in plan.options}) > 1
    columns = ["", *(["network"] if several else []), "train", f"{METRIC_NAMES[plan.metric]} expected", "time", "memory", "disk"]
    columns += ["price"] if price is not None else []
    rows = [_row(plan, o, several=several, price=price) for o in plan.options]
    lines: list[Any] = ["", table([*columns, ""], rows), ""]
    lines += plan.explain().splitlines()
    if plan.scratch:
        cost = f", for {price * plan.scratch['seconds']['value'] / 3600:.2g}" if price is not None else ""
        low, high = plan.scratch["behind"]
        took = duration(plan.scratch["seconds"]["value"])
        ends = f"{low} to {high} points behind everything fine-tuned at 1,000 examples (published figures, VTAB-1k)"
        lines.append(f"from random weights the same network would take {took}{cost}, and end {ends}; {plan.scratch['how']}")
        lines += _compared(plan)
    if why:
        for o in plan.options:
            lines += ["", o.name, *(f"  {reason}" for reason in o.reasons), *_stages(o)]
    lines += ["", f"  {the_command(plan, options)}"]
    return lines


def _compared(plan: Plan) -> list[str]:
    """What the short training from random weights reached, and what transfer saves against all of it."""
    from regraft.cli.render import METRIC_NAMES, duration

    if (tried := plan.scratch.get("measured")) is None:
        return []
    name = METRIC_NAMES[plan.metric]
    after = f"{duration(tried['spent'])} from random weights ({tried['steps']:,} steps, {tried['learnt']:,} to learn from)"
    reached = (
        f"{name} {tried['figure']:.3f} after {after}, {tried['head']:.3f} for the head, on the same {tried['judged']:,} held-out examples"
    )
    saved = [(o, plan.scratch["seconds"]["value"] - o.seconds.value) for o in plan.options]
    said = ", ".join(f"{o.train} {duration(max(0.0, s))}" for o, s in saved if s > 0 and o.model == plan.chosen.model)
    return [reached, f"what transfer saves against that, extrapolated: {said}" if said else "transfer saves no time here"]


def _row(plan: Plan, o: Option, *, several: bool, price: float | None) -> list[str]:
    from regraft.strategy.plan import flag, shown

    broken = plan.limits.broken(o)
    seconds = f"{_seconds(o.seconds.value)} ({_seconds(o.seconds.low)} to {_seconds(o.seconds.high)})"
    cells = ["*" if o is plan.chosen else "", *([o.model] if several else []), o.train, shown(plan.metric, o.figure), seconds]
    cells += [_megabytes(o.memory.value), _megabytes(o.disk)]
    cells += [f"{price * o.seconds.value / 3600:.2g}"] if price is not None else []
    return [*cells, f"over {', '.join(flag(name) for name in broken)}" if broken else o.short]


def _seconds(value: float) -> str:
    from regraft.cli.render import duration

    return duration(value)


def _megabytes(value: float) -> str:
    return f"{value / 1000:.1f} GB" if value >= 1000 else f"{value:,.0f} MB"


def _stages(o: Option) -> list[str]:
    def of(name: str, r: Range) -> str:
        return f"{name} {_seconds(r.value)}"

    return ["  " + ", ".join(of(name, r) for name, r in o.stages.items())]


def the_command(plan: Plan, options: dict[str, Any]) -> str:
    """What does what was chosen."""
    from regraft.strategy.plan import seconds_in_words

    if options.get("out"):
        return shlex.join(["regraft", "fit", plan.data, "--plan", str(options["out"])])
    words: Sequence[str] = ["regraft", "fit", plan.data]
    more: list[str] = []
    for name, value in plan.asked.items():
        more += [f"--{name.replace('_', '-')}", str(value)]
    if options.get("model"):
        more += ["--model", plan.chosen.model]
    if plan.chosen.short and plan.limits.budget is not None:
        more += ["--budget", seconds_in_words(plan.limits.budget)]
    return shlex.join([*words, *more, *given_flags(options), "--train", plan.chosen.train])
