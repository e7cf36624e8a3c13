"""Ways to train, as values. One plain reader per field; a rung is not a class or a script."""

from __future__ import annotations

import re
from dataclasses import dataclass

from regraft.errors import UsageError


@dataclass(frozen=True)
class Rung:
    """One way to train. `trains` is a selection of layers (docs/surgery.md), empty where none trains; `how` what a
    person should know. `whole` is true where every layer trains.
    """

    name: str
    trains: str
    how: str
    whole: bool = False


AS_IT_IS, CONTRASTIVE = "none", "contrastive"

RUNGS: dict[str, Rung] = {
    rung.name: rung
    for rung in (
        Rung(AS_IT_IS, "", "nothing: the network's own output layer stays, and says the labels by name or through a linear map"),
        Rung("head", "head", "everything is frozen; a new output layer is fitted to the network's features by logistic regression"),
        Rung("norm", "norms, head", "scales and biases of the normalisation layers, and the head"),
        Rung("top", "last 1 block, head", "the last block, or the last K (top=K), and the head"),
        Rung(CONTRASTIVE, "all", "everything, on pairs of examples, so that those of one class come together; then the head", whole=True),
        Rung("full", "all", "everything, from the pretrained weights", whole=True),
    )
}

LORA_RUNG = Rung("lora", "head", "adapters of a low rank, which a lora step put there, and the head")
"""What trains when there are adapters and nothing else was said."""

_TOP = re.compile(r"top=(\d{1,4})$")


def rung_of(text: str) -> Rung:
    """The rung that `--train` names; a selection of layers is one too. UsageError for what can be neither."""
    given = " ".join(text.split())
    if given in RUNGS:
        return RUNGS[given]
    if found := _TOP.match(given):
        count = int(found[1])
        if not count:
            raise UsageError("--train top=0 trains no block", expected="top=1 or more", move="--train head")
        return Rung(given, f"last {count} blocks, head", RUNGS["top"].how)
    if not given:
        raise UsageError("--train is empty", expected=f"{', '.join(RUNGS)}, top=K, or layers such as 'last 1 block, head'")
    return Rung(given, given, "the layers that were named")
