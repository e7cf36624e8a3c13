"""What deeper training reads: examples and views of them, prepared, or what the frozen part gives for them, in the feature store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import Example
from regraft.errors import WriteError
from regraft.events import Emit, Said, silent
from regraft.jobs.work import Deeper, Work
from regraft.modality import MODALITIES, View, Views
from regraft.pretrained import source_of
from regraft.strategy.kept import fits, half_for
from regraft.workspace.files import sha256_file
from regraft.workspace.store import Space, Store, space_key

if TYPE_CHECKING:
    from regraft.features.cut import Cut
    from regraft.features.material import Looks, Material
    from regraft.jobs.augment import Seen
    from regraft.jobs.deeper import FrozenPart


def halved(cut: Cut) -> int:
    """Bytes kept of an example where float32 is kept in half precision."""
    import torch

    return sum(tensor.bytes // (2 if tensor.dtype == torch.float32 else 1) for tensor in cut.tensors)


def prepared_material(deeper: Deeper, work: Work, place: Path) -> Material:
    """Every usable example, prepared, in `place`."""
    from regraft.features.material import gather

    facts = deeper.facts
    modality, files = MODALITIES[facts.task], source_of(facts).files(facts)
    names, sources = [e.name for e in work.examples], [e.source for e in work.examples]
    prepare, space = modality.preparer(facts.preprocessing, files), Space(place, {}, needed=True)
    return gather(names, sources, modality, prepare, space, workers=work.workers, emit=work.emit)


def view_numbers(work: Work, seen: Seen) -> np.ndarray:
    """What the views of the training examples are numbered by, view after view: v x usable examples + the example's position."""
    return np.concatenate([work.train + view * len(work.examples) for view in range(1, seen.count)])


def material_of(deeper: Deeper, work: Work, cut: Cut, trunk: FrozenPart | None, place: Path) -> tuple[Material, Looks | None]:
    """What is judged and trained on, and what each epoch reads where that is views of examples: prepared in `place`, or what the trunk
    gives for them, in the feature store.
    """
    from regraft.features.material import Look, in_turn

    read = _Reading(deeper, work, cut, trunk, place, "float32" if trunk is None else _precision(deeper, work, cut, trunk))
    plain, seen, size = read(work.examples), work.seen, len(work.examples)
    if seen is None:
        return plain, None
    if seen.count:
        wanted = [_view(work.examples[i], view) for view in range(1, seen.count) for i in work.train]
        both = plain.followed_by(read(wanted, seen.views, "views"), view_numbers(work, seen))
        return plain, in_turn(both, size, seen.count, work.seed)

    def another(epoch: int, examples: np.ndarray) -> Look:
        for before in place.glob("epoch-*"):
            if before.name != f"epoch-{epoch}":
                shutil.rmtree(before, ignore_errors=True)
        material = read([_view(work.examples[i], epoch + 1) for i in examples], seen.views, f"epoch-{epoch}", silent)
        at = np.full(size, -1)
        at[examples] = np.arange(len(examples))
        return Look(material, at, examples)

    return plain, another


def _view(example: Example, number: int) -> Example:
    return replace(example, source=View(example.source, number))


