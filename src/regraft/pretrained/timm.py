"""`timm:NAME[.TAG]`: image networks of timm, their weights from the hub's repository that timm names, as safetensors.

timm's own code builds the network and says how its input is prepared; its loading of weights is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import ModelError
from regraft.facts import ModelFacts
from regraft.pretrained.architectures.timm import Found, describe, library_of_networks
from regraft.pretrained.base import Access, Source
from regraft.pretrained.hub import Repository, open_repository, reopen
from regraft.pretrained.named import preprocessing_of, split
from regraft.pretrained.old import as_published
from regraft.pretrained.tensors import read_state

if TYPE_CHECKING:
    from torch import Tensor

TILE = 16
FILES = ("model.safetensors", "pytorch_model.bin")
"""What a repository may hold the weights in; the first that it has."""


def find(rest: str, may: Access) -> ModelFacts | None:
    """The facts of `NAME[.TAG][@REVISION]`, with the commit that its repository is at."""
    name, _, revision = rest.partition("@")
    library = library_of_networks()
    plain, _, tag = name.partition(".")
    if not library.is_model(plain) or (tag and name not in library.list_models(plain, pretrained=True)):
        return None
    settings = library.get_pretrained_cfg(name)
    if settings is None:
        raise ModelError(f"timm knows no weights of {plain}", move=f"path:FILE?timm={plain}, with weights of your own")
    if not settings.hf_hub_id:
        raise ModelError(
            f"timm names no repository with the weights of {name}", move="timm:NAME.TAG with another tag, or path:FILE?timm=NAME"
        )
    if settings.custom_load:
        raise ModelError(f"the weights of {name} are in a format of their own, which only timm's own code reads", expected="safetensors")
    repository = open_repository(str(settings.hf_hub_id), revision, may)
    return _facts(f"timm:{name}{'@' + revision if revision else ''}", describe(name), repository, may)


def _facts(name: str, found: Found, repository: Repository, may: Access) -> ModelFacts:
    settings = dict(found.settings)
    file = next((f for f in FILES if f in repository.files), None)
    if file is None:
        raise ModelError(f"the repository {repository.name} holds no weights that are read", expected=" or ".join(FILES))
    if repository.offline:
        # said now, before any work is done
        repository.fetch(file)
    config = repository.json("config.json")
    config = config if isinstance(config, dict) else {}
    own = config.get("pretrained_cfg")
    theirs: dict[str, Any] = own if isinstance(own, dict) else {}
    outputs = int(settings.get("num_classes") or 0) if found.description["head"] else 0
    labels = _labels({**settings, **theirs, **config}, outputs)
    licence = settings.get("license") or repository.licence
    tag = settings.get("tag") or ""
    return ModelFacts(
        name=name,
        task="image",
        about=f"{settings.get('architecture') or name} of timm, {found.input['input_size'][1]} px",
        trained_on=_trained_on(tag) or repository.trained_on,
        published="see the card of its repository",
        licence=str(licence),
        origin=f"{repository.name} on the hub, at {repository.revision[:12]}",
        parameters=found.parameters,
        features=found.features,
        tile=TILE,
        architecture=dict(found.description),
        preprocessing=preprocessing_of(found, name),
        file=file,
        sha256=repository.sha256(file),
        outputs=outputs,
        labels=labels,
        repository=repository.name,
        revision=repository.revision,
    )


_DATA = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "webli": "WebLI",
    "datacomp1b": "DataComp-1B",
    "datacompxl": "DataComp-XL",
    "cc12m": "CC12M",
    "merged2b": "Merged-2B",
    "openai": "OpenAI's 400 million pairs of pictures and texts",
    "yfcc15m": "YFCC15M",
    "jft300m": "JFT-300M",
    "ig1b": "1 billion pictures of Instagram",
}
"""What the parts of timm's tags mean: data sets, in the order in which a network saw them."""


def _trained_on(tag: str) -> str:
    """The data sets that a tag such as `augreg_in21k_ft_in1k` names."""
    return ", then ".join(dict.fromkeys(_DATA[part] for part in tag.split("_") if part in _DATA))


def _labels(settings: Mapping[str, Any], outputs: int) -> tuple[str, ...]:
    names = settings.get("label_names")
    if isinstance(names, Sequence) and not isinstance(names, str) and len(names) == outputs and all(isinstance(n, str) for n in names):
        return tuple(names)
    return ()


def nearest_names(rest: str) -> list[str]:
    """Every name of timm, with its tags."""
    library = library_of_networks()
    return [*library.list_models(), *library.list_models(pretrained=True)]


def _state(facts: ModelFacts) -> dict[str, Tensor]:
    # the files of this commit are here, or are fetched now: find() has said so where that is not allowed
    repository = reopen(facts.repository, facts.revision)
    return read_state(repository.check(facts.file))


def weights(facts: ModelFacts) -> dict[str, Tensor]:
    """The backbone's tensors; ModelError names what does not fit."""
    return split(facts, _state(facts))[0]


def old_head(facts: ModelFacts) -> dict[str, Tensor]:
    """The tensors of the old output layer."""
    return split(facts, _state(facts))[1] if facts.outputs else {}


def files(facts: ModelFacts) -> dict[str, Path]:
    """None travel with a network of pictures."""
    return {}


SOURCE = Source(
    "timm",
    "timm:NAME[.TAG], image networks whose weights are on the hub",
    models=lambda: (),
    missing=lambda facts: "",
    weights=weights,
    files=files,
    find=find,
    nearest=nearest_names,
    old_head=old_head,
    old=lambda facts: as_published(facts, weights, old_head),
)
