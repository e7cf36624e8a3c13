"""Views of an example: itself, and what augmentations make of it, each time by another chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regraft.modality.augmentations import Augmentation
from regraft.modality.base import Loaded, Modality, Prepared


@dataclass(frozen=True)
class View:
    """A source as it is seen the `number`-th time, from 1; view 0 is the source itself and needs no record."""

    source: Any
    number: int


@dataclass(frozen=True)
class _Seen:
    """A decoded example on its way to a view."""

    decoded: Any
    identity: bytes
    number: int


@dataclass(frozen=True)
class Views:
    """How views are made: by which augmentations, in their order, and from which seed.

    What is drawn depends on the seed, the content of the example, the number of the view and the augmentation's name alone: not on other
    examples, their order, workers or batches, nor on which other augmentations there are.
    """

    kinds: tuple[Augmentation, ...]
    seed: int

    def modality(self, plain: Modality) -> Modality:
        """The modality whose sources are `View`s; `preparer` prepares what it decodes."""

        def load(view: View) -> Loaded:
            loaded = plain.load(view.source)
            identity = loaded.identity
            name = hashlib.blake2b(f"view {view.number} of ".encode() + identity, digest_size=len(identity)).digest()
            return Loaded(name, lambda: _Seen(loaded.decode(), identity, view.number))

        return replace(plain, load=load)

    def preparer(self, plain: Modality, preprocessing: Mapping[str, Any], files: Mapping[str, Path]) -> Callable[[_Seen], Prepared]:
        """From what the modality of views decodes to a view's windows."""
        changed = preprocessing
        for kind in self.kinds:
            changed = kind.prepared_by(changed)
        prepare = plain.preparer(changed, files)

        def prepared(seen: _Seen) -> Prepared:
            chances = [self._chance(seen, kind) for kind in self.kinds]
            example = seen.decoded
            for kind, chance in zip(self.kinds, chances, strict=True):
                if kind.decoded is not None:
                    example = kind.decoded(example, chance, kind.amounts, preprocessing)
            made = prepare(example)
            windows = list(made.windows)
            for kind, chance in zip(self.kinds, chances, strict=True):
                if kind.windows is not None:
                    windows = [kind.windows(window, chance, kind.amounts, preprocessing) for window in windows]
            return replace(made, windows=windows)

        return prepared

    def _chance(self, seen: _Seen, kind: Augmentation) -> np.random.Generator:
        words = f"{self.seed} {seen.number} {kind.name} ".encode() + seen.identity
        return np.random.default_rng(int.from_bytes(hashlib.blake2b(words, digest_size=16).digest(), "big"))

    def to_json(self) -> dict[str, Any]:
        """Plain data: everything that can change what a view shows, but for its number."""
        return {"augment": [kind.to_json() for kind in self.kinds], "seed": self.seed}
