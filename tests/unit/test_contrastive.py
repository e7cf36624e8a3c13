"""Contrastive fine-tuning: batches, loss, groups of lengths, and an encoder that learns what its features did not tell."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import RunError
from regraft.features.material import Material, of_rows
from regraft.strategy.contrastive import BATCH, STEPS, Contrast, contrast_for
from regraft.training import contrastive
from regraft.training.contrastive import Encoder, Task, balanced_batches, contrastive_loss, in_two, reader, tune_encoder
from regraft.training.losses import SOFTMAX


@pytest.mark.parametrize(
    ("examples", "length", "steps", "batch"),
    [(48, 16, 20, 32), (10, 500, 20, 8), (5, 16, 20, 5), (385, 16, 61, 32), (1000, 64, 157, 32), (2000, 256, 200, 16)],
)
def test_settings_from_the_data(examples, length, steps, batch):
    found = contrast_for(examples, length)
    assert (found.steps, found.batch) == (steps, batch)
    assert (found.rate, contrast_for(examples, length, 110_000_000).rate) == (1e-4, 5e-5)


def test_work_is_bounded_whatever_the_size():
    found = contrast_for(10_000_000, 8)
    assert found.steps * found.batch <= STEPS[1] * BATCH[1]


def test_the_loss_is_that_of_the_formula():
    generator = torch.Generator().manual_seed(3)
    rows, labels = torch.randn(6, 4, generator=generator), torch.tensor([0, 0, 1, 1, 1, 2])
    unit = (rows / rows.norm(dim=1, keepdim=True)).double().numpy()
    each = []
    for i in range(6):
        partners = [j for j in range(6) if j != i and labels[j] == labels[i]]
        total = sum(math.exp(unit[i] @ unit[k] / 0.1) for k in range(6) if k != i)
        if partners:
            each.append(-sum(math.log(math.exp(unit[i] @ unit[j] / 0.1) / total) for j in partners) / len(partners))
    assert float(contrastive_loss(rows, labels, 0.1)) == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_without_any_pair_nothing_moves():
    rows = torch.randn(3, 4, requires_grad=True)
    loss = contrastive_loss(rows, torch.arange(3), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0 and rows.grad is not None and not rows.grad.any()


def test_batches_are_balanced_unique_and_go_through_every_example():
    labels = np.repeat([0, 1, 2], [40, 10, 3])
    batches = list(islice(balanced_batches(labels, 12, seed=1), 60))
    counts = Counter(np.concatenate(batches).tolist())
    assert set(counts) == set(range(53))
    for batch in batches:
        assert len(set(batch.tolist())) == len(batch) <= 12
    by_class = Counter(labels[np.concatenate(batches)].tolist())
    assert by_class[0] == pytest.approx(by_class[1], rel=0.15)
    own = [counts[i] for i in range(40)]
    assert max(own) - min(own) <= 1
    again = list(islice(balanced_batches(labels, 12, seed=1), 60))
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_with_many_classes_a_batch_holds_pairs_of_some():
    labels = np.repeat(np.arange(50), 4)
    batches = list(islice(balanced_batches(labels, 16, seed=0), 30))
    assert all(min(Counter(labels[b].tolist()).values()) >= 2 for b in batches)
    assert set(labels[np.concatenate(batches)].tolist()) == set(range(50))


def test_texts_of_two_lengths_go_in_two_groups_where_it_pays():
    short, long = in_two(np.array([8, 120, 8, 8, 112, 8]))
    assert sorted(short.tolist()) == [0, 2, 3, 5] and sorted(long.tolist()) == [1, 4]
    (all_of_them,) = in_two(np.array([16, 12, 16, 16]))
    assert sorted(all_of_them.tolist()) == [0, 1, 2, 3]


def test_windows_of_an_example_are_averaged_by_their_shares():
    material = Material(
        [{"x": np.array([[1.0], [3.0], [10.0]], np.float32)}],
        np.array([0, 0, 1]),
        np.array([0.25, 0.75, 1.0], np.float32),
        np.zeros(3, np.int64),
        np.arange(3),
    )
    run = lambda windows: torch.from_numpy(np.stack([w["x"] for w in windows]))
    assert reader(material, run, None)(np.array([1, 0])).tolist() == [[10.0], [2.5]]


# ---------------------------------------------------------------- the whole training


def hidden_classes(n: int = 60, d: int = 12):
    """Rows whose class is the sign of one small direction among large ones: far from what the cosine sees."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 2
    rows = random.normal(size=(n, d)).astype(np.float32) * 2
    rows[:, 0] = (labels * 2 - 1) * 0.7
    return rows, labels


