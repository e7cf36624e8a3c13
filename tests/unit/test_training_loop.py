"""The loop against the same steps written out, and its settings as tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import RunError
from regraft.features.material import Material, of_rows
from regraft.strategy.rungs import rung_of
from regraft.strategy.settings import (
    EPOCHS,
    Settings,
    batch_for,
    epochs_for,
    folds_said,
    folds_to_train,
    follows_batches,
    head_settings,
    settings_for,
)
from regraft.training.loop import Learner, Problem, _height, judge, train
from regraft.training.losses import SIGMOID, SOFTMAX, SQUARED


def learner(module: nn.Sequential, rate: float = 1e-2) -> Learner:
    output = module[-1]
    assert isinstance(output, nn.Linear)
    names = [n for n, _ in module.named_parameters()]
    return Learner(module, lambda arrays: module(torch.from_numpy(arrays["input"])), module.train, module.eval, [(names, rate)], output)


def small(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, outputs))


SETTINGS = Settings(epochs=2, batch=4, lr=1e-2, layer_decay=1.0, clip=1e9)


def test_the_loop_takes_the_steps_that_are_written_out_here():
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(12, 5)).astype(np.float32), torch.from_numpy(rng.integers(0, 3, 12))
    weights = rng.uniform(0.5, 1.5, 12)
    ours = learner(small())
    train(Problem(ours, of_rows(rows), labels, weights, np.arange(12), SOFTMAX, SETTINGS, 7))
    plain = small()
    decay, bare = [p for p in plain.parameters() if p.ndim > 1], [p for p in plain.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": bare, "weight_decay": 0.0}], lr=1e-2, fused=True)
    torch.manual_seed(7)
    plain.train()
    for step in range(6):
        order = np.random.default_rng([7, step // 3]).permutation(12)
        batch = np.array_split(order, 3)[step % 3]
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * _height(step, 6, 0.1)
        optimiser.zero_grad()
        # windows of equal shapes are read in the order in which the batch names them
        each = nn.functional.cross_entropy(plain(torch.from_numpy(rows[batch])), labels[batch], reduction="none")
        (each * torch.from_numpy(weights[batch].astype(np.float32))).sum().div(4).backward()
        optimiser.step()
    for a, b in zip(ours.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_windows_of_other_shapes_count_as_parts_of_their_example():
    short, long = np.ones((2, 3), np.float32), np.full((3, 5), 2.0, np.float32)
    # example 0 has a short window, example 1 a short and two long ones, example 2 a long one
    material = Material(
        [{"input": short}, {"input": long}],
        example=np.array([0, 1, 1, 1, 2]),
        share=np.array([1, 0.5, 0.25, 0.25, 1], np.float32),
        kind=np.array([0, 0, 1, 1, 1]),
        row=np.array([0, 1, 0, 1, 2]),
    )
    assert [part.tolist() for part in material.alike(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]
    module = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Linear(1, 1, bias=True))
    with torch.no_grad():
        module[1].weight.fill_(1.0)
        module[1].bias.zero_()
    ours = Learner(module, lambda arrays: module(torch.from_numpy(arrays["input"])), module.train, module.eval, [], module[1])
    assert judge(ours, material, np.array([0, 1, 2]))[:, 0].tolist() == [1.0, 1.5, 2.0]
    assert material.windows_each(np.array([2, 1])).tolist() == [4, 1, 2, 3]
    assert judge(ours, material, np.array([2, 0]))[:, 0].tolist() == [2.0, 1.0]


@pytest.mark.parametrize("loss", [SOFTMAX, SIGMOID, SQUARED])
def test_every_loss_falls(loss):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 5)).astype(np.float32)
    if loss is SOFTMAX:
        truth = torch.from_numpy((rows[:, 0] > 0).astype(np.int64))
    elif loss is SIGMOID:
        truth = torch.from_numpy((rows[:, :3] > 0).astype(np.float32))
    else:
        truth = torch.from_numpy(rows[:, 0])
    ours = learner(small(1 if loss is SQUARED else 3))
    settings = Settings(epochs=20, batch=16, lr=1e-2, layer_decay=1.0)
    found = train(Problem(ours, of_rows(rows), truth, np.ones(60), np.arange(60), loss, settings, 0))
    assert found.losses[-1] < 0.85 * found.losses[0] and not ours.module.training


def test_a_training_that_diverges_begins_again_at_lower_rates():
    rows = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    labels = torch.zeros(8, dtype=torch.int64)
    ours = learner(small())
    before = ours.state()
    calls: list[int] = []
    scores = ours.scores

    def bad_twice(arrays):
        calls.append(1)
        # the second step of the first two trainings gives no number
        return scores(arrays) * (float("nan") if len(calls) in (2, 4) else 1.0)

    again = Learner(ours.module, bad_twice, ours.train_mode, ours.eval_mode, ours.groups, ours.output)
    found = train(Problem(again, of_rows(rows), labels, np.ones(8), np.arange(8), SOFTMAX, SETTINGS, 0))
    assert found.restarts == 2
    # the same as one that began at a ninth of the rates
    ours.restore(before)
    slower = Learner(ours.module, scores, ours.train_mode, ours.eval_mode, [(ours.groups[0][0], 1e-2 * 3.0**-2)], ours.output)
    after = again.state()
    train(Problem(slower, of_rows(rows), labels, np.ones(8), np.arange(8), SOFTMAX, SETTINGS, 0))
    assert all(torch.isfinite(v).all() for v in slower.state().values())
    assert set(after) == set(slower.state())


def spoilt(ours: Learner, spoil) -> Learner:
    """A learner whose scores of the n-th batch are `spoil(scores, n)`."""
    calls: list[int] = []

    def scores(arrays):
        calls.append(1)
        return spoil(ours.scores(arrays), len(calls))

    return Learner(ours.module, scores, ours.train_mode, ours.eval_mode, ours.groups, ours.output)


def bad(ours: Learner) -> Problem:
    rows = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    return Problem(ours, of_rows(rows), torch.arange(8) % 3, np.ones(8), np.arange(8), SOFTMAX, SETTINGS, 0)


def test_a_loss_that_explodes_is_one_that_is_no_number():
    # the first epoch of two steps ends in a mean loss of hundreds
    found = train(bad(spoilt(learner(small()), lambda scores, n: scores * (1e4 if n == 2 else 1.0))))
    assert found.restarts == 1 and found.lr == pytest.approx(1e-2 / 3) and max(found.losses) < 10


def test_weights_that_are_no_numbers_are_never_the_result():
    ours = learner(small())
    plain = [p.detach().clone() for p in ours.module.parameters()]

    def late(scores, n):
        # in the very last step, where no loss tells of it any more
        if n in (4, 8, 12, 16):
            scores.register_hook(lambda gradient: (ours.module[0].weight.data.fill_(float("inf")), gradient)[1])
        return scores

    with pytest.raises(RunError, match="does not hold"):
        train(bad(spoilt(ours, late)))
    # and what is left is where it began
    assert all(torch.equal(a, b) for a, b in zip(plain, ours.module.parameters(), strict=True))


@pytest.mark.parametrize(("step", "height"), [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (99, 0.0003)])
def test_rates_rise_and_fall(step, height):
    assert _height(step, 100, 0.1) == pytest.approx(height, abs=2e-3)


@pytest.mark.parametrize(
    ("examples", "batch", "epochs"), [(20, 16, 20), (244, 16, 20), (999, 16, 6), (1000, 32, 12), (5000, 32, 3), (100_000, 32, 3)]
)
def test_settings_by_the_number_of_examples(examples, batch, epochs):
    assert batch_for(examples) == batch and epochs_for(examples, batch) == epochs
    assert EPOCHS[0] <= epochs <= EPOCHS[1]


def test_settings_by_the_network():
    conv = settings_for(500, convolutions=True, whole=False)
    former = settings_for(500, 110_000_000, convolutions=False, whole=False)
    small = settings_for(500, 22_000_000, convolutions=False, whole=False)
    assert settings_for(500, 22_000_000, convolutions=False, whole=True).lr == former.lr
    assert conv.lr == small.lr > former.lr and conv.layer_decay > former.layer_decay == small.layer_decay
    assert head_settings(500).lr > conv.lr and head_settings(24).epochs == 60 and head_settings(10**6).epochs == 10
    assert not follows_batches(999, 32, whole=True) and not follows_batches(5000, 32, whole=False)
    assert not follows_batches(5000, 16, whole=True) and follows_batches(5000, 32, whole=True)
    assert Settings(3, 16, 1e-3, 1.0).steps(17) == 6


@pytest.mark.parametrize(
    ("folds", "seconds", "examples", "trained"),
    [
        *((5, 10.0, n, k) for n, k in ((60, 5), (1000, 5), (1250, 4), (2000, 3), (2500, 2), (100_000, 2))),
        # the final training is one more
        *((5, seconds, 200, k) for seconds, k in ((0.0, 5), (50.0, 5), (51.0, 4), (75.0, 3), (100.0, 2), (101.0, 1), (1e4, 1))),
        *((5, seconds, 2000, k) for seconds, k in ((75.0, 3), (76.0, 2), (101.0, 1))),
        (3, 75.0, 30, 3),
        (2, 1.0, 10**6, 2),
    ],
)
def test_folds_that_are_trained(folds, seconds, examples, trained):
    assert folds_to_train(folds, seconds, examples) == trained


@pytest.mark.parametrize(("judged", "why"), [(999, "would take too long"), (1000, "as many as the figures need")])
def test_why_not_all_folds_are_trained(judged, why):
    assert why in folds_said(3, 5, judged) and folds_said(3, 5, judged).startswith("3 of 5 folds held out")


@pytest.mark.parametrize(
    ("text", "trains"),
    [("head", "head"), ("norm", "norms, head"), ("top", "last 1 block, head"), ("top=3", "last 3 blocks, head"), ("full", "all")],
)
def test_rungs_by_name(text, trains):
    assert rung_of(text).trains == trains
    assert rung_of(f"  {text} ").name == text


def test_a_selection_is_a_rung():
    assert rung_of("layer4, head").trains == "layer4, head" and not rung_of("layer4, head").whole
