"""Near-duplicates and suspicious labels on made-up features: what is planted is found, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.evaluation.trust.learning import _orders
from regraft.evaluation.trust.near_duplicates import DIRECT, close_pairs, near_duplicates
from regraft.evaluation.trust.similarity import neighbour_outputs
from regraft.evaluation.trust.suspicion import expected_errors, suspicious_labels, suspicious_marks, suspicious_numbers
from regraft.modality import MODALITIES


def rows_with_copies(n: int, d: int, copies: int, seed: int = 0) -> tuple[np.ndarray, list[bytes]]:
    """n rows, and after them a slightly moved copy of each of the first ones."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(n, d)).astype(np.float32)
    near = rows[:copies] + 0.1 * random.normal(size=(copies, d)).astype(np.float32)
    return np.concatenate([rows, near]), [b"%d" % k for k in range(n + copies)]


@pytest.mark.parametrize(("n", "d"), [(300, 32), (DIRECT + 300, 200)])
def test_copies_are_paired_and_nothing_else(n: int, d: int) -> None:
    rows, names = rows_with_copies(n, d, 12)
    found = near_duplicates(rows, names, lambda one, other: 1.0)
    assert found.groups == tuple((k, n + k) for k in range(12))


def test_what_is_not_alike_when_decoded_is_no_near_duplicate() -> None:
    rows, names = rows_with_copies(300, 32, 12)
    found = near_duplicates(rows, names, lambda one, other: None if one == 3 else 0.5 if one < 6 else 0.97)
    assert [g[0] for g in found.groups] == [6, 7, 8, 9, 10, 11]
    assert found.checked == found.candidates == 12


def test_exact_duplicates_count_once() -> None:
    rows, names = rows_with_copies(300, 32, 2)
    rows, names = np.concatenate([rows, rows[:5]]), [*names, *names[:5]]
    assert near_duplicates(rows, names, lambda one, other: 1.0).groups == ((0, 300), (1, 301))


def test_chains_make_one_group_and_the_order_does_not_matter() -> None:
    rows, names = rows_with_copies(300, 32, 3)
    rows = np.concatenate([rows, rows[300:301] + 0.01])
    names = [*names, b"more"]
    order = np.random.default_rng(1).permutation(len(rows))
    plain = near_duplicates(rows, names, lambda one, other: 1.0).groups
    turned = near_duplicates(rows[order], [names[k] for k in order], lambda one, other: 1.0).groups
    assert plain[0] == (0, 300, 303)
    assert {frozenset(int(order[k]) for k in g) for g in turned} == {frozenset(g) for g in plain}


def test_components_lose_no_pair() -> None:
    rows, _ = rows_with_copies(DIRECT + 100, 160, 30)
    features = torch.from_numpy(rows)
    pairs, distances = close_pairs(features, torch.arange(len(rows)))
    unit = features - features[torch.linspace(0, len(rows) - 1, DIRECT).round().long()].double().mean(0).float()
    unit = unit / unit.norm(dim=1, keepdim=True)
    apart = torch.cdist(unit, unit).fill_diagonal_(9)
    close = int((apart <= float(distances.max()) * _own(apart) + 1e-6).sum()) // 2
    assert len(pairs) == close == 30


def _own(apart: torch.Tensor) -> float:
    chosen = torch.linspace(0, len(apart) - 1, 500).round().long()
    return float(apart[chosen].topk(5, 1, largest=False).values[:, -1].median())


def test_data_that_is_all_the_same_and_tiny_data() -> None:
    assert near_duplicates(np.ones((50, 8), np.float32), [b"%d" % k for k in range(50)], lambda a, b: 1.0).groups == ()
    assert near_duplicates(np.ones((3, 8), np.float32), [b"a", b"b", b"c"], lambda a, b: 1.0).groups == ()


