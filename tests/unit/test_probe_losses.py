"""Several labels and numbers in the head rung: against scikit-learn, with weights, and without a leak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from regraft.training import design, solve
from regraft.training import probe as room
from regraft.training.losses import LOSSES
from regraft.training.probe import Probe, fit_probe

sklearn_linear = pytest.importorskip("sklearn.linear_model")

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
SHAPES = {"n > d": (150, 8), "n < d": (45, 80)}
LABELS = 4


def deviations(features: np.ndarray) -> np.ndarray:
    """What each column is divided by: its deviation, but at least a tenth of the root mean square of all; nothing if constant."""
    rows = features.astype(np.float64)
    found = rows.std(0)
    constant = found <= 1e-6 * np.abs(rows.mean(0))
    return np.where(constant, np.inf, np.maximum(found, 0.1 * np.sqrt((found**2).mean())))


def standardised(features: np.ndarray) -> np.ndarray:
    return (features - features.astype(np.float64).mean(0)) / deviations(features)


def problem(shape: tuple[int, int], kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of different scales, labels (n, 4) or numbers (n,) that they explain in part, and three folds."""
    n, d = shape
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(n, d)) * 10 ** rng.uniform(-1, 1, d) + rng.normal(size=d) * 5).astype(np.float32)
    scores = standardised(features) @ rng.normal(size=(d, LABELS)) / np.sqrt(d) * 2
    folds = rng.permutation(n) % 3
    if kind == "logistic":
        return features, scores + rng.logistic(size=scores.shape) > [-1, 0, 1, 2], folds
    return features, 40 * scores[:, 0] + rng.normal(size=n) * 10 + 300, folds


def minus_error(truth: np.ndarray, said: np.ndarray) -> float:
    return -float(((truth - said) ** 2).mean())


