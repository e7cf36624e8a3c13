"""What a person asks for: frozen, typed, unknown keys refused. The text under a field is its help on the command line."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from regraft.errors import UsageError, nearest

TASKS = ("image", "text", "audio")
METRICS = {
    "class": ("accuracy", "balanced_accuracy", "f1_macro", "log_loss"),
    "multilabel": ("f1_micro", "f1_macro", "log_loss"),
    "number": ("mae", "rmse", "r2"),
}
"""Kind of target -> what choices can be made by; the first is the usual one."""

ENGINES = ("auto", "torch", "compile", "openvino", "onnx")
PRECISIONS = ("auto", "fp32", "bf16")

TRACKERS = ("tensorboard", "mlflow", "wandb")
"""Programs that keep and draw what happens in a fit."""

AUTO = "auto"
"""`model`: the network is chosen by a race."""

FRESH = "fresh"
"""`views`: another one in every epoch."""

MOST_VIEWS = 64

ALL_METRICS = tuple(dict.fromkeys(name for names in METRICS.values() for name in names))


@dataclass(frozen=True)
class FitSpec:
    """Everything that `regraft fit` can be asked for."""

    data: str
    """A folder with one sub-folder per class, a folder with train/ and test/, or a table (CSV, TSV, JSON Lines, Parquet, Excel)."""
    task: str | None = None
    """image, text or audio; found out from the data when not given."""
    input: str | None = None
    """The column of a table that holds the text or the path; found out when not given."""
    label: str | None = None
    """The column of a table that holds the label; found out when not given. Several columns, parted by commas, are several
    labels at once."""
    target: str | None = None
    """What is predicted: class (one of several), multilabel (any of several) or number; found out from the labels when not given."""
    separator: str | None = None
    """What parts several labels in one cell, such as ; or |; found out when not given."""
    group: str | None = None
    """The column of a table whose values keep examples together (a patient, a speaker): one group is on one side of every
    split and fold."""
    split: str | None = None
    """The column of a table that says which rows are for training and which for testing (train, val, test)."""
    weight: str | None = None
    """The column of a table that says how much an example counts in training; figures count every example once."""
    test: str | None = None
    """A folder or table to test on, or a fraction such as 0.2 to set aside; never looked at for a choice."""
    metric: str | None = None
    """What choices are made by. One class: accuracy (usual), balanced_accuracy, f1_macro, log_loss. Several labels: f1_micro
    (usual), f1_macro, log_loss. A number: mae (usual), rmse, r2."""
    model: str | None = None
    """The pretrained network, such as packaged:efficientnet-lite0; see `regraft models`. auto: those that are here race for it (`regraft
    race`). When not given: auto with a budget of a minute or more and nothing else said of network or training, else the usual one."""
    max_params: str | None = None
    """With --model auto: parameters of the network at most, such as 30M or 300k."""
    licence: str | None = None
    """With --model auto: a licence of the weights such as mit, or a kind of one such as permissive."""
    max_memory: str | None = None
    """With --model auto: memory that a fit may hold at most, such as 4GB."""
    max_latency: str | None = None
    """With --model auto: what one example may take to predict, such as 20ms."""
    recipe: str | None = None
    """A YAML or JSON file with a list of changes to the network: remove, replace, insert, reinit, resize_input, truncate, lora."""
    remove: tuple[str, ...] = ()
    """Take layers out of the network, such as layer4 or "last 2 blocks"; may be given several times."""
    replace: tuple[str, ...] = ()
    """Put another layer in a layer's place, such as "layer4=Conv2d(512, 1, stride=2)"; sizes of inputs are filled in."""
    insert: tuple[str, ...] = ()
    """Add a layer after another one, such as "layer3=Dropout(0.1)"."""
    resize_input: int | None = None
    """Another side of images, in pixels."""
    at: str | None = None
    """Cut the network off after one of its blocks, such as blocks.4.2: what it gives there, pooled, feeds the new head, and the model
    holds nothing of what comes later. `regraft profile` shows what each block is worth."""
    lora: str | None = None
    """Layers that get adapters of a low rank (LoRA), such as blocks or "blocks.*.attn": their own weights are frozen, the adapters and the
    head train. Needs regraft[lora]."""
    rank: int | None = None
    """The rank of the adapters; 8 when not given."""
    offline: bool = False
    """Fetch nothing: use only networks that are on this machine."""
    allow_code: bool = False
    """Let --model name code of your own, package.module:function, which is then imported and run."""
    allow: tuple[str, ...] = ()
    """Names of tensors, such as "fc.*, layer4.*": where the weights that --model path: names may differ from the network. What they lack
    is new, what they have too many is left out."""
    train: str = "head"
    """How much to train. auto: the head, then a rung at a time as long as more is expected to be worth its cost and fits into the budget;
    none: nothing, the network's own output layer says the labels, by name or through a linear map; head: freeze the
    network, train a new output layer; norm: also scales and biases of normalisation; top or top=K: also the last K blocks; contrastive:
    everything, so that examples of one class come together, for few texts a class; full: everything; layers, such as
    "last 1 block, head"; or a YAML file with a rung of your own. When not given: auto with a budget, else head."""
    augment: str = "auto"
    """What changes views of the training examples by chance. auto: all that this kind of input has, without what changes what an example
    is (flips of text, digits, signs), which is found out on held-out examples; none; or a list such as crop,flip,colour."""
    views: str | None = None
    """How many views of each training example go through the network and are kept, the plain one among them; or fresh: another view in
    every epoch, nothing kept. 1 when not given."""
    settings: tuple[str, ...] = ()
    """A setting of training below the head in place of the one that follows from the data, such as lr=1e-3 or epochs=5; may be given
    several times. docs/rungs.md lists them."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    engine: str = "auto"
    """What runs the frozen network: auto (the fastest here whose predictions agree with torch's), torch, compile (torch.compile),
    openvino, onnx (ONNX Runtime)."""
    precision: str = "auto"
    """fp32, or bf16: faster where the processor has it, with rounding. auto: fp32 for an engine that was named, else whichever is
    faster and agrees. --engine torch --precision fp32 is the exact way."""
    threads: int | None = None
    """Threads for computing; all cores when not given."""
    out: str | None = None
    """The run's folder; runs/NAME-N when not given."""
    seed: int = 0
    """Decides folds and set-aside examples."""
    strict: bool = False
    """Stop when an example is broken instead of leaving it out."""
    allow_outside: bool = False
    """Let relative paths in a table leave the table's folder."""
    budget: str | None = None
    """The time that the command may take from its start to the written model: 10m, 90s, 1h30m or seconds. There is a valid model from the
    first head on; what does not fit is left out and said. No limit when not given."""
    balance: bool = False
    """Give every class the same weight, whatever its number of examples."""
    store: bool = True
    """Keep features for the next time; off: compute them anew and keep nothing."""
    track: tuple[str, ...] = ()
    """Also tell a tracker what happens: tensorboard, mlflow or wandb; with a destination mlflow:sqlite:///runs.db, tensorboard:logs,
    wandb:team/project. May be given several times. docs/seeing.md says what each keeps and where."""

    def __post_init__(self) -> None:
        faults: list[str] = []
        faults += one_of("--task", self.task, TASKS)
        faults += one_of("--target", self.target, tuple(METRICS))
        faults += one_of("--metric", self.metric, METRICS.get(self.target or "", ALL_METRICS))
        if self.separator == "":
            faults.append("--separator is empty: expected what stands between two labels, such as ;")
        if self.separator is not None and self.target in ("class", "number"):
            faults.append(f"--separator parts several labels, and --target is {self.target}")
        if self.balance and self.target in ("multilabel", "number"):
            faults.append(f"--balance gives classes equal weight, and --target is {self.target}")
        faults += one_of("--engine", self.engine, ENGINES)
        faults += one_of("--precision", self.precision, PRECISIONS)
        faults += tracker_faults(self.track)
        if self.threads is not None and self.threads < 1:
            faults.append(f"--threads {self.threads}: expected at least 1")
        if not 0 <= self.seed < 2**32:
            faults.append(f"--seed {self.seed}: expected 0 to 4294967295")
        fraction = self.test_fraction
        if fraction is not None and not 0 < fraction < 1:
            faults.append(f"--test {self.test}: a fraction lies between 0 and 1, such as 0.2")
        faults += views_fault("--views", self.views)
        limits = ("max_params", "licence", "max_memory", "max_latency")
        if self.model != AUTO and (given := [f"--{name.replace('_', '-')}" for name in limits if getattr(self, name) is not None]):
            faults.append(f"{', '.join(given)}: a limit on the networks that race, and --model is not auto")
        if self.budget is not None and isinstance(found := seconds_in(self.budget), str):
            faults.append(f"--budget {self.budget}: {found}")
        if self.resize_input is not None and not 16 <= self.resize_input <= 2048:
            faults.append(f"--resize-input {self.resize_input}: expected 16 to 2048 pixels")
        refuse(faults)

    @property
    def changes_network(self) -> bool:
        """Whether the network itself is to be changed before it is trained."""
        return any((self.recipe, self.remove, self.replace, self.insert, self.resize_input, self.at, self.lora))

    @property
    def test_fraction(self) -> float | None:
        """The part to set aside when `test` is a number, else None."""
        try:
            value = float(self.test) if self.test else math.nan
        except ValueError:
            return None
        return None if math.isnan(value) else value

    def to_json(self) -> dict[str, Any]:
        """The spec as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FitSpec:
        """A spec from plain data; unknown keys are an error that names the nearest known one."""
        known = [f.name for f in dataclasses.fields(cls)]
        refuse([f"unknown key {key!r}. {nearest(key, known)}".rstrip() for key in values if key not in known])
        faults = [] if "data" in values else ["'data' is missing"]
        for f in dataclasses.fields(cls):
            if f.name in values and not _fits(values[f.name], str(f.type)):
                faults.append(f"{f.name} is {values[f.name]!r}: expected {f.type}")
        refuse(faults)
        plain: dict[str, Any] = {k: tuple(cast("Sequence[str]", v)) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def _fits(value: object, kind: str) -> bool:
    """Whether a plain value is of a field's type, such as `int | None`."""
    if kind == "tuple[str, ...]":
        return isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in cast("Sequence[object]", value))
    kinds = {"str": str, "int": int, "bool": bool, "None": type(None)}
    return type(value) in [kinds[k.strip()] for k in kind.split("|")]


