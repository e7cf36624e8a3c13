"""Every score of transferability: against its formula written out slowly, what must not change it, and input at the edge."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from regraft.evaluation.transferability import SCORES, Material, scores_of


def made(n: int = 40, width: int = 6, classes: int = 3, apart: float = 1.0, kind: str = "class", seed: int = 0) -> Material:
    """Examples of classes whose means lie `apart`; what an old output layer says is the class itself for two thirds of them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    means = rng.normal(size=(classes, width))
    rows = apart * means[y] + rng.normal(size=(n, width)) * np.linspace(0.3, 2, width) + 1.5
    old = np.where(rng.random(n) < 2 / 3, y, rng.integers(0, 7, n))
    if kind == "multilabel":
        y = np.stack([y == 0, y != 1, rng.random(n) < 0.3], 1).astype(np.uint8)
    if kind == "number":
        y = 7 + 3 * rows[:, 0] + rng.normal(size=n)
    return Material(rows.astype(np.float32), y, kind, classes, old)


# ---------------------------------------------------------------- formulas, written out


def slow_logme(material: Material) -> float:
    """The density of each column under N(0, I / beta + F F' / alpha), maximised by walking over a grid that gets finer."""
    rows, values = material.rows.astype(np.float64), []
    for y in columns(material).T:
        gram = rows @ rows.T

        def density(a: float, b: float, y: np.ndarray = y, gram: np.ndarray = gram) -> float:
            covariance = np.eye(len(y)) * math.exp(-b) + gram * math.exp(-a)
            return -0.5 * float(np.linalg.slogdet(2 * math.pi * covariance)[1] + y @ np.linalg.solve(covariance, y))

        at, step = (0.0, 0.0), 4.0
        while step > 1e-4:
            around = [(at[0] + i * step, at[1] + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            best = max(around, key=lambda p: density(*p))
            at, step = (best, step) if best != at else (at, step / 2)
        values.append(density(*at) / len(y))
    return float(np.mean(values))


def columns(material: Material) -> np.ndarray:
    if material.kind == "number":
        return ((material.y - material.y.mean()) / material.y.std())[:, None]
    if material.kind == "multilabel":
        return material.y.astype(float)
    return np.array([[float(label == c) for c in range(material.outputs)] for label in material.y])


def slow_hscore(material: Material) -> float:
    """Ledoit & Wolf's amount from its definition, the inverse in full."""
    x = material.rows.astype(np.float64)
    x = x - x.mean(0)
    n, width = x.shape
    sample = sum(np.outer(row, row) for row in x) / n
    t = np.trace(sample) / width
    apart = ((sample - t * np.eye(width)) ** 2).sum()
    noise = sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / n**2
    s = min(noise, apart) / apart
    between = np.zeros((width, width))
    for c in set(material.y.tolist()):
        own = x[material.y == c]
        between += len(own) / n * np.outer(own.mean(0), own.mean(0))
    return float(np.trace(np.linalg.inv((1 - s) * sample + s * t * np.eye(width)) @ ((1 - s) * between)))


def slow_nce(material: Material) -> float:
    assert material.old is not None
    pairs = list(zip(material.old.tolist(), material.y.tolist(), strict=True))
    total = 0.0
    for old, label in pairs:
        same = [b for a, b in pairs if a == old]
        total += math.log(same.count(label) / len(same))
    return total / len(pairs)


SLOW = {"logme": slow_logme, "hscore": slow_hscore, "nce": slow_nce}

EVERY = [(name, kind) for name, score in SCORES.items() for kind in score.kinds]


def test_every_score_has_a_slow_twin_and_names_its_paper():
    assert set(SLOW) == set(SCORES)
    assert all(any(c.isdigit() for c in score.paper) and score.kinds for score in SCORES.values())


@pytest.mark.parametrize(("name", "kind"), EVERY)
@pytest.mark.parametrize(("n", "width"), [(40, 6), (24, 60)], ids=["long", "wide"])
def test_a_score_is_its_formula(name, kind, n, width):
    material = made(n, width, kind=kind, seed=n)
    assert SCORES[name].of(material) == pytest.approx(SLOW[name](material), rel=2e-4, abs=2e-4)


# ---------------------------------------------------------------- what must not change it


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_order_unit_and_axes_do_not_matter(name, kind):
    material, score = made(kind=kind), SCORES[name].of
    value, rng = score(material), np.random.default_rng(1)
    order = rng.permutation(len(material.y))
    assert material.old is not None
    shuffled = replace(material, rows=material.rows[order], y=material.y[order], old=material.old[order])
    turned = replace(material, rows=(1000 * material.rows.astype(np.float64) @ np.linalg.qr(rng.normal(size=(6, 6)))[0]))
    for other in (shuffled, turned):
        assert score(other) == pytest.approx(value, rel=1e-5, abs=1e-6)
    if kind == "class":
        named = replace(material, y=(material.y + 1) % 3, old=(material.old * 5 + 2) % 7)
        assert score(named) == pytest.approx(value, rel=1e-9)
        # a class that no example has
        assert score(replace(material, outputs=9)) == pytest.approx(value, rel=1e-9)
    if kind == "number":
        assert score(replace(material, y=1000 * material.y - 5)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", ["logme", "hscore"])
def test_classes_farther_apart_score_higher(name):
    values = [SCORES[name].of(made(90, apart=apart)) for apart in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values) and values[0] < values[-1]


def test_labels_that_an_old_class_tells_score_highest():
    material = made()
    sure = SCORES["nce"].of(replace(material, old=material.y + 4))
    nothing = SCORES["nce"].of(replace(material, old=np.zeros(len(material.y), int)))
    assert sure == 0 > SCORES["nce"].of(material) > nothing
    counts = np.bincount(material.y) / len(material.y)
    assert nothing == pytest.approx((counts * np.log(counts)).sum())


# ---------------------------------------------------------------- input at the edge


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_input_at_the_edge_gives_a_number(name, kind):
    material, score = made(kind=kind), SCORES[name].of
    same = replace(material, rows=np.ones_like(material.rows))
    nothing = replace(material, rows=np.zeros_like(material.rows))
    twice = replace(material, rows=np.repeat(material.rows, 2, 1))
    few = replace(material, rows=material.rows[:2], y=material.y[:2], old=None if material.old is None else material.old[:2])
    one = replace(material, y=material.y[:1].repeat(40, 0)) if kind == "class" else material
    told = columns(material).astype(np.float32)
    for other in (same, nothing, twice, few, one, replace(material, rows=told)):
        assert math.isfinite(score(other))
    if name != "nce":
        assert score(same) <= score(material) < score(replace(material, rows=told))


def test_only_scores_that_have_a_value_are_given():
    assert list(scores_of(made())) == ["logme", "hscore", "nce"]
    assert list(scores_of(replace(made(), old=None))) == ["logme", "hscore"]
    assert list(scores_of(made(kind="number"))) == ["logme"]
