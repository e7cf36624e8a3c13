"""augmentations: changes by chance that leave an example what it is. One file, one record each.

In: a decoded example, or its prepared windows, and a stream of chance.     Out: the same kind of thing, changed.
Never: draws from anything but the stream it is given.
Invariant: what an augmentation does is a function of the seed, the content of the example and the number of the view alone
(tests/unit/test_augmentation.py).
"""

from __future__ import annotations

from regraft.modality.augmentations import colour, crop, flip, gain, mask, shift
from regraft.modality.augmentations.base import Augmentation

AUGMENTATIONS: tuple[Augmentation, ...] = tuple(
    each.AUGMENTATION
    for each in (
        # in the order in which they are applied
        crop,
        flip,
        colour,
        shift,
        gain,
        mask,
    )
)


def augmentations_of(task: str) -> dict[str, Augmentation]:
    """Those of a modality, by name, in the order in which they are applied. Texts have none (docs/augmentation.md)."""
    return {each.name: each for each in AUGMENTATIONS if each.task == task}


__all__ = ["AUGMENTATIONS", "Augmentation", "augmentations_of"]