def minus_errors(truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    return -((truth - said) ** 2)


def agreement(truth: np.ndarray, said: np.ndarray) -> float:
    return float((truth == said).mean())


def agreements(truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    return (truth == said).mean(1)


def fitted(
    kind: str, features: np.ndarray, y: np.ndarray, folds: np.ndarray, strengths: tuple[float, ...] = STRENGTHS, **more: Any
) -> Probe:
    score, gains, outputs = (agreement, agreements, y.shape[1]) if kind == "logistic" else (minus_error, minus_errors, 1)
    return fit_probe(features, y, folds, outputs, strengths, score=score, gains=gains, loss=LOSSES[kind], **more)


def by_hand(kind: str, rows: np.ndarray, y: np.ndarray, strength: float, weights: np.ndarray | None = None) -> Any:
    """A function of standardised rows: what scikit-learn's model of the same loss and penalty says, (n, outputs)."""
    given = np.ones(len(y)) if weights is None else weights
    if kind == "squared":
        ridge = sklearn_linear.Ridge(alpha=strength * given.sum(), solver="svd").fit(rows, y, sample_weight=given)
        return lambda new: ridge.predict(new)[:, None]
    models = []
    for k in range(y.shape[1]):
        model = sklearn_linear.LogisticRegression(C=1 / (strength * given.sum()), tol=1e-10, max_iter=50_000)
        models.append(model.fit(rows, y[:, k], sample_weight=given))
    return lambda new: np.stack([m.decision_function(new) for m in models], 1)


def said_by(found: Probe, features: np.ndarray) -> np.ndarray:
    return features.astype(np.float64) @ found.weight.T.astype(np.float64) + found.bias.astype(np.float64)


def close(kind: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """Probabilities to the tolerance; numbers to a hundredth of it times their spread of 100."""
    if kind == "logistic":
        ours, theirs = (1 / (1 + np.exp(-a)) for a in (ours.astype(np.float64), theirs))
    else:
        tolerance *= 10
    np.testing.assert_allclose(ours, theirs, atol=tolerance)


def example_weights(n: int) -> np.ndarray:
    """Unequal weights, some of them nothing."""
    rng = np.random.default_rng(5)
    weights = rng.exponential(size=n) * (rng.uniform(size=n) > 0.2)
    return weights / weights.mean()


KINDS = pytest.mark.parametrize("kind", ["logistic", "squared"])
BOTH_SHAPES = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


# ---------------------------------------------------------------- against scikit-learn


@KINDS
@BOTH_SHAPES
@pytest.mark.parametrize("strength", [1e-2, 0.3])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_the_model_is_scikit_learns(kind, shape, strength, weighted):
    features, y, folds = problem(shape, kind)
    weights = example_weights(len(y)) if weighted else None
    found = fitted(kind, features, y, folds, (strength,), weights=weights)
    assert found.weight.shape == (LABELS if kind == "logistic" else 1, shape[1]) and found.bias.shape == found.weight.shape[:1]
    theirs = by_hand(kind, standardised(features), y, strength, weights)
    close(kind, said_by(found, features), theirs(standardised(features)), 3e-3)
    fresh = problem(shape, kind, seed=9)[0]
    there = (fresh - features.astype(np.float64).mean(0)) / deviations(features)
    close(kind, said_by(found, fresh), theirs(there), 3e-3)


@KINDS
@BOTH_SHAPES
def test_the_scale_of_all_weights_does_not_matter_and_whole_weights_are_copies(kind, shape):
    features, y, folds = problem(shape, kind)
    weights = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    one = fitted(kind, features, y, folds, (0.05,), weights=weights)
    ten = fitted(kind, features, y, folds, (0.05,), weights=10 * weights)
    close(kind, said_by(ten, features), said_by(one, features), 1e-3)
    copies = np.repeat(np.arange(len(y)), weights.astype(int))
    theirs = by_hand(kind, standardised(features)[copies], y[copies], 0.05)
    close(kind, said_by(one, features), theirs(standardised(features)), 1e-3)


@KINDS
@BOTH_SHAPES
def test_held_out_rows_come_from_models_without_their_fold(kind, shape):
    """Each row is what a model says that was fitted anew to the other folds, at the strength chosen for this fold."""
    features, y, folds = problem(shape, kind)
    weights = example_weights(len(y))
    for given in (None, weights):
        found = fitted(kind, features, y, folds, weights=given)
        rows = standardised(features)
        for fold, strength in enumerate(found.fold_strengths):
            inside = folds != fold
            theirs = by_hand(kind, rows[inside], y[inside], strength, None if given is None else given[inside])
            close(kind, found.out_of_fold[~inside], theirs(rows[~inside]), 5e-3)


@BOTH_SHAPES
def test_the_strength_of_a_fold_is_chosen_by_plain_cross_validation_without_it(shape):
    """Written out for ridge, where models are exact: the inner choice, fold by fold."""
    features, y, folds = problem(shape, "squared")
    found = fitted("squared", features, y, folds)
    rows, z = standardised(features), (y - y.mean()) / y.std()
    for fold, chosen in enumerate(found.fold_strengths):
        losses = []
        for strength in STRENGTHS:
            errors = []
            for other in set(range(3)) - {fold}:
                inside = (folds != fold) & (folds != other)
                errors.append((by_hand("squared", rows[inside], z[inside], strength)(rows[folds == other])[:, 0] - z[folds == other]) ** 2)
            losses.append(np.concatenate(errors))
        best = int(np.argmin([loss.mean() for loss in losses]))
        assert chosen == STRENGTHS[best], "with squared errors as score and as loss the choice is the lowest"
    means = [np.mean(0) for _ in STRENGTHS]
    for k, strength in enumerate(found.strengths):
        errors = np.empty(len(y))
        for fold in range(3):
            inside = folds != fold
            errors[~inside] = by_hand("squared", rows[inside], z[inside], strength)(rows[~inside])[:, 0] - z[~inside]
        means[k] = (errors**2).mean()
        assert found.losses[k] == pytest.approx(means[k], rel=1e-3)
        assert found.scores[k] == pytest.approx(-means[k], rel=1e-3)


@KINDS
@BOTH_SHAPES
def test_the_labels_of_a_fold_change_nothing_that_is_said_of_it(kind, shape):
    features, y, folds = problem(shape, kind)
    before = fitted(kind, features, y, folds)
    for fold in range(3):
        inside = folds == fold
        other = y.copy()
        # the same labels in another order: standardised numbers stay as they are
        other[inside] = y[inside][::-1]
        after = fitted(kind, features, other, folds)
        assert after.fold_strengths[fold] == before.fold_strengths[fold]
        close(kind, after.out_of_fold[inside], before.out_of_fold[inside], 2e-3)


# ---------------------------------------------------------------- what must not matter


@KINDS
@BOTH_SHAPES
def test_bounds_on_memory_change_nothing(monkeypatch, kind, shape):
    features, y, folds = problem(shape, kind)
    weights = example_weights(len(y))
    free = fitted(kind, features, y, folds, weights=weights)
    bounds = [(module, name) for module in (room, design, solve) for name in dir(module) if name.endswith("_BYTES")]
    assert {"BLOCK_BYTES", "PROBLEM_BYTES", "DESIGN_BYTES"} <= {name for _, name in bounds}
    for module, name in bounds:
        monkeypatch.setattr(module, name, 1)
    tight = fitted(kind, features, y, folds, weights=weights)
    assert (tight.strength, tight.fold_strengths) == (free.strength, free.fold_strengths)
    close(kind, tight.out_of_fold, free.out_of_fold, 5e-3)
    close(kind, said_by(tight, features), said_by(free, features), 1e-3)


@KINDS
@BOTH_SHAPES
def test_threads_do_not_decide(kind, shape):
    features, y, folds = problem(shape, kind)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(fitted(kind, features, y, folds))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, two = found
    assert (one.strength, one.fold_strengths, one.strengths) == (two.strength, two.fold_strengths, two.strengths)
    if kind == "logistic":
        assert ((one.out_of_fold > 0) == (two.out_of_fold > 0)).all()
    close(kind, two.out_of_fold, one.out_of_fold, 1e-3)
    close(kind, said_by(two, features), said_by(one, features), 1e-3)


@KINDS
def test_the_same_input_gives_the_same_bits(kind):
    features, y, folds = problem(SHAPES["n > d"], kind)
    one, two = (fitted(kind, features, y, folds) for _ in range(2))
    for name in ("weight", "bias", "out_of_fold"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


@KINDS
@BOTH_SHAPES
def test_constant_columns_get_no_weight(kind, shape):
    features, y, folds = problem(shape, kind)
    n, d = features.shape
    constants = np.stack([np.zeros(n), np.full(n, 7.5), np.full(n, -1e6)], 1).astype(np.float32)
    wide = np.concatenate([features, constants], 1)
    found = fitted(kind, wide, y, folds, (1e-2,))
    assert np.abs(found.weight[:, d:]).max() == 0
    close(kind, said_by(found, wide), by_hand(kind, standardised(wide), y, 1e-2)(standardised(wide)), 1e-3)


@KINDS
def test_features_that_say_nothing_give_the_rates_or_the_mean(kind):
    _, y, folds = problem((60, 5), kind)
    rows = np.full((60, 5), 3.0, np.float32)
    found = fitted(kind, rows, y, folds)
    expected = y.mean(0, keepdims=True) if kind == "logistic" else [[y.mean()]]
    said = said_by(found, rows[:1])
    np.testing.assert_allclose(1 / (1 + np.exp(-said)) if kind == "logistic" else said, expected, rtol=1e-3)


@pytest.mark.parametrize("offset", [0, 1e6, -1e6])
def test_whole_numbers_far_from_zero_keep_what_float32_can_hold(offset):
    features, y, folds = problem(SHAPES["n > d"], "squared")
    whole = np.round(y)
    here, there = fitted("squared", features, whole, folds), fitted("squared", features, whole + offset, folds)
    assert (there.strength, there.fold_strengths) == (here.strength, here.fold_strengths)
    np.testing.assert_allclose(there.out_of_fold[:, 0].astype(np.float64) - offset, here.out_of_fold[:, 0], atol=0.1)
    np.testing.assert_allclose(said_by(there, features) - offset, said_by(here, features), atol=0.1)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_of_a_number_does_not_matter(unit):
    features, y, folds = problem(SHAPES["n < d"], "squared")
    here, there = fitted("squared", features, y, folds), fitted("squared", features, y * unit, folds)
    assert (there.strength, there.fold_strengths) == (here.strength, here.fold_strengths)
    np.testing.assert_allclose(there.out_of_fold.astype(np.float64) / unit, here.out_of_fold, rtol=1e-4)


# ---------------------------------------------------------------- at the edges


@KINDS
def test_rows_that_are_never_held_out_are_trained_on_and_not_judged(kind):
    features, y, folds = problem(SHAPES["n > d"], kind)
    folds = folds.copy()
    folds[:20] = -1
    found = fitted(kind, features, y, folds, (1e-2,))
    assert np.isnan(found.out_of_fold[:20]).all() and np.isfinite(found.out_of_fold[20:]).all()
    close(kind, said_by(found, features), by_hand(kind, standardised(features), y, 1e-2)(standardised(features)), 1e-3)
    rows, inside = standardised(features), folds != 1
    close(kind, found.out_of_fold[~inside], by_hand(kind, rows[inside], y[inside], 1e-2)(rows[~inside]), 5e-3)


@pytest.mark.parametrize("kind", ["softmax", "logistic", "squared"])
@pytest.mark.parametrize("heavy", [1, 2], ids=["one fold", "two folds"])
def test_where_only_few_folds_have_weight_everything_stays_finite(kind, heavy):
    """Models without those folds have nothing to learn from; they used to be NaN, and the shipped one with them."""
    features, y, folds = problem((90, 6), "logistic" if kind == "softmax" else kind)
    weights = (folds < heavy).astype(float)
    weights /= weights.mean()
    if kind == "softmax":
        labels = y[:, 0].astype(int)
        found = fit_probe(features, labels, folds, 2, STRENGTHS, score=agreement, weights=weights)
    else:
        found = fitted(kind, features, y, folds, weights=weights)
        close(
            kind, said_by(found, features), by_hand(kind, standardised(features), y, found.strength, weights)(standardised(features)), 1e-3
        )
    for array in (found.weight, found.bias, found.out_of_fold, np.array(found.losses)):
        assert np.isfinite(array).all()


def test_labels_that_all_or_no_training_rows_have_stay_finite():
    features, y, folds = problem(SHAPES["n < d"], "logistic")
    y = y.copy()
    y[:, 0], y[:, 1], y[:, 2] = True, folds == 0, np.arange(len(y)) == 0
    found = fitted("logistic", features, y, folds)
    for array in (found.weight, found.bias, found.out_of_fold, np.array(found.losses)):
        assert np.isfinite(array).all()
    assert (found.out_of_fold[:, 0] > 2).all(), "a label that all have"
    assert (found.out_of_fold[folds == 0, 1] < 0).all(), "one that the other folds never saw"


def test_a_number_that_is_noise_is_not_predicted():
    gained = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        features, y = rng.normal(size=(60, 120)).astype(np.float32), rng.normal(size=60)
        found = fitted("squared", features, y, rng.permutation(60) % 4, (1e-3, 1e-1, 10.0))
        gained.append(1 - ((y - found.out_of_fold[:, 0]) ** 2).mean() / y.var())
    assert np.mean(gained) < 0.05, "any leak would show as a high R²"


@KINDS
def test_progress_never_goes_back_or_beyond_its_total(kind):
    features, y, folds = problem((60, 5), kind)
    for nested in (True, False):
        seen: list[tuple[int, int]] = []
        fitted(kind, features, y, folds, nested=nested, watch=lambda done, total, seen=seen: seen.append((done, total)))
        assert seen and seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] and len({total for _, total in seen}) == 1


@KINDS
def test_what_was_given_is_not_changed(kind):
    features, y, folds = problem((60, 5), kind)
    before = features.tobytes(), y.tobytes(), folds.tobytes()
    fitted(kind, features, y, folds)
    assert (features.tobytes(), y.tobytes(), folds.tobytes()) == before
