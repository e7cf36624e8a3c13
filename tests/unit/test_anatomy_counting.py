"""What runs without values gives the shapes that PyTorch itself gives, and costs what PyTorch counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from regraft.anatomy.counting import ALIKE, IN_PLACE, Counting

ROWS = torch.empty(2, 6, 5, 4, device="meta").to(memory_format=torch.channels_last)


def told(value):
    return value.shape, value.dtype, value.stride(), value.device.type


@pytest.mark.parametrize("packet", sorted(IN_PLACE | ALIKE, key=str), ids=str)
def test_what_is_shaped_like_what_came(packet):
    alone = packet(ROWS.clone())
    given = ROWS.clone()
    with Counting() as counter:
        found = packet(given)
    assert told(found) == told(alone) and counter.macs == 0
    assert (found is given) == (packet in IN_PLACE)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False), nn.Sigmoid()])
def test_whole_numbers_and_layers_in_use(layer):
    layer = layer.to("meta").eval()
    with torch.no_grad():
        alone = layer(ROWS)
        with Counting():
            assert told(layer(ROWS)) == told(alone)
            assert torch.sigmoid(torch.ones(2, 3, dtype=torch.long, device="meta")).dtype == torch.float32


def test_what_does_not_fit_is_refused():
    with torch.no_grad(), Counting(), pytest.raises(RuntimeError):
        nn.BatchNorm2d(7).to("meta").eval()(ROWS)


def test_multiply_adds_are_those_of_pytorch():
    network = nn.Sequential(nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 3 * 2, 3)).eval()
    for device in ("meta", "cpu"):
        here = network.to_empty(device=device)
        x = torch.zeros(2, 6, 5, 4, device=device)
        with torch.no_grad(), FlopCounterMode(display=False) as theirs:
            here(x)
        with torch.no_grad(), Counting() as ours:
            here(x)
        assert 2 * ours.macs == theirs.get_total_flops() == 2 * 2 * (8 * 3 * 9 * 3 * 2 + 48 * 3)
