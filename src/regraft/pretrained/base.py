"""The records that sources and architectures fill in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.facts import ModelFacts

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Access:
    """What opening a network may do.

    offline       nothing goes over the network: only what is here already
    allow_code    code that a name points to may be imported and run
    allow         patterns of names of tensors: where weights on this machine may differ from their architecture
    """

    offline: bool = False
    allow_code: bool = False
    allow: tuple[str, ...] = ()


FREELY = Access()
"""What a name alone may do: fetch, where it names a hub, and run no code."""


@dataclass(frozen=True)
class Old:
    """A network as it was published, with its old output layers. `labels` say what its outputs mean; empty when that is not known.

    `architecture` describes it with its old output layers, for `outputs` classes. `build()` gives the module with its weights: it takes
    what its modality collates and gives scores (n, outputs), of which the softmax is meant.
    """

    outputs: int
    labels: tuple[str, ...]
    architecture: Mapping[str, Any]
    build: Callable[[], nn.Module]


@dataclass(frozen=True)
class Source:
    """Where networks come from.

    models()         the facts of every network that it lists
    missing(m)       why the weights of m are not here, with the install line; empty when they are or can be fetched
    weights(m)       the state dict of m's backbone for its architecture, without the old output layer, on the CPU, float32
    files(m)         files that travel with it: name -> path
    find(rest, may)  the facts of a network that it does not list; `rest` is the name without `NAME:`. None when it has none of
                     that name; ModelError when it has one that cannot be used
    nearest(rest)    names like `rest`, without `NAME:`
    old_head(m)      the tensors of m's old output layer, named as in build(architecture, m.outputs); empty when it has none
    old(m)           m as it was published, with its old output layers; None when it has none that says one class of several
    """

    name: str
    about: str
    models: Callable[[], Sequence[ModelFacts]]
    missing: Callable[[ModelFacts], str]
    weights: Callable[[ModelFacts], dict[str, Tensor]]
    files: Callable[[ModelFacts], dict[str, Path]]
    find: Callable[[str, Access], ModelFacts | None] = lambda rest, may: None
    nearest: Callable[[str], Sequence[str]] = lambda rest: ()
    old_head: Callable[[ModelFacts], dict[str, Tensor]] = lambda facts: {}
    old: Callable[[ModelFacts], Old | None] = lambda facts: None


@dataclass(frozen=True)
class Architecture:
    """How a network is built from a description in a bundle.

    build(description, classes)    the module with random weights and a new output layer; classes 0: without one
    head(description)              the path of its output layer, an nn.Linear when there is one
    """

    name: str
    build: Callable[[Mapping[str, Any], int], nn.Module]
    head: Callable[[Mapping[str, Any]], str] = lambda description: "head"