def an_encoder(rows: np.ndarray) -> Encoder:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(rows.shape[1], 8), nn.Dropout(0.1))
    material = of_rows(rows)
    run = lambda windows: module(torch.from_numpy(np.stack([w["input"] for w in windows])))
    return Encoder(module, reader(material, run, None), module.train)


def train_it(settings: Contrast, folds_for=lambda folds, seconds: folds):
    rows, labels = hidden_classes()
    folds = np.arange(60) // 2 % 5
    folds[:2] = -1
    task = Task(np.arange(60), labels, np.ones(60), folds, 2, (0.01, 0.1, 1.0), 0.1, SOFTMAX)
    encoder, said, heard = an_encoder(rows), {}, []
    found = tune_encoder(
        encoder,
        task,
        settings,
        seed=0,
        folds_for=folds_for,
        decided=lambda count: said.update(folds=count),
        chose=lambda strength, losses: said.update(strength=strength, losses=losses),
        watch=lambda tick: None,
        judged=lambda fold, folds, outputs: heard.append((fold, folds, np.isfinite(outputs).all(1))),
    )
    # each fold is heard of once it is judged, with those before it
    assert [fold for fold, _, _ in heard] == list(range(found.folds)) and heard[0][1] == 5
    assert all((there == (folds >= 0) & (folds <= fold)).all() for fold, _, there in heard)
    return encoder, found, said, labels


SETTINGS = Contrast(steps=60, batch=60, rate=0.05)


def test_classes_come_together_and_the_estimate_is_of_unseen_examples():
    encoder, found, said, labels = train_it(SETTINGS)
    held = found.held_out
    judged = np.isfinite(held).all(1)
    assert judged.sum() == 58 and not judged[:2].any()
    assert (held[judged].argmax(1) == labels[judged]).mean() > 0.9
    assert np.allclose(np.exp(held[judged]).sum(1), 1, atol=1e-4)
    assert found.folds == said["folds"] == 5 and found.strength == said["strength"] and len(found.losses) == 3
    weight, bias = found.layer
    right = (encoder.features(np.arange(60)) @ weight.T + bias).argmax(1) == labels
    assert right.mean() > 0.95


def test_the_same_seed_gives_the_same_bits():
    (a, x, _, _), (b, y, _, _) = (train_it(Contrast(steps=8, batch=20, rate=0.01)) for _ in range(2))
    assert all(torch.equal(v, b.state()[k]) for k, v in a.state().items())
    assert np.array_equal(x.held_out, y.held_out, equal_nan=True) and np.array_equal(x.layer[0], y.layer[0])


def test_one_fold_is_judged_with_the_usual_strength():
    _, found, said, _ = train_it(Contrast(steps=4, batch=60), lambda folds, seconds: 1)
    assert np.isfinite(found.held_out).all(1).sum() == 10
    assert found.strength == 0.1 and said["losses"] == ()


def test_a_loss_that_is_no_number_begins_again_slower_and_is_said(monkeypatch):
    calls = []
    plain = contrastive.contrastive_loss

    def broken(rows, labels, temperature):
        calls.append(len(calls))
        return plain(rows, labels, temperature) * (float("nan") if len(calls) == 2 else 1)

    monkeypatch.setattr(contrastive, "contrastive_loss", broken)
    rows, labels = hidden_classes()
    encoder = an_encoder(rows)
    assert contrastive.contrast(encoder, labels, np.arange(60), Contrast(3, 60), 0, lambda step, loss, lr: None) == 1
    assert all(torch.isfinite(v).all() for v in encoder.state().values())
    before = encoder.state()
    monkeypatch.setattr(contrastive, "contrastive_loss", lambda rows, labels, temperature: rows.sum() * float("nan"))
    with pytest.raises(RunError, match="no finite number"):
        contrastive.contrast(encoder, labels, np.arange(60), Contrast(3, 60), 0, lambda step, loss, lr: None)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state().items())
