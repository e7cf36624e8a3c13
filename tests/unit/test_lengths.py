"""Texts of several lengths train in few padded passes, to what each length by itself gives but for rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from regraft.features.material import Material
from regraft.strategy.settings import Settings
from regraft.training.lengths import WORTH_OF_A_STEP, in_two, windows_apart
from regraft.training.loop import Learner, Problem, train
from regraft.training.losses import SOFTMAX

LENGTHS = (3, 5, 3, 8, 5, 4, 8, 3)


def material() -> Material:
    random = np.random.default_rng(0)
    kinds = sorted(set(LENGTHS))
    arrays, rows = [], []
    for n in kinds:
        count = LENGTHS.count(n)
        arrays.append({"ids": random.integers(1, 9, (count, n)), "mask": np.ones((count, n), np.int64)})
    for i, n in enumerate(LENGTHS):
        rows.append(LENGTHS[:i].count(n))
    each = np.arange(len(LENGTHS))
    return Material(arrays, each, np.ones(len(each)), np.array([kinds.index(n) for n in LENGTHS]), np.array(rows))


def pad(windows: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    longest = max(len(w["ids"]) for w in windows)
    return [{name: np.pad(values, (0, longest - len(values))) for name, values in w.items()} for w in windows]


def trained(padded: bool, accumulate: int = 1) -> tuple[dict[str, torch.Tensor], list[tuple[int, ...]]]:
    torch.manual_seed(0)
    words, output, passes = nn.Embedding(9, 6), nn.Linear(6, 2), []
    module = nn.ModuleList([words, output])

    def scores(arrays: Mapping[str, np.ndarray]) -> torch.Tensor:
        ids, mask = torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["mask"]).float()
        passes.append(tuple(ids.shape))
        return output((words(ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))

    groups = [([name for name, _ in module.named_parameters()], 1e-2)]
    learner = Learner(module, scores, module.train, module.eval, groups, output, pad=pad if padded else None)
    settings = Settings(epochs=2, batch=8, lr=1e-2, layer_decay=1.0, accumulate=accumulate)
    each = np.arange(len(LENGTHS))
    train(Problem(learner, material(), torch.tensor([0, 1] * 4), np.ones(len(each)), each, SOFTMAX, settings, seed=0))
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}, passes


def test_padded_passes_give_what_each_length_gives() -> None:
    (apart, many), (together, few) = trained(False), trained(True)
    assert len(many) == 2 * len(set(LENGTHS)) and few == [(8, 8), (8, 8)]
    for name, tensor in apart.items():
        assert torch.allclose(tensor, together[name], atol=1e-5), name


def test_a_divided_batch_is_padded_in_its_parts() -> None:
    (whole, _), (divided, passes) = trained(True), trained(True, accumulate=2)
    assert len(passes) == 4 and all(count == 4 for count, _ in passes)
    for name, tensor in whole.items():
        assert torch.allclose(tensor, divided[name], atol=1e-5), name


def test_windows_come_back_in_their_order() -> None:
    found = windows_apart(material(), np.array([3, 0, 6]))
    assert [len(w["ids"]) for w in found] == [8, 3, 8]


@pytest.mark.parametrize(("lengths", "groups"), [([12] * 12 + [20] * 4, 1), ([12] * 15 + [120], 2), ([8], 1)])
def test_a_long_text_among_short_ones_goes_by_itself(lengths: list[int], groups: int) -> None:
    found = in_two(np.array(lengths), WORTH_OF_A_STEP)
    assert len(found) == groups and sorted(np.concatenate(found)) == list(range(len(lengths)))
