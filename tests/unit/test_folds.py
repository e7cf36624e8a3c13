"""Folds: spread evenly, decided by content and seed alone; and class weights."""

from __future__ import annotations

import numpy as np
import pytest

from regraft.training.head import assign_folds, class_weights


def contents(count: int) -> list[bytes]:
    return [f"content {i}".encode() for i in range(count)]


def test_every_class_is_spread_evenly():
    labels = np.repeat(np.arange(4), [5, 13, 2, 31])
    folds = assign_folds(labels, contents(len(labels)), 5, 0)
    for label in range(4):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(folds, minlength=5)
    assert sizes.max() - sizes.min() <= 1


def test_equal_content_shares_a_fold():
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    identities = [b"a", b"b", b"a", b"c", b"d", b"c", b"e", b"a"]
    folds = assign_folds(labels, identities, 3, 0)
    by_content: dict[bytes, set[int]] = {}
    for identity, fold in zip(identities, folds.tolist(), strict=True):
        by_content.setdefault(identity, set()).add(fold)
    assert all(len(found) == 1 for found in by_content.values())
    assert len(by_content[b"a"] | by_content[b"b"] | by_content[b"e"]) == 3


def test_the_order_of_the_examples_does_not_matter():
    rng = np.random.default_rng(0)
    labels, identities = rng.integers(3, size=40), contents(40)
    folds = assign_folds(labels, identities, 5, 7)
    for _ in range(5):
        order = rng.permutation(40)
        assert (assign_folds(labels[order], [identities[i] for i in order], 5, 7) == folds[order]).all()


def test_the_seed_decides():
    labels, identities = np.arange(60) % 3, contents(60)
    same = [assign_folds(labels, identities, 5, 3) for _ in range(2)]
    other = assign_folds(labels, identities, 5, 4)
    assert (same[0] == same[1]).all()
    assert (same[0] != other).any()


def test_the_order_in_the_folder_is_not_the_order_in_the_folds():
    """A class whose files are sorted by day must not have its last day as one fold: content decides, shuffled."""
    labels, identities = np.zeros(100, int), contents(100)
    folds = assign_folds(labels, identities, 5, 0)
    assert not (folds == np.arange(100) // 20).all() and not (folds == np.arange(100) % 5).all()


@pytest.mark.parametrize("copies", [1, 3])
def test_a_class_with_one_content_is_never_held_out(copies):
    labels = np.array([0] * 6 + [1] * copies)
    identities = [*contents(6), *[b"only"] * copies]
    folds = assign_folds(labels, identities, 3, 0)
    assert (folds[6:] == -1).all()
    assert (folds[:6] >= 0).all()


def test_two_contents_stand_in_two_folds():
    folds = assign_folds(np.array([0, 0, 1, 1, 1]), contents(5), 3, 0)
    assert folds[0] != folds[1] and len(set(folds[2:].tolist())) == 3


def test_fold_numbers_have_no_holes():
    for sizes in ([2, 2], [2, 3], [5, 2, 2], [4, 1, 2], [7, 7]):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        folds = assign_folds(labels, contents(len(labels)), 5, 0)
        used = sorted(set(folds[folds >= 0].tolist()))
        assert used == list(range(len(used)))


def test_class_weights_are_scikit_learns_balanced():
    utils = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.repeat(np.arange(4), [3, 10, 1, 30])
    weights = class_weights(labels, 4)
    np.testing.assert_allclose(weights, utils.compute_sample_weight("balanced", labels))
    assert weights.mean() == pytest.approx(1)
    assert np.bincount(labels, weights) == pytest.approx(np.full(4, len(labels) / 4))


def test_a_class_without_examples_takes_no_weight():
    weights = class_weights(np.array([0, 0, 2]), 3)
    assert np.isfinite(weights).all() and weights.mean() == pytest.approx(1)