class WrittenLimits(TypedDict, total=False):
    """Limits on networks as a spec holds them."""

    max_params: str | None
    licence: str | None
    max_memory: str | None
    max_latency: str | None


def written_limits(
    max_params: str | float | None, licence: str | None, max_memory: str | float | None, max_latency: str | float | None
) -> WrittenLimits:
    """Limits on networks as a spec holds them: numbers of memory are in MB."""
    memory = f"{max_memory:g}MB" if isinstance(max_memory, (int, float)) else max_memory
    params, latency = (None if value is None else str(value) for value in (max_params, max_latency))
    return {"max_params": params, "licence": licence, "max_memory": memory, "max_latency": latency}


BUDGETS = (1.0, 30 * 86400.0)
"""Seconds of the least and the longest budget."""

_TIME = re.compile(r"(?:(?P<h>[0-9.]+)h)?(?:(?P<m>[0-9.]+)m(?:in)?)?(?:(?P<s>[0-9.]+)s)?|(?P<plain>[0-9.]+)")


def seconds_in(text: str) -> float | str:
    """The seconds that a budget such as 90, 90s, 10m or 1h30m names; what was expected, as a sentence, for another text."""
    expected = "expected a time such as 90s, 10m, 1h30m, or seconds"
    given = "".join(text.split()).lower()
    found = _TIME.fullmatch(given)
    if not given or found is None:
        return expected
    worth = {"h": 3600.0, "m": 60.0, "s": 1.0, "plain": 1.0}
    try:
        seconds = sum(worth[unit] * float(value) for unit, value in found.groupdict().items() if value)
    except ValueError:
        return expected
    least, most = BUDGETS
    if not least <= seconds <= most:
        return f"expected {least:g} second to {most / 86400:g} days"
    return seconds


