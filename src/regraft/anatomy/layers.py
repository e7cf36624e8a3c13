"""Finding a layer by its path, putting another one there, freezing all."""

from __future__ import annotations

from torch import nn

from regraft.errors import ModelError, nearest


def layer_at(network: nn.Module, path: str) -> nn.Module:
    """The layer at a path such as `blocks.3.conv`; ModelError names the nearest one when there is none."""
    try:
        return network.get_submodule(path)
    except AttributeError:
        names = [name for name, _ in network.named_modules() if name]
        raise ModelError(f"the network has no layer {path!r}. {nearest(path, names)}".rstrip()) from None


def replace_layer(network: nn.Module, path: str, layer: nn.Module) -> nn.Module:
    """Put `layer` at `path` and return the network."""
    layer_at(network, path)
    parent, _, name = path.rpartition(".")
    setattr(layer_at(network, parent) if parent else network, name, layer)
    return network


def freeze(network: nn.Module) -> nn.Module:
    """No parameter trains, and batch norms and dropouts behave as in use; returns the network."""
    return network.eval().requires_grad_(False)
