"""Settings of an optimisation below the head, from facts about the data and the network. Each rule names where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from regraft.errors import nearest

ADAPTERS = 5.0
"""Of the rate that weights get: 5e-4 for transformers, the same at every depth (Hu et al. 2022, table 9: 4e-4 to 5e-4 for RoBERTa-base,
whose own weights get 1e-5 to 3e-5)."""


WARM_UP = 0.1
"""A tenth of the steps (Mosbach et al. 2021); BiT-HyperRule has a fifth, Devlin et al. 2019 a hundredth to a tenth."""

CLIP = 1.0
"""As BERT's own code has it (Devlin et al. 2019); Pascanu et al. 2013 on why."""

WEIGHT_DECAY = 0.01
"""At the rate that `rates_for` gives: AdamW's own (Loshchilov & Hutter 2019)."""


@dataclass(frozen=True)
class Settings:
    """How a network is trained from where the output layer's own fit ended. What each means stands in `LIMITS`."""

    epochs: int
    batch: int
    lr: float
    layer_decay: float
    warm_up: float = WARM_UP
    weight_decay: float = WEIGHT_DECAY
    clip: float = CLIP
    adapters: float = ADAPTERS
    adapt: bool = False
    find: bool = False
    smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    balanced: bool = False
    l2_sp: float = 0.0
    l2_sp_head: float = 0.0
    ema: float = 0.0
    patience: int = 0
    accumulate: int = 1
    checkpointing: bool = False
    precision: str = "fp32"
    wise: bool = False

    def steps(self, examples: int) -> int:
        """Steps of the whole training."""
        return self.epochs * max(1, math.ceil(examples / self.batch))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Limit:
    """What a setting means, and which values it takes: numbers from `low` to `high` (`open`: not `low` itself), or `words`."""

    about: str
    low: float = 0.0
    high: float = 1.0
    open: bool = False
    words: tuple[str, ...] = ()


PRECISIONS = ("fp32", "bf16", "auto")

LIMITS: dict[str, Limit] = {
    "epochs": Limit("passes over the training examples", 1, 10_000),
    "batch": Limit("examples a step", 1, 65_536),
    "lr": Limit("AdamW's largest learning rate, of the head and the last block; find: found by a range test", 0, 10, open=True),
    "layer_decay": Limit("what a block's rate is multiplied by for each block nearer to the input", 0, 1, open=True),
    "warm_up": Limit("the part of the steps in which rates rise; they fall to 0 along a cosine afterwards", 0, 0.9),
    "weight_decay": Limit("AdamW's, not on biases and scales", 0, 1),
    "clip": Limit("the longest gradient", 0, 1e9, open=True),
    "adapters": Limit("what the rate of adapters is multiplied by; it does not fall with depth", 0, 1000, open=True),
    "adapt": Limit("whether batch norms that train follow the batches, or keep the statistics they came with"),
    "find": Limit("whether the learning rate is found by a range test: the same as lr=find"),
    "smoothing": Limit("the part of a label that is spread over all classes", 0, 0.5),
    "mixup": Limit("images are mixed in pairs, by shares of a Beta distribution of this parameter; 0: not", 0, 100),
    "cutmix": Limit("a piece of an image is put into another, of a size by a Beta distribution of this parameter; 0: not", 0, 100),
    "balanced": Limit("whether examples are drawn so that every class comes equally often"),
    "l2_sp": Limit("how strongly weights below the head are pulled back to where they started", 0, 1000),
    "l2_sp_head": Limit("how strongly weights of the head are pulled to 0, where others are pulled back", 0, 1000),
    "ema": Limit("how much of the running mean of the weights a step keeps; the mean is the result. 0: no mean", 0, 0.99999),
    "patience": Limit("epochs without a better loss on an inner part after which training stops; 0: it goes to the end", 0, 10_000),
    "accumulate": Limit("parts that a batch is computed in, one after the other, to save memory", 1, 65_536),
    "checkpointing": Limit("whether blocks are computed a second time on the way back, to save memory"),
    "precision": Limit("how training computes: fp32, bf16, or auto: bf16 where a few timed steps show that it is faster", words=PRECISIONS),
    "wise": Limit("whether weights between the start and the end of the training are tried on held-out examples, and the best kept"),
}


