"""The records of the catalogue. An unknown number is None, an unknown word is empty: never zero, never a guess."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

VALUE_NAMES = {
    "imagenet_top1": "% top-1 on ImageNet-1k",
    "imagenet_zero_shot": "% top-1 on ImageNet-1k, zero-shot",
    "imagenet_linear": "% top-1 on ImageNet-1k, linear probe",
    "imagenet_knn": "% top-1 on ImageNet-1k, nearest neighbours",
    "imagenet_real": "% top-1 on ImageNet-ReaL",
    "imagenet_v2": "% top-1 on ImageNet-V2",
    "imagenet_sketch": "% top-1 on ImageNet-Sketch",
    "imagenet_a": "% top-1 on ImageNet-A",
    "imagenet_r": "% top-1 on ImageNet-R",
    "images_a_second_rtx4090": "images/s on an RTX 4090, mixed precision, large batches",
    "images_a_second_i7_12700h": "images/s on an i7-12700H, float32, compiled, one at a time",
    "mteb_8_tasks": "% mean of 8 MTEB tasks, linear probe",
    "mteb_12_tasks": "% mean of 12 MTEB tasks, linear probe",
    "massive_intent_languages": "% mean of the languages of MassiveIntent, linear probe",
    "sib200_languages": "% mean of the languages of SIB-200, linear probe",
    "sst2_fine_tuned": "% on SST-2, fully fine-tuned",
    "mnli_fine_tuned": "% on MNLI, fully fine-tuned",
    "maeb_13_tasks": "% mean of 13 MAEB tasks, linear probe",
    "audioset_map": "% mean average precision on AudioSet",
}
"""Published value -> what follows the number when people read it. The first that a network has stands for all."""

HEADLINES = {"image": "imagenet_top1", "text": "mteb_8_tasks", "audio": "maeb_13_tasks"}
"""Task -> the value that networks are sorted by. Values of different tasks, and different values, are never in one order."""


APART = 5.0
"""Points between two published values from which they say more."""

ORDERED = {"imagenet_top1": (0.69, 0.91), "mteb_8_tasks": (0.64, 0.84)}
"""Value that networks are sorted by -> how often the one with the higher value was also better on another data set, where the two are less
than `APART`, and where they are more. Counted over the transfer results of this catalogue: 1,196 pairs of image networks, fine-tuned on 8
sets; 21,263 pairs of text encoders, linear probes on 21 sets that are no part of the value (tests/contracts/test_catalogue.py counts
again)."""


@dataclass(frozen=True)
class Transfer:
    """One published result of transferring a network to another data set.

    `n` is the number of training examples (0: zero-shot), None when the source does not say; `setting` is how it says it. `value` is in
    percent unless `metric` says otherwise; `std` is over draws, seeds or folds. `seen`: the network was trained on this data set.
    """

    dataset: str
    n: int | None
    setting: str
    method: str
    metric: str
    split: str
    value: float
    std: float | None
    source: str
    seen: bool = False


@dataclass(frozen=True)
class Entry:
    """What is known of one published network.

    `parameters` counts the backbone, or the whole file of weights where `counted` says so. `gmacs` are billions of multiply-adds for
    one image of `input_size`, `gmacs_224` of 224 pixels. `window` is what the network takes at once, in seconds, or `any`.
    `amount` is the size of the first data set in `unit`s. `seen` lists test sets that the network was trained on. `same_as` names another
    entry for the same published weights. `sources` are keys of `sources.json`.
    """

    name: str
    task: str
    family: str
    trained_on: str
    licence: str
    licence_kind: str
    sources: tuple[str, ...]
    about: str = ""
    published: str = ""
    domain: str = ""
    parameters: int | None = None
    counted: str = ""
    gmacs: float | None = None
    gmacs_224: float | None = None
    input_size: int | None = None
    max_tokens: int | None = None
    sample_rate: int | None = None
    window: str = ""
    features: int | None = None
    amount: int | None = None
    amount_is_nominal: bool = False
    unit: str = ""
    supervision: str = ""
    languages: str = ""
    released: str = ""
    remote_code: bool = False
    seen: tuple[str, ...] = ()
    same_as: str = ""
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    transfer: tuple[Transfer, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """The value that networks of this task are sorted by."""
        return self.values.get(HEADLINES[self.task])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def ordered_right(one: Entry, other: Entry) -> float | None:
    """How often the published values of two networks order them as other data sets do; None where nothing is known of that."""
    counted = ORDERED.get(HEADLINES[one.task])
    if counted is None or one.accuracy is None or other.accuracy is None or one.task != other.task:
        return None
    return counted[abs(one.accuracy - other.accuracy) >= APART]


def squash(text: str) -> str:
    """Small letters and digits alone, so that ConvNeXt-V2, convnext_v2 and convnextv2 are one word."""
    return re.sub(r"[\W_]+", "", text.casefold())


def in_words(text: str) -> str:
    """`>` and `+` between data sets and kinds of supervision, as words."""
    return re.sub(r"\s*\+\s*", ", ", text).replace(" > ", ", then ")
