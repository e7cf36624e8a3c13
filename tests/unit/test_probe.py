"""The head rung against scikit-learn, and against what must never happen: a leak."""

from __future__ import annotations

import numpy as np
import pytest

from regraft.training import design, solve
from regraft.training import probe as room
from regraft.training.head import assign_folds, class_weights
from regraft.training.probe import fit_probe

sklearn_linear = pytest.importorskip("sklearn.linear_model")
sklearn_preprocessing = pytest.importorskip("sklearn.preprocessing")

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
SHAPES = {"n > d": (200, 10, 4), "n < d": (40, 100, 3), "binary": (150, 8, 2), "binary, n < d": (30, 60, 2), "many classes": (240, 20, 12)}


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    return float((labels == predicted).mean())


def problem(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of very different scales and offsets, noisy labels that they explain in part, and three folds."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) * 10 ** rng.uniform(-2, 2, d) + rng.normal(size=d) * 5
    scores = standardised(features) @ rng.normal(size=(d, classes)) / np.sqrt(d) * 2
    labels = (scores + rng.gumbel(size=scores.shape)).argmax(1)
    labels[:classes] = np.arange(classes)
    return features.astype(np.float32), labels, rng.permutation(n) % 3


def deviations(features: np.ndarray) -> np.ndarray:
    """What each column is divided by: its deviation, but at least a tenth of the root mean square of all."""
    found = features.astype(np.float64).std(0)
    return np.maximum(found, 0.1 * np.sqrt((found**2).mean()))


def standardised(features: np.ndarray) -> np.ndarray:
    return (features - features.astype(np.float64).mean(0)) / deviations(features)


def by_hand(rows: np.ndarray, labels: np.ndarray, strength: float, **options):
    """scikit-learn's model of the same loss.

    With two classes it has one row of weights w where softmax regression has -w/2 and w/2, whose squares add up to half as
    much: the same strength is twice the C.
    """
    twice = 2 if len(np.unique(labels)) == 2 else 1
    model = sklearn_linear.LogisticRegression(C=twice / (strength * len(labels)), tol=1e-10, max_iter=50_000, **options)
    return model.fit(rows, labels)


def chances(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def chances_of(found: room.Probe, features: np.ndarray) -> np.ndarray:
    return chances(features.astype(np.float64) @ found.weight.T.astype(np.float64) + found.bias)


def weights_on_standardised(found: room.Probe, features: np.ndarray) -> np.ndarray:
    scaled = found.weight * deviations(features)
    return scaled[1:] - scaled[:1] if len(scaled) == 2 else scaled


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("strength", [1e-2, 0.3])
def test_weights_and_probabilities_agree_with_scikit_learn(shape, strength):
    features, labels, folds = problem(*shape)
    found = fit_probe(features, labels, folds, shape[2], (strength,), score=accuracy)
    theirs = by_hand(standardised(features), labels, strength)
    assert found.weight.shape == (shape[2], shape[1]) and found.bias.shape == (shape[2],)
    np.testing.assert_allclose(weights_on_standardised(found, features), theirs.coef_, atol=1e-3 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(chances_of(found, features), theirs.predict_proba(standardised(features)), atol=1e-3)


@pytest.mark.parametrize("shape", [SHAPES["n > d"], SHAPES["n < d"], SHAPES["binary"]])
def test_probabilities_agree_with_scikit_learn_where_the_penalty_is_weak(shape):
    features, labels, folds = problem(*shape)
    found = fit_probe(features, labels, folds, shape[2], (1e-4,), score=accuracy)
    theirs = by_hand(standardised(features), labels, 1e-4)
    np.testing.assert_allclose(chances_of(found, features), theirs.predict_proba(standardised(features)), atol=2e-3)


@pytest.mark.parametrize("shape", [SHAPES["n > d"], SHAPES["binary"], SHAPES["n < d"]])
def test_balancing_is_scikit_learns_balanced(shape):
    features, labels, _ = problem(*shape)
    rare = labels == 0
    keep = ~rare | (np.cumsum(rare) <= 4)
    features, labels = features[keep], labels[keep]
    folds = np.random.default_rng(1).permutation(len(labels)) % 3
    balanced = fit_probe(features, labels, folds, shape[2], (0.05,), score=accuracy, weights=class_weights(labels, shape[2]))
    plain = fit_probe(features, labels, folds, shape[2], (0.05,), score=accuracy)
    theirs = by_hand(standardised(features), labels, 0.05, class_weight="balanced")
    np.testing.assert_allclose(weights_on_standardised(balanced, features), theirs.coef_, atol=1e-3 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(chances_of(balanced, features), theirs.predict_proba(standardised(features)), atol=1e-3)
    assert np.abs(chances_of(balanced, features) - chances_of(plain, features)).max() > 0.02


@pytest.mark.parametrize("shape", [(400, 12, 4), (60, 90, 3)], ids=["n > d", "n < d"])
def test_bounds_on_memory_change_nothing(monkeypatch, shape):
    features, labels, folds = problem(*shape)
    free = fit_probe(features, labels, folds, shape[2], STRENGTHS, score=accuracy)
    bounds = [(module, name) for module in (room, design, solve) for name in dir(module) if name.endswith("_BYTES")]
    assert {"BLOCK_BYTES", "PROBLEM_BYTES", "DESIGN_BYTES"} <= {name for _, name in bounds}
    for module, name in bounds:
        monkeypatch.setattr(module, name, 1)
    tight = fit_probe(features, labels, folds, shape[2], STRENGTHS, score=accuracy)
    assert tight.strength == free.strength
    assert tight.fold_strengths == free.fold_strengths
    np.testing.assert_allclose(tight.scores, free.scores, atol=2 / len(labels))
    np.testing.assert_allclose(tight.losses, free.losses, atol=2e-3)
    np.testing.assert_allclose(chances_of(tight, features), chances_of(free, features), atol=1e-3)
    np.testing.assert_allclose(np.exp(tight.out_of_fold), np.exp(free.out_of_fold), atol=5e-3)


def test_each_bound_alone_changes_nothing(monkeypatch):
    features, labels, folds = problem(300, 9, 3)
    free = fit_probe(features, labels, folds, 3, (1e-2, 1e-1), score=accuracy)
    for module, name in [(m, name) for m in (room, design, solve) for name in dir(m) if name.endswith("_BYTES")]:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 1)
            tight = fit_probe(features, labels, folds, 3, (1e-2, 1e-1), score=accuracy)
        np.testing.assert_allclose(chances_of(tight, features), chances_of(free, features), atol=1e-3, err_msg=name)
        np.testing.assert_allclose(np.exp(tight.out_of_fold), np.exp(free.out_of_fold), atol=5e-3, err_msg=name)


@pytest.mark.parametrize("shape", [(120, 10, 3), (40, 70, 3)], ids=["n > d", "n < d"])
def test_constant_and_duplicated_columns_are_harmless(shape):
    features, labels, folds = problem(*shape)
    n = len(features)
    constants = np.stack([np.zeros(n), np.full(n, 7.5), np.full(n, -1e6)], 1).astype(np.float32)
    wide = np.concatenate([features, constants, features[:, :4]], 1)
    found = fit_probe(wide, labels, folds, shape[2], (1e-2,), score=accuracy)
    theirs = by_hand(standardised(wide), labels, 1e-2)
    assert np.isfinite(found.weight).all() and np.isfinite(found.bias).all() and np.isfinite(found.out_of_fold).all()
    d = shape[1]
    assert np.abs(found.weight[:, d : d + 3]).max() == 0, "a constant column says nothing"
    np.testing.assert_allclose(found.weight[:, :4], found.weight[:, d + 3 :], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(chances_of(found, wide), theirs.predict_proba(standardised(wide)), atol=1e-3)


def test_features_that_are_all_constant_give_the_class_frequencies():
    labels = np.array([0] * 20 + [1] * 10)
    found = fit_probe(np.full((30, 5), 3.0, np.float32), labels, np.arange(30) % 3, 2, STRENGTHS, score=accuracy)
    np.testing.assert_allclose(chances_of(found, np.full((1, 5), 3.0, np.float32)), [[2 / 3, 1 / 3]], atol=1e-3)


@pytest.mark.parametrize("shape", [(120, 10, 3), (45, 80, 3), (90, 6, 2)])
def test_held_out_rows_come_from_models_without_their_fold(shape):
    """Each row is what scikit-learn says that was fitted to the other folds at the strength chosen for this fold."""
    features, labels, folds = problem(*shape)
    found = fit_probe(features, labels, folds, shape[2], STRENGTHS, score=accuracy)
    rows = standardised(features)
    for fold, strength in enumerate(found.fold_strengths):
        inside = folds != fold
        theirs = by_hand(rows[inside], labels[inside], strength).predict_proba(rows[~inside])
        np.testing.assert_allclose(np.exp(found.out_of_fold[~inside]), theirs, atol=5e-3)


def test_plain_cross_validation_is_reported_for_every_strength():
    features, labels, folds = problem(150, 8, 3)
    found = fit_probe(features, labels, folds, 3, STRENGTHS, score=accuracy)
    rows = standardised(features)
    for strength, loss, score in zip(found.strengths, found.losses, found.scores, strict=True):
        said = np.zeros((150, 3))
        for fold in range(3):
            said[folds == fold] = by_hand(rows[folds != fold], labels[folds != fold], strength).predict_proba(rows[folds == fold])
        assert loss == pytest.approx(-np.log(said[np.arange(150), labels]).mean(), abs=5e-3)
        assert score == pytest.approx(accuracy(labels, said.argmax(1)), abs=2 / 150)


@pytest.mark.parametrize("shape", [(90, 10, 3), (45, 80, 3)])
def test_the_labels_of_a_fold_change_nothing_that_is_said_of_it(shape):
    """Neither the models that judge a fold nor the strength chosen for it may see its labels."""
    features, labels, folds = problem(*shape)
    before = fit_probe(features, labels, folds, shape[2], STRENGTHS, score=accuracy)
    for fold in range(3):
        other = labels.copy()
        inside = folds == fold
        other[inside] = (labels[inside] + 1) % shape[2]
        after = fit_probe(features, other, folds, shape[2], STRENGTHS, score=accuracy)
        assert after.fold_strengths[fold] == before.fold_strengths[fold]
        np.testing.assert_allclose(np.exp(after.out_of_fold[inside]), np.exp(before.out_of_fold[inside]), atol=2e-3)


@pytest.mark.parametrize("d", [6, 120], ids=["n > d", "n < d"])
def test_random_labels_are_not_predicted(d):
    """With more columns than rows the labels can be learnt by heart: any leak would show as accuracy far above chance."""
    right, losses = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(60, d)).astype(np.float32)
        labels = rng.integers(2, size=60)
        found = fit_probe(features, labels, rng.permutation(60) % 4, 2, STRENGTHS, score=accuracy)
        right.append(accuracy(labels, found.out_of_fold.argmax(1)))
        losses.append(-found.out_of_fold[np.arange(60), labels].mean())
    # 600 predictions: one standard error is 0.02
    assert 0.4 < np.mean(right) < 0.58
    assert np.mean(losses) > np.log(2) - 0.02, "no better than a coin's log-loss"


@pytest.mark.parametrize("d", [3, 200])
def test_separable_classes_stay_finite(d):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = (rng.normal(size=(60, d)) * 0.01 + 100 * np.eye(3)[labels] @ rng.normal(size=(3, d))).astype(np.float32)
    found = fit_probe(features, labels, np.arange(60) // 3 % 4, 3, (1e-5, 1e-3, 1e-1), score=accuracy)
    for array in (found.weight, found.bias, found.out_of_fold, np.array(found.losses)):
        assert np.isfinite(array).all()
    assert accuracy(labels, found.out_of_fold.argmax(1)) == 1
    assert accuracy(labels, chances_of(found, features).argmax(1)) == 1


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_the_features_does_not_matter(factor):
    features, labels, folds = problem(120, 10, 3)
    here = fit_probe(features, labels, folds, 3, (1e-2,), score=accuracy)
    there = fit_probe((features * factor).astype(np.float32), labels, folds, 3, (1e-2,), score=accuracy)
    np.testing.assert_allclose(np.exp(there.out_of_fold), np.exp(here.out_of_fold), atol=2e-3)


def test_rows_that_are_never_held_out_are_trained_on_and_not_judged():
    features, labels, folds = problem(90, 10, 3)
    features = np.concatenate([features, features[:1] + 40])
    labels, folds = np.append(labels, 3), np.append(folds, -1)
    found = fit_probe(features, labels, folds, 4, (1e-3,), score=accuracy)
    assert np.isnan(found.out_of_fold[-1]).all()
    assert np.isfinite(found.out_of_fold[:-1]).all()
    assert chances_of(found, features)[-1].argmax() == 3, "the single example of its class was learnt"
    rows = standardised(features)
    theirs = by_hand(rows[folds != 1], labels[folds != 1], 1e-3).predict_proba(rows[folds == 1])
    np.testing.assert_allclose(np.exp(found.out_of_fold[folds == 1]), theirs, atol=1e-2)


def test_the_log_loss_decides_where_the_score_cannot_tell():
    features, labels, folds = problem(90, 10, 3)
    found = fit_probe(features, labels, folds, 3, STRENGTHS, score=lambda labels, predicted: 0.0)
    assert found.strengths == STRENGTHS
    assert found.strength == STRENGTHS[int(np.argmin(found.losses))]


def test_the_strength_is_among_those_offered_and_an_informative_problem_beats_chance():
    features, labels, folds = problem(240, 10, 3)
    found = fit_probe(features, labels, folds, 3, STRENGTHS, score=accuracy)
    assert found.strength in STRENGTHS and set(found.fold_strengths) <= set(STRENGTHS)
    assert found.strengths == STRENGTHS and len(found.fold_strengths) == 3
    assert accuracy(labels, found.out_of_fold.argmax(1)) > 0.5
    np.testing.assert_allclose(np.exp(found.out_of_fold).sum(1), 1, atol=1e-5)


def test_the_same_input_gives_the_same_bits():
    features, labels, folds = problem(100, 12, 3)
    one, two = (fit_probe(features, labels, folds, 3, STRENGTHS, score=accuracy) for _ in range(2))
    assert one.weight.tobytes() == two.weight.tobytes() and one.bias.tobytes() == two.bias.tobytes()
    assert one.out_of_fold.tobytes() == two.out_of_fold.tobytes()


def test_progress_never_goes_back_or_beyond_its_total():
    features, labels, folds = problem(60, 5, 2)
    seen: list[tuple[int, int]] = []
    fit_probe(features, labels, folds, 2, STRENGTHS, score=accuracy, watch=lambda done, total: seen.append((done, total)))
    assert seen and seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] and len({total for _, total in seen}) == 1


def test_the_features_given_are_not_changed():
    features, labels, folds = problem(60, 5, 2)
    before = features.tobytes()
    fit_probe(features, labels, folds, 2, (1e-2,), score=accuracy)
    assert features.tobytes() == before


def test_two_contents_in_all_still_give_a_model():
    """The smallest set that passes every check before: one content with two labels, and another one."""
    features = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    labels = np.array([0, 1, 0])
    folds = assign_folds(labels, [b"x", b"x", b"y"], 3, 0)
    found = fit_probe(features, labels, folds, 2, STRENGTHS, score=accuracy)
    assert np.isfinite(found.weight).all() and np.isfinite(found.bias).all()
    assert np.isfinite(found.out_of_fold[folds >= 0]).all()


def test_without_nesting_the_model_that_is_kept_is_the_same():
    features, labels, folds = problem(300, 12, 3)
    whole, cheap = (fit_probe(features, labels, folds, 3, STRENGTHS, score=accuracy, nested=n) for n in (True, False))
    assert whole.strength == cheap.strength
    np.testing.assert_allclose(whole.weight, cheap.weight, atol=1e-5)
    assert set(cheap.fold_strengths) == {cheap.strength}
    assert cheap.iterations < whole.iterations


def test_many_examples_get_the_model_that_trying_everything_on_all_gives(monkeypatch):
    """All strengths on a part, the best and weaker ones on all: the same choice, the same probabilities."""
    features, labels, folds = problem(3000, 12, 4)
    whole = fit_probe(features, labels, folds, 4, STRENGTHS, score=accuracy, nested=False)
    monkeypatch.setattr(room, "TRIED_ON", 600)
    found = fit_probe(features, labels, folds, 4, STRENGTHS, score=accuracy, nested=False)
    assert (found.tried_on, whole.tried_on) == (600, 3000)
    assert found.strength == whole.strength and set(found.strengths) <= set(whole.strengths)
    at = [whole.strengths.index(s) for s in found.strengths]
    np.testing.assert_allclose(found.losses, np.array(whole.losses)[at], atol=1e-3)
    np.testing.assert_allclose(np.exp(found.out_of_fold), np.exp(whole.out_of_fold), atol=5e-3)
    np.testing.assert_allclose(chances_of(found, features), chances_of(whole, features), atol=1e-3)


def test_more_examples_may_ask_for_a_weaker_penalty_than_the_part_did(monkeypatch):
    features, labels, folds = problem(2000, 40, 4)
    strengths = tuple(10 ** (k / 2) for k in range(-6, 2))
    monkeypatch.setattr(room, "TRIED_ON", 150)
    part = room.evenly(labels, folds, 150)
    few = fit_probe(features[part], labels[part], folds[part], 4, strengths, score=accuracy, nested=False)
    found = fit_probe(features, labels, folds, 4, strengths, score=accuracy, nested=False)
    assert found.strength < few.strength
    assert max(found.strengths) == few.strength, "nothing stronger is fitted to all"


def test_the_part_that_strengths_are_tried_on_keeps_folds_and_classes():
    rng = np.random.default_rng(0)
    labels, folds = rng.choice(5, 4000, p=[0.6, 0.2, 0.1, 0.06, 0.04]), rng.permutation(4000) % 5
    part = room.evenly(labels, folds, 1000)
    assert len(part) == len(set(part.tolist())) == 1000 and (np.diff(part) > 0).all()
    for fold in range(5):
        whole = np.bincount(labels[folds == fold], minlength=5)
        own = np.bincount(labels[part][folds[part] == fold], minlength=5)
        assert np.abs(own - whole / 4).max() <= 1


@pytest.mark.parametrize("options", [{"nested": True}, {"weights": np.linspace(0.5, 1.5, 900)}])
def test_what_the_part_is_not_for(monkeypatch, options):
    """A nested choice is made on all examples; weights go with theirs."""
    features, labels, folds = problem(900, 8, 3)
    whole = fit_probe(features, labels, folds, 3, STRENGTHS, score=accuracy, **{"nested": False, **options})
    monkeypatch.setattr(room, "TRIED_ON", 200)
    found = fit_probe(features, labels, folds, 3, STRENGTHS, score=accuracy, **{"nested": False, **options})
    assert found.tried_on == (900 if options.get("nested") else 200)
    np.testing.assert_allclose(chances_of(found, features), chances_of(whole, features), atol=2e-3)