@dataclass(frozen=True)
class _Reading:
    """Makes material of examples, in a folder of its own in `place` where it does not come from the feature store. `precision` is what the
    tensors at the cut are kept in.
    """

    deeper: Deeper
    work: Work
    cut: Cut
    trunk: FrozenPart | None
    place: Path
    precision: str

    def __call__(self, examples: Sequence[Example], views: Views | None = None, name: str = "plain", emit: Emit | None = None) -> Material:
        """The examples as they are, or views of them."""
        from regraft.features.material import gather

        work, facts = self.work, self.deeper.facts
        modality, files = MODALITIES[facts.task], source_of(facts).files(facts)
        preparer = modality.preparer if views is None else partial(views.preparer, modality)
        prepare = preparer(facts.preprocessing, files)
        if views is not None:
            modality = views.modality(modality)
        names, sources = [e.name for e in examples], [e.source for e in examples]
        folder = self.place / name
        shared = {"workers": work.workers, "emit": emit or work.emit}
        of = "" if views is None else " of views"
        if self.trunk is None:
            return gather(names, sources, modality, prepare, Space(folder, {}, needed=True), stage=f"preparing{of}", **shared)
        space = _space(self.deeper, work, self.cut, self.precision, folder, views, self.trunk.engine)
        options = {"trunk": self.trunk, "tile": facts.tile, "side_by_side": work.device == "cpu", "precision": self.precision}
        stored = space.folder != folder
        try:
            material = gather(names, sources, modality, prepare, space, stage=f"frozen part{of}", **options, **shared)
        except WriteError as error:
            other = "set REGRAFT_HOME to a folder on another disk; what is there already is kept"
            raise WriteError(error.found, move=f"make room there, or {other if stored else '--out FOLDER on another disk'}") from None
        if stored:
            for removed in Store().trim(protect=self._keys()):
                work.emit(Said(f"the feature store is over its size: {removed.rows:,} examples of {removed.key} were removed"))
        return material

    def _keys(self) -> tuple[str, ...]:
        """Of the spaces that this training reads."""
        seen = self.work.seen
        spaces = (None, seen.views) if seen else (None,)
        engine = self.trunk.engine if self.trunk else None
        return tuple(space_key(_maker(self.deeper, self.work, self.cut, self.precision, views, engine)) for views in spaces)


def _precision(deeper: Deeper, work: Work, cut: Cut, trunk: FrozenPart) -> str:
    """What the tensors at the cut are kept in; recorded, and said when it is not float32."""
    from regraft.features.material import largest

    if held := work.recorder.held_decision("kept"):
        # how much disk was free decided it
        work.decide(kept=held)
        return held["precision"]
    full, half = (size * work.seen_examples for size in (cut.bytes, halved(cut)))
    room = work.room()
    if fits(full, room):
        work.decide(kept={"precision": "float32"})
        return "float32"
    facts = deeper.facts
    modality = MODALITIES[facts.task]
    prepare = modality.preparer(facts.preprocessing, source_of(facts).files(facts))
    value = largest([e.source for e in work.examples[: facts.tile]], modality, prepare, trunk)
    chosen = half_for(value)
    reason = f"in float32 it would take {full / 1e9:,.1f} GB, and {room / 1e9:,.1f} are free"
    work.decide(kept={"precision": chosen, "reason": reason, "largest": value})
    work.emit(Said(f"what the frozen part gives is kept in {chosen}, {half / 1e9:,.1f} GB: {reason}"))
    return chosen


def _space(
    deeper: Deeper, work: Work, cut: Cut, precision: str, place: Path, views: Views | None, engine: Mapping[str, Any] | None
) -> Space:
    """Where what the trunk gives is kept: in the feature store, or, when it is not to be kept there, cannot or is more than the store may
    hold, in the run's folder while it runs.
    """
    aside = Space(place, {}, needed=True)
    store = Store(keep=work.keep)
    size = (cut.bytes if precision == "float32" else halved(cut)) * work.seen_examples
    if not work.keep:
        return aside
    if size > store.limit:
        held = f"{size / 1e9:,.1f} GB, and the feature store may hold {store.limit / 1e9:,.1f} (REGRAFT_CACHE_SIZE)"
        work.emit(Said(f"what the frozen part gives takes {held}: it is kept for this run only"))
        return aside
    try:
        space = store.space(_maker(deeper, work, cut, precision, views, engine), needed=True)
    except WriteError:
        return aside
    assert space.folder is not None
    return space if os.access(space.folder, os.W_OK) else aside


def _maker(deeper: Deeper, work: Work, cut: Cut, precision: str, views: Views | None, engine: Mapping[str, Any] | None) -> dict[str, Any]:
    """What makes the tensors at the cut, of examples as they are or of views of them."""
    from regraft.features import cut_maker
    from regraft.features.cut import identity

    facts = deeper.facts
    return cut_maker(
        cut=identity(cut),
        network=str(facts.architecture.get("name", facts.name)),
        preprocessing=facts.preprocessing,
        modality=MODALITIES[facts.task],
        tile=facts.tile,
        device=work.device,
        precision=precision,
        files={name: sha256_file(path) for name, path in sorted(source_of(facts).files(facts).items())},
        views=views,
        engine=engine,
    )
