"""What holds of folds whatever the data."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.training.head import assign_folds

examples = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 25)), min_size=1, max_size=60)
"""(label, content): the same content may have several labels."""

distinct = st.lists(st.integers(0, 4), min_size=1, max_size=80)
"""Labels of examples whose contents are all different."""

folds_wanted = st.integers(2, 7)
seeds = st.integers(0, 2**32 - 1)


def split(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, list[bytes]]:
    return np.array([label for label, _ in pairs], np.int64), [content.to_bytes(16, "big") for _, content in pairs]


@settings(max_examples=80, deadline=None)
@given(examples, folds_wanted, seeds)
def test_equal_content_shares_a_fold_and_numbers_are_in_range(pairs, count, seed):
    labels, identities = split(pairs)
    folds = assign_folds(labels, identities, count, seed)
    assert folds.shape == labels.shape
    assert folds.min() >= -1 and folds.max() < count
    where: dict[bytes, int] = {}
    for identity, fold in zip(identities, folds.tolist(), strict=True):
        assert where.setdefault(identity, fold) == fold


@settings(max_examples=80, deadline=None)
@given(examples, folds_wanted, seeds, st.randoms(use_true_random=False))
def test_order_does_not_matter(pairs, count, seed, random):
    labels, identities = split(pairs)
    folds = assign_folds(labels, identities, count, seed)
    order = list(range(len(pairs)))
    random.shuffle(order)
    again = assign_folds(labels[order], [identities[i] for i in order], count, seed)
    assert (again == folds[order]).all()


@settings(max_examples=80, deadline=None)
@given(distinct, folds_wanted, seeds)
def test_classes_are_spread_evenly_and_singletons_are_kept_out(given_labels, count, seed):
    labels = np.array(given_labels, np.int64)
    folds = assign_folds(labels, [i.to_bytes(16, "big") for i in range(len(labels))], count, seed)
    for label in set(given_labels):
        mine = folds[labels == label]
        if len(mine) == 1:
            assert mine.tolist() == [-1]
        else:
            counts = np.bincount(mine, minlength=count)
            assert (mine >= 0).all() and counts.max() - counts.min() <= 1
    if (folds >= 0).any():
        sizes = np.bincount(folds[folds >= 0], minlength=count)
        assert sizes.max() - sizes.min() <= 1


@settings(max_examples=60, deadline=None)
@given(examples, seeds)
def test_a_class_with_two_contents_of_its_own_can_be_held_out(pairs, seed):
    """Where labels and contents agree, every class with two contents is trained on whichever fold is left out."""
    pairs = [(content % 5, content) for _, content in pairs]
    labels, identities = split(pairs)
    folds = assign_folds(labels, identities, 3, seed)
    for label in set(labels.tolist()):
        several = len({c for k, c in pairs if k == label}) > 1
        mine = set(folds[labels == label].tolist())
        assert (len(mine) > 1 and -1 not in mine) if several else mine == {-1}