def clock_time(seconds: float) -> str:
    """Seconds as a budget says them: 90 s, 10 min, 1 h 30 min."""
    if seconds < 120 or seconds % 60 and seconds < 600:
        return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join([*([f"{hours} h"] if hours else []), *([f"{minutes} min"] if minutes or not hours else [])])


def views_fault(option: str, views: str | None) -> list[str]:
    """A fault when `views` is given and no number of views."""
    if views is None or views == FRESH or views.isdecimal() and 1 <= int(views) <= MOST_VIEWS:
        return []
    return [f"{option} {views}: expected 1 to {MOST_VIEWS}, or {FRESH}"]


def tracker_of(asked: str) -> tuple[str, str | None]:
    """(name, destination or None) of a tracker as it is asked for: mlflow, or mlflow:sqlite:///runs.db"""
    name, _, destination = asked.partition(":")
    return name, destination or None


def tracker_faults(track: Sequence[str]) -> list[str]:
    """What is wrong with the trackers that are asked for. Whatever holds a password is refused: a run keeps what was asked for."""
    asked = [tracker_of(each) for each in track]
    faults = [fault for name, _ in asked for fault in one_of("--track", name, TRACKERS)]
    names = [name for name, _ in asked]
    faults += [f"--track {name} is given {names.count(name)} times" for name in dict.fromkeys(names) if names.count(name) > 1]
    for name, destination in asked:
        if destination and "@" in destination.partition("://")[2].partition("/")[0]:
            faults.append(f"--track {name}: the destination holds a password, and the run would keep it. MLFLOW_TRACKING_URI may hold it")
    return faults


def one_of(option: str, value: str | None, known: Sequence[str]) -> list[str]:
    """A fault when `value` is given and not among `known`."""
    if value is None or value in known:
        return []
    return [f"{option} {value}: expected {', '.join(known)}. {nearest(value, known)}".rstrip(". ")]


def refuse(faults: Sequence[str]) -> None:
    """Raise one UsageError for all faults, or do nothing."""
    if len(faults) == 1:
        raise UsageError(faults[0])
    if faults:
        raise UsageError(f"{len(faults)} things in what was asked for are wrong", faults=faults)


def help_texts(spec: type) -> dict[str, str]:
    """The text under each field of a spec, read from its source: one place for docs, `--help` and tests."""
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(spec))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            texts[field.target.id] = str(text.value.value)
    return texts
