"""Settings of an optimisation below the head, from facts about the data and the network. Each rule names where it comes from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

ADAPTERS = 5.0
"""Of the rate that weights get: 5e-4 for transformers, the same at every depth (Hu et al. 2022, table 9: 4e-4 to 5e-4 for RoBERTa-base,
whose own weights get 1e-5 to 3e-5)."""


@dataclass(frozen=True)
class Settings:
    """How a network is trained from where the output layer's own fit ended.

    epochs        passes over the training examples
    batch         examples a step
    rate          AdamW's largest learning rate, of the head and the last block
    decay         what a block's rate is multiplied by for each block nearer to the input
    warm_up       the part of the steps in which rates rise; they fall to 0 along a cosine afterwards
    weight_decay  AdamW's, not on biases and scales
    clip          the longest gradient
    adapters      what the rate of adapters is multiplied by; it does not fall with depth
    adapt         whether batch norms that train follow the batches, or keep the statistics they came with
    """

    epochs: int
    batch: int
    rate: float
    decay: float
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    adapters: float = ADAPTERS
    adapt: bool = False

    def steps(self, examples: int) -> int:
        """Steps of the whole training."""
        return self.epochs * max(1, math.ceil(examples / self.batch))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


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


def rates_for(*, convolutions: bool) -> tuple[float, float]:
    """(rate of the last block and the head, decay by block).

    Transformers: 1e-4 falling by 0.75 a block (BEiT, MAE: 0.65 to 0.75; small encoders bear more than BERT's 2e-5). Convolutional
    networks: 3e-4, 0.8 (ConvNeXt: 0.7 to 0.9). The head starts from its own fit, so it gets the rate of the last block (LP-FT, Kumar
    et al. 2022), not ten times as much as random weights do.
    """
    return (3e-4, 0.8) if convolutions else (1e-4, 0.75)


def follows_batches(examples: int, batch: int, *, whole: bool) -> bool:
    """Whether trained batch norms adapt: with everything trained, 1,000 examples and batches of 32 at least.

    Small sets and batches keep the statistics (Keras' guide to transfer learning); fastai lets them follow always.
    """
    return whole and examples >= 1000 and batch >= 32


def settings_for(examples: int, *, convolutions: bool, whole: bool) -> Settings:
    """The settings for so many training examples."""
    batch = batch_for(examples)
    rate, decay = rates_for(convolutions=convolutions)
    adapt = follows_batches(examples, batch, whole=whole)
    return Settings(epochs_for(examples, batch), batch, rate, decay, adapt=adapt)


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
"""What training in every fold may take together; beyond, one fold is held out and judged."""


def folds_to_train(folds: int, seconds_of_one: float) -> int:
    """In how many folds to train, when one took so long: all and the final one within WHOLE_SECONDS, else one."""
    return folds if (folds + 1) * seconds_of_one <= WHOLE_SECONDS else 1
