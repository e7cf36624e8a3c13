"""regraft profile"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from regraft.cli.common import data_options, json_option, machine_options, network_options, option, store_option, strict_option
from regraft.spec import ALL_METRICS, PRECISIONS

BAR = 24
"""Characters of the longest bar."""


@click.command("profile")
@click.argument("data")
@data_options
@option("--metric", type=click.Choice(ALL_METRICS))
@option("--model", metavar="NAME")
@network_options
@machine_options
@click.option("--precision", type=click.Choice(PRECISIONS[1:]), default="fp32", show_default=True, help="How torch runs the network.")
@option("--seed", type=int, default=0, show_default=True)
@strict_option
@option("--balance", is_flag=True)
@store_option
@click.option("--plot", metavar="FILE.svg", help="Write the profile as a picture.")
@json_option
def command(data: str, as_json: bool, **options: Any) -> None:
    """What a frozen network is worth for DATA after each of its blocks, and what cutting it off there would save.

    One pass makes the features of all depths. At each a linear output layer is fitted and cross-validated, in the same folds.
    `regraft fit DATA --at LAYER` then cuts there. The test part is not looked at.
    """
    from regraft import jobs
    from regraft.cli.render import answer

    answer(as_json, lambda screen: jobs.profile(data, **options, on_event=screen), lambda found: report(found, options))


def report(result: Mapping[str, Any], options: Mapping[str, Any]) -> list[Any]:
    """What was found, as a table with bars, and in words."""
    from regraft.cli.render import METRIC_NAMES, figure, number, table
    from regraft.evaluation.depths import first_key
    from regraft.modality import MODALITIES

    modality, depths = MODALITIES[result["task"]], result["depths"]
    key = first_key(depths[0]["metrics"])
    values = [d["metrics"][key]["value"] for d in depths]
    bare = result["baseline"]["without_network"]["metrics"][key]
    rows = []
    for d, value in zip(depths, values, strict=True):
        over = d.get("over_last")
        gain = _points(over[result["compared"]], key) if over else "the whole network"
        saved = d["saved"]
        marks = [word for word in ("earliest", "highest") if result[word]["at"] == d["at"]]
        rows.append(
            [
                d["at"],
                f"{d['features']:,}",
                "█" * max(1, round(value / max(*values, bare["value"], 1e-12) * BAR)),
                figure(d["metrics"][key]),
                gain,
                _share(saved["macs"]),
                _share(saved["parameters"]),
                ", ".join(marks),
            ]
        )
    name = METRIC_NAMES[key]
    columns = ["network up to", "features", name, "", "against the whole network", "multiply-adds saved", "parameters saved", ""]
    lines: list[Any] = ["", table(columns, rows, (1, 5, 6)), ""]
    lines.append(f"{name} without the network ({modality.without_network}): {number(bare['value'])}")
    lines += sentences(result)
    early = result["earliest"]["at"]
    if early != depths[-1]["at"]:
        chosen = f" --model {result['model']}" if options.get("model") else ""
        lines.append(f"  regraft fit {result['data']}{chosen} --at {early}")
    if options.get("plot"):
        lines.append(f"{options['plot']}: the same as a picture")
    return lines


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What a profile says, with what it does not say."""
    depths, early, top = result["depths"], result["earliest"], result["highest"]
    count = len(depths)
    if count < 2:
        return []
    saved = next(d["saved"] for d in depths if d["at"] == early["at"])
    last = depths[-1]["at"]
    lines = []
    if early["at"] == last:
        lines.append("every earlier place is clearly worse than the whole network: nothing is to be cut off")
    else:
        than = (
            f"the highest figure, at {top['at']}: {early['said']}" if early["at"] != top["at"] else "any other: its figure is the highest"
        )
        both = f"{_share(saved['macs'])} of the multiply-adds and {_share(saved['parameters'])} of the parameters"
        lines.append(f"{early['at']} is the earliest place that is not clearly worse than {than}. Cutting there saves {both}")
    if top["at"] != last:
        verdict = "better" if top["clear"] else "not clearly better"
        lines.append(
            f"{top['at']} is {verdict} than the whole network: {top['said']}, an interval widened because {count} depths were "
            "compared. The highest of so many figures is flattered by having been picked: new data will show a little less"
        )
    return lines


def _points(gain: Mapping[str, float], key: str) -> str:
    from regraft.strategy.wording import in_points, span

    return span(gain, "+.3g") if key == "mae" else in_points(gain)


def _share(part: float) -> str:
    """A share in per cent; what is not all is not called all."""
    return f"{min(part, 0.99):.0%}" if part < 1 else "100%"
