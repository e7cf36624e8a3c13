"""resize_input: another number of channels, or another side in pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from regraft.anatomy.layers import layer_at
from regraft.anatomy.operations.base import Edit, Operation
from regraft.errors import UsageError


def apply(edit: Edit, *, size: int | None = None, channels: int | None = None) -> Sequence[Callable[[Edit], None]]:
    """Adapt what looks at the image first. Weights for other channels are made from the old ones as timm makes them: one channel
    gets their sum, more get them in turn, scaled so that the output keeps its size.
    """
    if (size is None) == (channels is None):
        raise UsageError("resize_input takes size=PIXELS or channels=COUNT")
    name, images = next(((k, v) for k, v in edit.inputs.items() if v.ndim == 4), ("", None))
    if images is None:
        raise UsageError("the network takes no images (n, channels, height, width)")
    wanted = size if size is not None else channels
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= (4096 if size is not None else 1024):
        told = f"{wanted!r}" if not isinstance(wanted, int) or abs(wanted) < 1 << 60 else "a number beyond measure"
        raise UsageError(f"resize_input: {told} is not a number of {'pixels' if size is not None else 'channels'} that can be meant")
    if size is not None:
        return [lambda e: _resize(e, name, wanted)]
    return [lambda e: _other_channels(e, name, wanted)]


def _resize(edit: Edit, name: str, size: int) -> None:
    old = edit.inputs[name]
    edit.inputs[name] = old.new_zeros(old.shape[0], old.shape[1], size, size)
    change = getattr(edit.network, "set_input_size", None)
    if change is not None:
        before = dict(edit.network.named_parameters())
        try:
            change(img_size=(size, size))
        except Exception as error:  # each family of networks has sizes of its own that it cannot take, and says so as it likes
            text = " ".join(str(error).split())
            raise UsageError(f"the network cannot take {size} pixels: {text[:200]}".rstrip(": "), expected="another size") from None
        edit.adapted |= {n for n, p in edit.network.named_parameters() if before.get(n) is not p}


def _other_channels(edit: Edit, name: str, channels: int) -> None:
    images = edit.inputs[name]
    first = [
        path
        for path in sorted(edit.seen.calls, key=edit.seen.first)
        if isinstance(layer_at(edit.network, path), nn.Conv2d) and edit.seen.calls[path][0].inputs[0][1] == images.shape[1]
    ]
    if not first:
        raise UsageError("no Conv2d looks at the image first, so its channels cannot be changed")
    conv = layer_at(edit.network, first[0])
    assert isinstance(conv, nn.Conv2d)
    if conv.groups != 1:
        raise UsageError(f"{first[0]} looks at each channel by itself (groups={conv.groups})", expected="a convolution over all channels")
    conv.weight = nn.Parameter(adapted_weight(conv.weight.detach(), channels), requires_grad=conv.weight.requires_grad)
    conv.in_channels = channels
    edit.inputs[name] = images.new_zeros(images.shape[0], channels, *images.shape[2:])
    edit.adapted.add(f"{first[0]}.weight")


def adapted_weight(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight (out, in, h, w) for another number of input channels."""
    old = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    turns = [weight[:, i % old] for i in range(channels)]
    return torch.stack(turns, 1) * (old / channels)


OPERATION = Operation("resize_input", "other channels or another size of images", (), {"size": None, "channels": None}, apply)
