"""A frozen network as the verbs use it: from the facts of a pretrained one or from a bundle, over a list of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.data.base import Example
from regraft.errors import ModelError, UsageError
from regraft.events import Emit, Said, Warned, silent
from regraft.facts import ModelFacts
from regraft.modality import MODALITIES, Modality, Views
from regraft.pretrained import FREELY, Access, default_model, find_model, source_of
from regraft.strategy.rungs import AS_IT_IS
from regraft.workspace.bundle import WEIGHTS
from regraft.workspace.files import sha256_file
from regraft.workspace.reading import left_behind
from regraft.workspace.store import Space, Spaces, Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.artifacts import Model
    from regraft.features import Extracted
    from regraft.features.engines import Engine, Trunk


AGAIN = 3
"""Examples that go through once more where too few went through to say how fast it is."""


@dataclass(frozen=True)
class Frozen:
    """A network without its output layer. `network` opens it; until then no library of networks is imported."""

    modality: Modality
    architecture: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    tile: int
    weights_sha256: str
    files: Mapping[str, Path]
    network: Callable[[], nn.Module]
    views: Views | None = None
    """How the views are made that it looks at: sources of examples are then `View`s. None: examples as they are."""
    _made: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """The network once it is open, and its trunks: an engine that was timed is not made again for the pass."""

    def trunk(self, device: str, engine: Engine, threads: int) -> Trunk:
        """The frozen part in an engine, for so many threads. The network is opened once."""
        from regraft.features.engines import Trunk

        if "network" not in self._made:
            self._made["network"] = self.network()
        key = (device, engine.label, threads)
        if key not in self._made:
            self._made[key] = Trunk(self._made["network"], self.modality, self.preprocessing, self.tile, device, engine, threads)
        return self._made[key]

    def looking_at(self, views: Views) -> Frozen:
        """The same network, over views of examples."""
        return replace(self, views=views)

    def let_go(self) -> None:
        """Forget the network and its trunks: they hold memory."""
        self._made.clear()

    def maker(self, device: str, engine: Engine) -> dict[str, Any]:
        """The identity of its features on this machine."""
        from regraft.features import maker_of

        return maker_of(
            weights_sha256=self.weights_sha256,
            architecture=self.architecture,
            preprocessing=self.preprocessing,
            modality=self.modality,
            tile=self.tile,
            device=device,
            engine=engine,
            files={name: sha256_file(path) for name, path in sorted(self.files.items())},
            views=self.views,
        )

    def run(
        self,
        examples: Sequence[Example],
        device: str,
        threads: int,
        engine: Engine,
        *,
        keep: bool,
        summaries: bool,
        emit: Emit,
        stage: str = "features",
        into: Space | Spaces | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> Extracted:
        """Features of the examples, from the store where it has them; with `summaries`, what the model without a network needs.

        `into` are the spaces of a network that gives the rows of several, or its own one where that was opened before; without it they go
        into this network's own. `enough` ends it early.
        """
        from regraft.features import extract, summary_maker
        from regraft.features.material import damaged_said
        from regraft.features.memory import give_back

        if names := left_behind():
            shown = ", ".join(names[:5])
            emit(Warned(f"an earlier command ended without a word while it read: {shown}. If this one does too, move such a file away"))
        store = Store(keep=keep)
        space = store.space(self.maker(device, engine)) if into is None else into
        other: Space | None = None
        if summaries:
            other = store.space(summary_maker(self.modality)) if self.modality.summary_version else Space(None, {})
        preparer = self.modality.preparer if self.views is None else partial(self.views.preparer, self.modality)
        extracted = extract(
            [e.name for e in examples],
            [e.source for e in examples],
            self.modality if self.views is None else self.views.modality(self.modality),
            lambda: self.trunk(device, engine, threads),
            preparer(self.preprocessing, self.files),
            space,
            summaries=other,
            workers=pass_workers(device, threads),
            emit=emit,
            stage=stage,
            enough=enough,
        )
        give_back()
        if damaged := space.damaged + (other.damaged if other is not None else 0):
            emit(Warned(damaged_said(damaged)))
        if keep:
            for removed in store.trim(protect=(*space.keys, *(other.keys if other is not None else ()))):
                emit(Said(f"the feature store is over its size: {removed.rows:,} rows of {removed.key} were removed"))
        return extracted

    def seconds_again(
        self, examples: Sequence[Example], device: str, threads: int, engine: Engine, into: Space | Spaces | None = None
    ) -> tuple[float, int]:
        """(seconds, examples that the tiles would have held) of a few examples that go once more, one by one: what a network takes
        when it is open already, whatever is stored. `into` is that of `run`.
        """
        again = lambda one: self.run([one], device, threads, engine, keep=False, summaries=False, emit=silent, into=into)
        if not self._made:
            again(examples[0])
        found = [again(one) for one in examples[:AGAIN]]
        return sum(one.seconds for one in found), self.tile * sum(one.computed for one in found)


def pass_workers(device: str, threads: int) -> int:
    """Threads of a pass: they run the tiles too, but for a GPU, which should not wait for a single one that reads."""
    return threads if device == "cpu" else max(2, threads)


def choose_network(name: str | None, task: str, may: Access = FREELY) -> ModelFacts:
    """The network that was named, or the task's default; its weights are there, or can be fetched as far as `may` allows."""
    if may.allow and not name:
        raise UsageError("--allow is about weights that --model path: names", move="--model path:FILE?timm=NAME")
    facts = find_model(name, may) if name else default_model(task)
    if facts.task != task:
        raise UsageError(f"{facts.name} is for {facts.task}, the data is {task}", move=f"regraft models --task {task}")
    if line := source_of(facts).missing(facts):
        raise ModelError(f"the weights of {facts.name} are not installed", move=line)
    return facts


def frozen_pretrained(facts: ModelFacts, weights: Callable[[], dict[str, Tensor]]) -> Frozen:
    """A pretrained network as it came. `weights` gives its state dict."""

    def network() -> nn.Module:
        from regraft.anatomy import build_network

        built = build_network(facts.architecture, 0)
        built.load_state_dict(weights())
        return built

    modality = MODALITIES[facts.task]
    return Frozen(modality, facts.architecture, facts.preprocessing, facts.tile, facts.identity, source_of(facts).files(facts), network)


def frozen_model(model: Model) -> Frozen:
    """The frozen part of a bundle. While only an output layer was trained, its features are those of the network as it came."""
    manifest = model.manifest
    as_it_came = manifest.get("train") in ("head", AS_IT_IS) and manifest["model"].get("sha256")
    sha256 = str(as_it_came) if as_it_came else sha256_file(model.folder / WEIGHTS)
    return Frozen(
        model.modality,
        manifest["architecture"],
        manifest["preprocessing"],
        manifest["tile"],
        sha256,
        model.files,
        lambda: model.backbone()[0],
    )
