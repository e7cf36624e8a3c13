"""modality: what an image, a text or a sound is: identity, decoding, the network's input, features without a network.

In: a path, a string or an object in memory.     Out: arrays; tensors only at the very end (`collate`).
Never: knows where examples come from, which network will see them, or what is trained.
"""

from __future__ import annotations

from regraft.modality import audio, image, text
from regraft.modality.augmentations import AUGMENTATIONS, Augmentation, augmentations_of
from regraft.modality.base import Modality, Prepared, Sketch
from regraft.modality.views import View, Views

MODALITIES: dict[str, Modality] = {m.name: m for m in (image.MODALITY, text.MODALITY, audio.MODALITY)}

__all__ = ["AUGMENTATIONS", "MODALITIES", "Augmentation", "Modality", "Prepared", "Sketch", "View", "Views", "augmentations_of"]