def probabilities(n: int, classes: int, sureness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from their own probabilities: nothing is wrong with them, however often they are not the likeliest."""
    random = np.random.default_rng(seed)
    scores = sureness * random.normal(size=(n, classes))
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return np.array([random.choice(classes, p=row) for row in p]), p


@pytest.mark.parametrize("sureness", [4.0, 8.0])
def test_clean_labels_are_not_flooded_and_changed_ones_are_found(sureness: float) -> None:
    y, p = probabilities(3000, 5, sureness)
    clean = suspicious_labels(y, p)
    assert len(clean.named) <= 0.01 * len(y)
    changed = y.copy()
    flipped = np.random.default_rng(1).permutation(len(y))[:150]
    changed[flipped] = (y[flipped] + 1) % 5
    found = suspicious_labels(changed, p)
    assert 60 <= found.expected <= 300
    assert np.isin(found.named, flipped).mean() > 0.5
    assert (np.diff(found.scores[found.named]) >= 0).all()


def test_a_model_that_is_sure_of_nothing_names_nothing() -> None:
    y, p = probabilities(3000, 5, 1.0)
    assert suspicious_labels(y, p).expected == 0 and len(suspicious_labels(y, p).named) == 0


def test_what_is_never_held_out_is_not_judged() -> None:
    y, p = probabilities(500, 3, 4.0)
    p[:10] = np.nan
    found = suspicious_labels(y, p)
    assert found.of == 490 and np.isnan(found.scores[:10]).all() and not np.isin(found.named, np.arange(10)).any()
    assert suspicious_labels(y, np.full_like(p, np.nan)).expected == 0


def test_marks_that_are_missing_are_found() -> None:
    random = np.random.default_rng(0)
    odds = 4 * random.normal(size=(2000, 2))
    p = 1 / (1 + np.exp(-odds))
    given = random.random(p.shape) < p
    changed = given.copy()
    gone = np.flatnonzero(given[:, 0])[:100]
    changed[gone, 0] = False
    found = suspicious_marks(changed, p)
    assert np.isin(found[0].named, gone).mean() > 0.5 and len(found[0].named) > 20
    assert len(found[1].named) < 20


def test_numbers_far_out_are_named() -> None:
    random = np.random.default_rng(0)
    predicted = random.normal(size=1000)
    given = predicted + 0.1 * random.normal(size=1000)
    assert len(suspicious_numbers(given, predicted).named) == 0
    given[[3, 7]] += 5, -9
    assert suspicious_numbers(given, predicted).named.tolist() == [7, 3]


def test_expected_errors_of_nothing() -> None:
    assert expected_errors(np.zeros(0), np.zeros(0, bool)) == (0.0, 0.0)
    assert expected_errors(np.ones(1), np.zeros(1, bool)) == (0.0, 0.0)


def test_neighbours_never_stand_in_the_same_fold() -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32), 2, 0)
    values = np.eye(8)
    folds = np.array([0, 0, 1, 1, 2, 2, 3, -1])
    found = neighbour_outputs(rows, values, folds)
    assert np.isnan(found[7]).all()
    # its twin is in its fold for all but the last pair
    assert found[0, 1] == 0 and found[6, 7] > 0.9


def test_beginnings_have_their_part_of_every_class() -> None:
    strata = np.array([0] * 100 + [1] * 20)
    for order in _orders(strata, 2):
        assert sorted(order) == list(range(120))
        assert 2 <= (strata[order[:24]] == 1).sum() <= 6


# ---------------------------------------------------------------- likeness of what was decoded


def photo(seed: int, side: int = 120) -> Image.Image:
    """Blobs of colour, different for every seed."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def recoded(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


def test_pictures() -> None:
    like = MODALITIES["image"].likeness
    one = photo(1)
    for changed in (
        recoded(one),
        one.resize((70, 70)),
        one.crop((6, 6, 114, 114)),
        one.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        one.point(lambda v: int(v * 0.8)),
    ):
        assert like(one, changed) >= 0.95
    assert max(like(one, photo(seed)) for seed in range(2, 12)) < 0.9
    plain = [Image.new("RGB", (50, 50), colour) for colour in ("white", "white", "black")]
    assert like(plain[0], plain[1]) == 1 and like(plain[0], plain[2]) == 0 and like(plain[0], one) == 0


@pytest.mark.parametrize(
    ("text", "other", "alike"),
    [
        ("Which card is it?", "which CARD is it", 1.0),
        ("un café à Paris", "Un cafe a paris!", 1.0),
        ("The top-up failed", "the topup failed", 1.0),
        ("How do I top up my card today", "How do I top up my crad today", 0.9),
        ("How do I top up my card today", "How do I top up my new card today", 0.9),
        ("How do I top up my card", "How do I block my card", 0.0),
        ("pay 1200 now", "pay 1300 now", 0.0),
        ("it is a cat", "it is a cow", 0.0),
        ("?!", "?!", 1.0),
        ("?!", "...", 0.0),
        ("", "word", 0.0),
    ],
)
def test_texts(text: str, other: str, alike: float) -> None:
    like = MODALITIES["text"].likeness
    assert like(text, other) == like(other, text) == alike


def test_sounds() -> None:
    like = MODALITIES["audio"].likeness
    random = np.random.default_rng(0)
    one = np.cumsum(random.normal(size=16_000)).astype(np.float32) % 3 - 1.5
    for changed in (0.3 * one, one + 0.1 * one.std() * random.normal(size=len(one)), one[400:-300], np.concatenate([np.zeros(2000), one])):
        assert like(one, changed.astype(np.float32)) >= 0.95
    other = np.cumsum(random.normal(size=16_000)).astype(np.float32) % 3 - 1.5
    assert like(one, other) < 0.5
    silence = np.zeros(100, np.float32)
    assert like(silence, silence) == 1 and like(silence, one) == 0 and like(np.zeros(0, np.float32), silence) == 1
