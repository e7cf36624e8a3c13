"""A pretrained network at every depth: what each would be as a network of its own, and all their features from one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regraft.errors import UsageError
from regraft.facts import ModelFacts
from regraft.jobs.frozen import Frozen, frozen_pretrained
from regraft.jobs.network import TRUNCATE, Given, example_inputs, longer
from regraft.pretrained import source_of
from regraft.pretrained.architectures import architecture_of
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Spaces, Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.anatomy import Net
    from regraft.anatomy.depths import Depth
    from regraft.features.engines import Engine

FINDINGS = "depths"
"""The file of findings: a network's depths, which depend on its description alone."""

VERSION = 1
"""Raised when depths would be found otherwise."""


@dataclass(frozen=True)
class Place:
    """A depth: the last layer that is kept, the numbers that it gives for an example, what runs and what is kept up to there."""

    at: str
    features: int
    macs: int
    parameters: int


@dataclass(frozen=True)
class DeepNetwork:
    """A network at its depths, the whole one last. `refused`: after which blocks it cannot end, and why."""

    given: Given
    places: Sequence[Place]
    refused: Mapping[str, str]

    @classmethod
    def of(cls, given: Given) -> DeepNetwork:
        """UsageError when the network does not give rows of features."""
        if (known := cls.known(given)) is not None:
            return known
        found = cls(given, (), {}).opened()
        keep_finding(FINDINGS, _key(given), {"places": [vars(p) for p in found.places], "refused": dict(found.refused)})
        return found

    @classmethod
    def known(cls, given: Given) -> DeepNetwork | None:
        """What was found of it before; None where nothing was."""
        held = read_finding(FINDINGS, _key(given))
        try:
            return cls(given, [Place(**row) for row in held["places"]], dict(held["refused"]))
        except (TypeError, KeyError, ValueError):
            return None

    def opened(self) -> DeepNetwork:
        """The same with the network in the hand: which of its depths are right is found out."""
        import torch

        from regraft.anatomy.depths import Depths, depths_of

        net = _opened(self.given)
        found, refused = depths_of(net)
        with torch.inference_mode():
            wrong = Depths(found).eval().check(_noise(net.inputs))
        if wrong and wrong[-1] == len(found) - 1:
            raise UsageError("the network does not give the same features twice", expected="features that depend on the example alone")
        for i in wrong:
            refused[found[i].name] = "its features are not got in the same run"
        return replace(self, places=[_place(d) for i, d in enumerate(found) if i not in wrong], refused=refused)

    def network(self) -> nn.Module:
        """The network that gives the features of all places side by side."""
        from regraft.anatomy.depths import Depths, depths_of

        names = {p.at for p in self.places}
        found, _ = depths_of(_opened(self.given))
        return Depths([d for d in found if d.name in names]).eval()

    def facts(self, place: Place) -> ModelFacts:
        """Of the network that ends at a place: those that `fit --at` works with."""
        from regraft.anatomy import described

        facts = self.given.facts
        if place is self.places[-1]:
            return facts
        plain = {k: v for k, v in facts.architecture.items() if k not in ("recipe", "inputs")}
        steps = [*facts.architecture.get("recipe", ()), {"op": TRUNCATE, "after": place.at}]
        return replace(facts, architecture=described(plain, example_inputs(self.given.base), steps), features=place.features)

    def frozen(self) -> Frozen:
        """The network of all places, for one pass."""
        return replace(frozen_pretrained(self.given.facts, dict), network=self.network)

    def spaces(self, device: str, engine: Engine, *, keep: bool) -> Spaces:
        """The spaces of the store that hold the features of each place: those of the network that ends there."""
        store = Store(keep=keep)
        makers = [frozen_pretrained(self.facts(p), dict).maker(device, engine) for p in self.places]
        return Spaces([store.space(maker) for maker in makers], [p.features for p in self.places])


def _key(given: Given) -> str:
    return findings_key({"version": VERSION, "architecture": dict(given.facts.architecture)})


def _place(depth: Depth) -> Place:
    return Place(depth.name, depth.features, depth.macs, depth.parameters)


def _opened(given: Given) -> Net:
    """The network with its weights and without an output layer."""
    from regraft.anatomy import build_network, look_at
    from regraft.jobs.common import wait_without_spinning

    wait_without_spinning()
    facts, plain = given.facts, given.base.architecture
    network = build_network(facts.architecture, 0)
    network.load_state_dict(given.edited.weights if given.edited else source_of(facts).weights(facts))
    return look_at(network, longer(example_inputs(facts)), [architecture_of(plain).head(plain)])


def _noise(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of the same shapes that are not all the same."""
    import torch

    random = torch.Generator().manual_seed(0)
    return {k: torch.randn(v.shape, generator=random) if v.is_floating_point() else v for k, v in inputs.items()}