def checked(values: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """(settings with values of their types, what is wrong). Numbers may be text, as YAML reads 1e-3. `where` says who gave them."""
    kinds = {f.name: str(f.type) for f in fields(Settings)}
    found: dict[str, Any] = {}
    faults: list[str] = []
    for name, value in values.items():
        if name not in kinds:
            hint = nearest(str(name), list(kinds)) or f"There are {', '.join(kinds)}"
            faults.append(f"{where} {name}: there is no such setting. {hint}")
        elif name == "lr" and value == "find":
            found["find"] = True
        else:
            taken = _taken(value, kinds[name], LIMITS[name])
            if isinstance(taken, str) and not LIMITS[name].words or taken is None:
                faults.append(f"{where} {name}={value}: expected {taken or ' or '.join(LIMITS[name].words)}")
            else:
                found[name] = taken
    if found.get("mixup") and found.get("cutmix"):
        faults.append(f"{where} mixup and cutmix: one of the two")
    return found, faults


def _taken(value: object, kind: str, limit: Limit) -> Any:
    """A value of its kind; what was expected, as text, for another one (None where it is one of `words`)."""
    if kind == "str":
        return value if value in limit.words else None
    if kind == "bool":
        words: dict[object, bool] = {"true": True, "false": False}
        return value if isinstance(value, bool) else words.get(value.lower() if isinstance(value, str) else None, "true or false")
    low, high = f"{limit.low:g}", f"{limit.high:,g}"
    reach = f"above {low} and at most {high}" if limit.open else f"from {low} to {high}"
    expected = f"a whole number {reach}" if kind == "int" else f"a number {reach}"
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        return expected
    if not (limit.low < number if limit.open else limit.low <= number) or not number <= limit.high:
        return expected
    if kind == "int":
        return int(number) if number == int(number) else expected
    return number


def named_values(texts: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(values by names, what is wrong) of NAME=VALUE; a later one counts."""
    values: dict[str, str] = {}
    faults: list[str] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            faults.append(f"--set {text}: expected NAME=VALUE, such as lr=1e-3")
        else:
            values[name.strip()] = value.strip()
    return values, faults


STEPS = 400
"""Steps aimed at. BiT-HyperRule (Kolesnikov et al. 2020) takes 500 below 20,000 examples; few-sample text needs hundreds of updates
rather than 3 epochs (Mosbach et al. 2021)."""

EPOCHS = (3, 20)
"""The least, which the large sets get (Devlin et al. 2019: 2 to 4), and the most (Mosbach et al. 2021: 20)."""


def batch_for(examples: int) -> int:
    """16 below 1,000 examples, else 32: small sets get more steps out of an epoch (Masters & Luschi 2018: 2 to 32 are best)."""
    return 16 if examples < 1000 else 32


def epochs_for(examples: int, batch: int) -> int:
    """So many epochs that about STEPS steps are made, within EPOCHS."""
    least, most = EPOCHS
    return max(least, min(most, round(STEPS / max(1, math.ceil(examples / batch)))))


SMALL = 50_000_000
"""Weights up to which a transformer is small: BERT's small forms have 4 to 41 million, its base form 110."""


def rates_for(parameters: int, *, convolutions: bool, whole: bool) -> tuple[float, float]:
    """(rate of the last block and the head, decay by block) of a network of so many weights, all of which train or not.

    Transformers: 1e-4, falling by 0.75 a block (BEiT, MAE: 0.65 to 0.75); small ones 3e-4 where a part of them trains (Turc et al.
    2019 fine-tune BERT's small forms at 3e-5 to 3e-4; measured in docs/log.md). Convolutional networks: 3e-4, 0.8 (ConvNeXt: 0.7 to 0.9).
    The head starts from its own fit, so it gets the rate of the last block (LP-FT, Kumar et al. 2022), not ten times as much as random
    weights do.
    """
    if convolutions:
        return 3e-4, 0.8
    return (3e-4 if parameters < SMALL and not whole else 1e-4), 0.75


SCALES = 3.0
"""Times the rate where biases and scales alone train below the head. BitFit (Ben Zaken et al. 2022) takes 1e-4 to 1e-3 where whole networks
get 1e-5 to 5e-5. Measured on 200 questions, two folds: 0.69 right at 3e-5, 0.75 at 3e-4, 0.79 at 1e-3 (docs/log.md)."""


def weight_decay_for(lr: float, usual: float) -> float:
    """The weight decay that goes with a rate, where the `usual` one has WEIGHT_DECAY: their product stays, so that weights shrink as much
    over the training whatever the rate. Kornblith et al. 2019 sweep decay / rate and find that the best decay falls as the rate rises.
    """
    return min(0.3, float(f"{WEIGHT_DECAY * usual / lr:.3g}"))


def follows_batches(examples: int, batch: int, *, whole: bool) -> bool:
    """Whether trained batch norms adapt: with everything trained, 1,000 examples and batches of 32 at least.

    Small sets and batches keep the statistics (Keras' guide to transfer learning); fastai lets them follow always.
    """
    return whole and examples >= 1000 and batch >= 32


MIXUP = 0.1
"""Its parameter where it is used (BiT-HyperRule, Kolesnikov et al. 2020)."""

MIXUP_FROM = 20_000
"""Training examples from which images are mixed (BiT-HyperRule)."""


def mixup_for(examples: int, *, images: bool, whole: bool) -> float:
    """Mixup's parameter: large sets of images with everything trained alone; below, it only slows learning down (BiT-HyperRule)."""
    return MIXUP if images and whole and examples >= MIXUP_FROM else 0.0


def settings_for(
    examples: int, parameters: int = 0, *, convolutions: bool, whole: bool, scales: bool = False, images: bool = False
) -> Settings:
    """The settings for so many training examples and a network of so many weights. `whole`: everything trains; `scales`: below the head
    biases and scales alone do.
    """
    batch = batch_for(examples)
    lr, layer_decay = rates_for(parameters, convolutions=convolutions, whole=whole)
    return Settings(
        epochs_for(examples, batch),
        batch,
        lr * SCALES if scales else lr,
        layer_decay,
        weight_decay=WEIGHT_DECAY,
        adapt=follows_batches(examples, batch, whole=whole),
        mixup=mixup_for(examples, images=images, whole=whole),
        precision="auto",
        wise=True,
    )


def changed(settings: Settings, *more: Mapping[str, Any]) -> Settings:
    """The settings with others in their place, the last counts; what follows from a changed one follows it, unless it was given too."""
    given = {name: value for values in more for name, value in values.items()}
    if "lr" in given:
        given.setdefault("find", False)
        given.setdefault("weight_decay", 0.0 if given.get("l2_sp") else weight_decay_for(given["lr"], settings.lr))
    if given.get("cutmix"):
        given.setdefault("mixup", 0.0)
    if given.get("l2_sp"):
        # Li et al. 2018: a tenth for what is new; pulling to the start takes the place of pulling to 0
        given.setdefault("l2_sp_head", given["l2_sp"] / 10)
        given.setdefault("weight_decay", 0.0)
    return replace(settings, **given)


HEAD_STEPS = 1000
"""Steps aimed at for a head of several layers on frozen features: they cost next to nothing (DINOv2 takes 12,500)."""

HEAD_EPOCHS = (10, 60)


def head_settings(examples: int) -> Settings:
    """For a head of several layers that starts from random weights, on standardised features."""
    batch = batch_for(examples)
    least, most = HEAD_EPOCHS
    epochs = max(least, min(most, round(HEAD_STEPS / max(1, math.ceil(examples / batch)))))
    return Settings(epochs, batch, 1e-3, 1.0)


WHOLE_SECONDS = 300.0
"""What training in folds and on everything may take together."""

ENOUGH_JUDGED = 1000
"""Held-out examples from which more folds say little more: at 0.9 right the interval is 3.7 points wide, and 2.6 with twice as many (it
shrinks with the root of their number), for as much time again."""


def folds_to_train(folds: int, seconds_of_one: float, examples: int) -> int:
    """In how many of the folds to train, when one of them took so long: as many as give ENOUGH_JUDGED held-out examples, and two at
    least, so that what is chosen on held-out examples (weights, a temperature) is judged by another training; and no more than fit into
    WHOLE_SECONDS with the final training, but for one.

    Blum, Kalai & Langford 1999: the figure of a single fold is as honest as the mean of all; more folds narrow its spread.
    """
    needed = max(2, math.ceil(ENOUGH_JUDGED * folds / max(1, examples)))
    fitting = int(WHOLE_SECONDS / seconds_of_one) - 1 if seconds_of_one > 0 else folds
    return max(1, min(folds, needed, fitting))


def folds_said(folds: int, of: int, judged: int) -> str:
    """How so many of the folds were trained, which held so many examples out."""
    why = "as many as the figures need" if judged >= ENOUGH_JUDGED else "training in all folds would take too long"
    return f"{folds} of {of} folds held out: {judged:,} examples; {why}"


CLEARLY = 0.8
"""bfloat16 is taken for training when a step needs at most this part of the time in float32."""


WORTH = 60.0
"""Seconds of training from which another precision is looked for: timing it takes a few steps, and other bits need a reason."""


def worth_timing(seconds: float, steps: int) -> bool:
    """Whether so many steps of so many seconds can pay for timing them in another precision."""
    return seconds * steps >= WORTH


def precision_for(fp32: float, bf16: float) -> str:
    """How to train, from the seconds of a step in each."""
    return "bf16" if bf16 <= CLEARLY * fp32 else "fp32"
