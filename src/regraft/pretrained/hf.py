"""`hf:OWNER/NAME[@REVISION]`: encoders of transformers and sentence-transformers on the hub. Code in a repository is never run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.facts import ModelFacts
from regraft.pretrained import encoders
from regraft.pretrained.base import Access, Old, Source
from regraft.pretrained.hub import open_repository, reopen

if TYPE_CHECKING:
    from torch import Tensor


def find(rest: str, may: Access) -> ModelFacts | None:
    """The facts of `OWNER/NAME[@REVISION]`, with the commit that it is at; small files are fetched, weights are not."""
    name, _, revision = rest.partition("@")
    repository = open_repository(name, revision, may)
    facts = encoders.facts_of(
        repository,
        f"hf:{rest}",
        licence=repository.licence,
        trained_on=repository.trained_on,
        origin=f"{repository.name} on the hub, at {repository.revision[:12]}",
    )
    if repository.offline:
        # said now, before any work is done
        for file in encoders.all_weight_files(repository, facts.name, facts.architecture):
            repository.fetch(file)
    return dataclasses.replace(facts, repository=repository.name, revision=repository.revision)


def weights(facts: ModelFacts) -> dict[str, Tensor]:
    """The backbone's tensors; fetched when they are not here."""
    return encoders.weights_of(reopen(facts.repository, facts.revision), facts)


def old_head(facts: ModelFacts) -> dict[str, Tensor]:
    """The tensors of the old output layer."""
    return encoders.old_head_of(reopen(facts.repository, facts.revision), facts)


def old(facts: ModelFacts) -> Old | None:
    """The whole network of a repository that says one class of several."""
    return encoders.old_of(reopen(facts.repository, facts.revision), facts)


def files(facts: ModelFacts) -> dict[str, Path]:
    """The tokenizer of a network of texts."""
    repository = reopen(facts.repository, facts.revision)
    return {name: repository.check(path) for name, (path, _) in facts.extra_files.items()}


SOURCE = Source(
    "hf",
    "hf:OWNER/NAME[@REVISION], encoders of transformers and sentence-transformers on the hub",
    models=lambda: (),
    missing=lambda facts: "",
    weights=weights,
    files=files,
    find=find,
    old_head=old_head,
    old=old,
)
