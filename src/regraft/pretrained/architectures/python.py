"""Networks that code of the user's own makes: `package.module:function`. Imported and run only after it was allowed by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import ModelError
from regraft.pretrained.base import Architecture

if TYPE_CHECKING:
    from torch import nn

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""package.module:function"""

_allowed: set[str] = set()


def allow(function: str) -> None:
    """Let this process import and run `function`, until it ends. Called where a person said --allow-code, nowhere else."""
    _allowed.add(function)


def call(function: str) -> tuple[nn.Module, dict[str, Any] | None]:
    """(the module that the function gives, the preprocessing that it gives beside, or that the module has as an attribute).

    ModelError when it was not allowed, cannot be imported, raises, or gives something else.
    """
    import importlib

    from torch import nn

    if not FUNCTION.fullmatch(function):
        raise ModelError(f"{function!r} does not name a function", expected="package.module:function")
    if function not in _allowed:
        raise ModelError(
            f"the network is made by code, {function}, which is run only when that is allowed", move="--allow-code, if you know that code"
        )
    module, _, name = function.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{function} cannot be imported ({error})", move="PYTHONPATH=FOLDER, the folder that holds it") from None
    except Exception as error:
        # the user's own code, whatever it does
        raise ModelError(f"{function} raised {type(error).__name__}: {error}", expected="a function that needs no arguments") from None
    network, preprocessing = made if isinstance(made, tuple) and len(made) == 2 else (made, getattr(made, "preprocessing", None))
    if not isinstance(network, nn.Module):
        raise ModelError(f"{function} gave a {type(network).__name__}", expected="a torch.nn.Module, or (module, preprocessing)")
    return network, dict(preprocessing) if isinstance(preprocessing, Mapping) else None


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """The module of `description["function"]` as `backbone`, and an output layer `head` behind it.

    `description["features"]` is how many numbers it gives for an example. It is called with what the modality collates: the one
    tensor of a picture by its place, several by their names.
    """
    from torch import Tensor, nn

    backbone, _ = call(str(description["function"]))

    class OfTheUser(nn.Module):
        """The user's module and a linear layer."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone
            self.head = nn.Linear(int(description["features"]), classes) if classes else nn.Identity()

        def forward(self, **inputs: Tensor) -> Tensor:
            rows = self.backbone(*inputs.values()) if len(inputs) == 1 else self.backbone(**inputs)
            return self.head(rows)

    return OfTheUser()


ARCHITECTURE = Architecture("python", build)
