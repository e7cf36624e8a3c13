"""Ways to train, as values. One plain reader per field; a rung is not a class or a script."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from regraft.errors import UsageError, nearest
from regraft.spec import refuse, views_fault
from regraft.strategy.settings import checked


@dataclass(frozen=True)
class Rung:
    """One way to train. `trains` is a selection of layers (docs/surgery.md), empty where none trains; `how` what a person should know.

    `settings` are those that the rung fixes itself, by the names of `Settings`; the rules give the others. `views` is how many views of
    each training example it wants, or fresh, where --views does not say (docs/augmentation.md). UsageError names what there is not, or
    cannot be.
    """

    name: str
    trains: str
    how: str = "what the rung says"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    views: str | None = None

    def __post_init__(self) -> None:
        taken, faults = checked(self.settings, f"rung {self.name}: setting")
        refuse(faults + views_fault(f"rung {self.name}: views", self.views))
        object.__setattr__(self, "settings", taken)

    @property
    def whole(self) -> bool:
        """Whether every layer trains."""
        return self.trains == "all"

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `rung_from` reads."""
        return {"name": self.name, "trains": self.trains, "how": self.how, "settings": dict(self.settings), "views": self.views}

    def written(self) -> str:
        """As text that `rung_of` reads."""
        return self.name if RUNGS.get(self.name) == self else json.dumps(self.to_json(), ensure_ascii=False)


AS_IT_IS, CONTRASTIVE = "none", "contrastive"

AUTO = "auto"
"""What `--train` says where the ladder is to be climbed: no rung, but a way to choose them."""

RUNGS: dict[str, Rung] = {
    rung.name: rung
    for rung in (
        Rung(AS_IT_IS, "", "nothing: the network's own output layer stays, and says the labels by name or through a linear map"),
        Rung("head", "head", "everything is frozen; a new output layer is fitted to the network's features by logistic regression"),
        Rung("norm", "norms, head", "scales and biases of the normalisation layers, and the head"),
        Rung("top", "last 1 block, head", "the last block, or the last K (top=K), and the head"),
        Rung(CONTRASTIVE, "all", "everything, on pairs of examples, so that those of one class come together; then the head"),
        Rung("full", "all", "everything, from the pretrained weights"),
    )
}

LORA_RUNG = Rung("lora", "head", "adapters of a low rank, which a lora step put there, and the head")
"""What trains when there are adapters and nothing else was said."""

_TOP = re.compile(r"top=(\d{1,4})$")


def rung_of(text: str) -> Rung:
    """The rung that `--train` names; a selection of layers is one too, and what `Rung.written` gave. UsageError for what can be none."""
    given = " ".join(text.split())
    if given.startswith("{"):
        try:
            return rung_from(json.loads(given), "train")
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"--train {text} cannot be read as JSON: {error}") from None
    if given in RUNGS:
        return RUNGS[given]
    if found := _TOP.match(given):
        count = int(found[1])
        if not count:
            raise UsageError("--train top=0 trains no block", expected="top=1 or more", move="--train head")
        return Rung(given, f"last {count} blocks, head", RUNGS["top"].how, RUNGS["top"].settings)
    if not given:
        raise UsageError("--train is empty", expected=f"{', '.join(RUNGS)}, top=K, or layers such as 'last 1 block, head'")
    return Rung(given, given, "the layers that were named")


def rung_from(values: object, name: str) -> Rung:
    """A rung of one's own from plain data: `trains`, and where wanted `name`, `how`, `settings`, `views`. UsageError with all faults."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{name} is not a rung", expected="trains: last 2 blocks, head\nsettings: {lr: 1e-4}")
    known = [f.name for f in fields(Rung)]
    given: dict[str, Any] = {str(k): v for k, v in values.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    faults = [f"{k}: expected {', '.join(known)}. {nearest(k, known)}".rstrip(". ") for k in given if k not in known]
    trains = given.get("trains")
    if not isinstance(trains, str) or not trains.strip():
        faults.append("trains: expected layers, such as 'last 2 blocks, head', or all")
    faults += [f"{k}: expected text" for k in ("name", "how") if not isinstance(given.get(k, ""), str)]
    settings: Any = given.get("settings") or {}
    if not isinstance(settings, Mapping):
        faults.append("settings: expected names with values, such as lr: 1e-4")
        settings = {}
    if (given.get("name") or name) in (*RUNGS, LORA_RUNG.name, AUTO):
        faults.append(f"name: {given.get('name') or name} is a rung that there is already")
    faults += checked(settings, "settings:")[1]  # pyright: ignore[reportUnknownArgumentType]
    views = None if given.get("views") is None else str(given["views"])
    faults += views_fault("views:", views)
    if faults:
        raise UsageError(f"the rung {name} cannot be used", faults=faults)
    own = str(given.get("name") or name)
    return Rung(own, " ".join(str(trains).split()), str(given.get("how") or "what the rung says"), settings, views)  # pyright: ignore[reportUnknownArgumentType]
