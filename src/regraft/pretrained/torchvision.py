"""`torchvision:NAME`: named so that the way is shown. Its weights are pickles on a host of their own, which are not fetched."""

from __future__ import annotations

from regraft.errors import ModelError
from regraft.facts import ModelFacts
from regraft.pretrained.architectures.torchvision import describe, names
from regraft.pretrained.base import Access, Source


def find(rest: str, may: Access) -> ModelFacts | None:
    """ModelError with the next move for a network that torchvision has, else None."""
    if rest not in names():
        return None
    describe(rest)
    raise ModelError(
        f"the weights of torchvision's {rest} are not on a hub, and regraft does not fetch them",
        expected="a file of weights on this machine",
        move=f"path:FILE.pth?torchvision={rest}; or timm:NAME, which has most of these networks",
    )


SOURCE = Source(
    "torchvision",
    "torchvision:NAME, whose weights are given as path:FILE?torchvision=NAME",
    models=lambda: (),
    missing=lambda facts: "",
    weights=lambda facts: {},
    files=lambda facts: {},
    find=find,
    nearest=lambda rest: names(),
)
