"""Views of examples: what is drawn depends on the seed, the content and the number of the view alone, and the plain example is what
is judged.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from regraft.errors import UsageError
from regraft.facts import Figure
from regraft.features.maker import maker_of
from regraft.features.material import gather, in_turn, of_rows
from regraft.jobs.augment import plan_views
from regraft.modality import AUGMENTATIONS, MODALITIES, View, Views, augmentations_of
from regraft.spec import FitSpec
from regraft.strategy.augment import asked_for, harmful, tried_places
from regraft.strategy.rungs import rung_from, rung_of
from regraft.strategy.settings import Settings
from regraft.training.loop import Learner, Problem, Saved, train
from regraft.training.losses import SOFTMAX
from regraft.training.probe import fit_probe
from regraft.workspace.store import Space

PICTURES = {"size": 24, "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}
SOUNDS = {"window_seconds": 2.0}
PREPROCESSING = {"image": PICTURES, "audio": SOUNDS}


def views_of(task: str, seed: int = 0) -> Views:
    return Views(tuple(augmentations_of(task).values()), seed)


def prepared(views: Views, task: str, source: object, number: int) -> list[dict[str, np.ndarray]]:
    plain = MODALITIES[task]
    made = views.preparer(plain, PREPROCESSING[task], {})(views.modality(plain).load(View(source, number)).decode())
    return [dict(window) for window in made.windows]


def same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("kind", AUGMENTATIONS, ids=lambda kind: f"{kind.task} {kind.name}")
def test_an_augmentation_is_a_function_of_seed_content_and_number(kind):
    sources = MODALITIES[kind.task].made_up()
    certain = dataclasses.replace(kind, amounts=kind.for_certain or kind.amounts)
    first = [prepared(Views((certain,), 0), kind.task, source, 1) for source in sources]
    # in another order, by another object, after other draws
    again = [prepared(Views((certain,), 0), kind.task, source, 1) for source in reversed(sources)][::-1]
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    plain = [MODALITIES[kind.task].preparer(PREPROCESSING[kind.task], {})(MODALITIES[kind.task].load(s).decode()).windows for s in sources]
    for one, other in zip(first, plain, strict=True):
        assert [{k: (v.shape, v.dtype) for k, v in w.items()} for w in one] == [
            {k: (v.shape, v.dtype) for k, v in w.items()} for w in other
        ]
    changed = [not same(a, [dict(w) for w in b]) for a, b in zip(first, plain, strict=True)]
    assert sum(changed) >= len(changed) - 1
    if kind.for_certain is None:
        for other in (Views((kind,), 1), Views((kind,), 0)):
            number = 1 if other.seed else 2
            assert not all(same(a, prepared(other, kind.task, s, number)) for a, s in zip(first, sources, strict=True))


def test_other_augmentations_change_no_draw():
    kinds = augmentations_of("image")
    squares = [np.tile(np.linspace(0, 200, 24).astype(np.uint8)[None, :, None], (24, 1, 3)) + np.uint8(i) for i in range(12)]
    whole = dataclasses.replace(kinds["crop"], amounts={"area": 1.0, "ratio": 1.0})
    alone = [prepared(Views((kinds["flip"],), 3), "image", s, 1)[0]["pixels"] for s in squares]
    beside = [prepared(Views((whole, kinds["flip"]), 3), "image", s, 1)[0]["pixels"] for s in squares]
    turned = [bool(a[0, 0, 0] > a[0, -1, 0]) for a in alone]
    assert turned == [bool(b[0, 0, 0] > b[0, -1, 0]) for b in beside] and 0 < sum(turned) < 12


def test_pieces_of_images_keep_to_their_sizes_and_shapes():
    crop = augmentations_of("image")["crop"]
    assert crop.decoded is not None
    for size in ((400, 300), (50, 200), (7, 900), (1, 1)):
        image = Image.new("RGB", size)
        for number in range(40):
            piece = crop.decoded(image, np.random.default_rng(number), crop.amounts, PICTURES)
            assert 1 <= piece.width <= image.width and 1 <= piece.height <= image.height
            if size == (400, 300):
                assert piece.width * piece.height >= 0.49 * 400 * 300 and 0.74 <= piece.width / piece.height <= 1.34


def files(folder: Path, count: int = 11) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("interrupted", [False, True])
def test_features_of_views_have_the_same_bits_whatever_the_workers_order_and_interruptions(tmp_path, interrupted):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3)).eval()
    modality, views = MODALITIES["image"], views_of("image")
    calls: list[int] = []

    def trunk(windows):
        calls.append(1)
        if interrupted and len(calls) == 4:
            raise KeyboardInterrupt
        with torch.inference_mode():
            return [{"0": row.numpy()} for row in net(modality.collate(windows, PICTURES)["x"])]

    (tmp_path / "pictures").mkdir()
    paths = files(tmp_path / "pictures")
    wanted = [View(path, number) for number in (1, 2) for path in paths]
    prepare = views.preparer(modality, PICTURES, {})

    def made(sources, workers, name):
        names = [str(s.source) for s in sources]
        return gather(names, sources, views.modality(modality), prepare, Space(tmp_path / name, {}), trunk=trunk, tile=4, workers=workers)

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            made(wanted, 1, "one")
    one, two = made(wanted, 1, "one"), made(wanted[::-1], 2, "two")
    for example in range(len(wanted)):
        a, b = one.read(one.windows_of(np.array([example]))), two.read(two.windows_of(np.array([len(wanted) - 1 - example])))
        assert np.array_equal(a["0"], b["0"])
    first, second = (one.read(one.windows_of(np.array([e])))["0"] for e in (0, len(paths)))
    assert not np.array_equal(first, second)


def test_material_of_views_follows_that_of_the_examples(tmp_path):
    paths = files(tmp_path, 5)
    modality, views = MODALITIES["image"], views_of("image")
    plain = gather([str(p) for p in paths], paths, modality, modality.preparer(PICTURES, {}), Space(tmp_path / "plain", {}))
    numbers, wanted = np.array([6, 8, 9]), [View(paths[i], 1) for i in (1, 3, 4)]
    more = gather(["", "", ""], wanted, views.modality(modality), views.preparer(modality, PICTURES, {}), Space(tmp_path / "views", {}))
    both = plain.followed_by(more, numbers)
    assert len(both.arrays) == 1 and both.example.tolist() == [0, 1, 2, 3, 4, 6, 8, 9]
    for i, number in enumerate(numbers):
        assert np.array_equal(both.read(both.windows_each(numbers[[i]]))["pixels"], more.read(np.array([i]))["pixels"]), number
    assert np.array_equal(both.read(np.arange(5))["pixels"], plain.read(np.arange(5))["pixels"])


def test_the_store_knows_views_from_examples_and_examples_as_before():
    from regraft.features.engines import REFERENCE

    known = {"weights_sha256": "a", "architecture": {}, "preprocessing": PICTURES, "modality": MODALITIES["image"], "tile": 4}
    makers = [maker_of(**known, device="cpu", engine=REFERENCE, views=v) for v in (None, views_of("image"), views_of("image", 1))]
    assert "views" not in makers[0] and makers[0] != makers[1] != makers[2]
    path = MODALITIES["image"].made_up()[0]
    names = {views_of("image").modality(MODALITIES["image"]).load(View(path, n)).identity for n in (1, 2)}
    assert len({*names, MODALITIES["image"].load(path).identity}) == 3


def accuracy(truth, decided):
    return float((truth == decided).mean())


def test_a_head_on_equal_views_is_the_head_on_the_examples():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 6)).astype(np.float32)
    labels, folds, weights = (rows[:, 0] + rng.normal(size=60) > 0).astype(np.int64), np.arange(60) % 4, rng.uniform(0.5, 2, 60)
    folds[:3] = -1
    plain = fit_probe(rows, labels, folds, 2, (1e-2, 1e-1), score=accuracy, weights=weights)
    thrice = fit_probe(np.tile(rows, (3, 1)), labels, folds, 2, (1e-2, 1e-1), score=accuracy, weights=weights)
    assert thrice.out_of_fold.shape == plain.out_of_fold.shape and np.isnan(thrice.out_of_fold[:3]).all()
    np.testing.assert_allclose(thrice.weight, plain.weight, atol=2e-3)
    np.testing.assert_allclose(thrice.out_of_fold, plain.out_of_fold, atol=5e-3)


def test_views_of_a_held_out_example_are_held_out_with_it():
    rng = np.random.default_rng(1)
    # every example has a direction of its own that all of its views share: whoever saw one view would know the label
    rows = np.concatenate([np.eye(40) * 5 + rng.normal(0, 0.01, (40, 40)) for _ in range(3)]).astype(np.float32)
    labels = rng.permutation(np.arange(40) % 2)
    found = fit_probe(rows, labels, np.arange(40) // 2 % 5, 2, (1e-2,), score=accuracy)
    assert accuracy(labels, found.out_of_fold.argmax(1)) < 0.7


def learner(module: nn.Sequential) -> Learner:
    output = module[-1]
    assert isinstance(output, nn.Linear)
    names = [n for n, _ in module.named_parameters()]
    return Learner(module, lambda arrays: module(torch.from_numpy(arrays["input"])), module.train, module.eval, [(names, 1e-2)], output)


def small() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3))


SETTINGS = Settings(epochs=4, batch=4, lr=1e-2, layer_decay=1.0)
ROWS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
LABELS = torch.from_numpy(np.arange(12) % 3)


def trained(looks, saved: Saved | None = None, after=lambda course: None) -> dict[str, torch.Tensor]:
    ours = learner(small())
    problem = Problem(ours, of_rows(ROWS), LABELS, np.ones(12), np.arange(1, 12), SOFTMAX, SETTINGS, 7, looks=looks)
    train(problem, saved=saved, after=after)
    return ours.state()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_training_shows_every_view_in_its_turn_and_equal_views_change_no_bit():
    rng = np.random.default_rng(2)
    different = of_rows(np.concatenate([ROWS, rng.normal(size=(24, 5)).astype(np.float32)]))
    looks = in_turn(different, 12, 3, 7)
    shown = np.array([looks(epoch, np.arange(12)).at // 12 for epoch in range(6)])
    assert all(sorted(column[:3]) == [0, 1, 2] for column in shown.T) and (shown[:3] == shown[3:]).all() and len(set(shown[0])) == 3
    assert (looks(1, np.arange(12)).owner[looks(1, np.arange(12)).at] == np.arange(12)).all()
    copies = of_rows(np.tile(ROWS, (3, 1)))
    assert equal(trained(in_turn(copies, 12, 3, 7)), trained(None))
    assert not equal(trained(looks), trained(None))


def test_training_on_views_goes_on_to_the_same_bits():
    looks = in_turn(of_rows(np.concatenate([ROWS, ROWS + 1])), 12, 2, 7)
    kept: list[Saved] = []

    def save(course):
        if course.step == 7:
            found = course.saved()
            kept.append(Saved({name: tensor.clone() for name, tensor in found.tensors.items()}, dict(found.facts)))

    whole = trained(looks, after=save)
    assert equal(trained(looks, saved=kept[0]), whole)


@pytest.mark.parametrize(
    ("change", "left_out"),
    [((-0.3, -0.4, -0.2), True), ((-0.02, -0.05, 0.01), False), ((0.0, 0.0, 0.0), False), ((0.1, 0.05, 0.15), False)],
)
def test_what_clearly_lowers_the_held_out_figure_is_left_out(change, left_out):
    assert harmful(Figure(*change)) == left_out


def test_what_is_asked_for():
    known = augmentations_of("image")
    assert asked_for("auto", known, "images") == (["crop", "flip", "colour"], [])
    assert asked_for("colour, crop", known, "images") == (["crop", "colour"], [])
    assert asked_for("turn", known, "images")[1] == ["--augment turn: expected auto, none or some of crop, flip, colour"]
    assert augmentations_of("text") == {} and "texts" in asked_for("auto", {}, "texts")[1][0]
    assert tried_places(3) == [0, 1, 2] and len(tried_places(100_000)) == 256
    for wrong in ("0", "many", "65", "-1"):
        with pytest.raises(UsageError, match="expected 1 to 64, or fresh"):
            FitSpec(data="x", views=wrong)
        with pytest.raises(UsageError, match="expected 1 to 64, or fresh"):
            rung_from({"trains": "all", "views": wrong}, "mine")


@pytest.mark.parametrize(
    ("asked", "of_the_rung", "count"), [(None, None, None), ("3", "fresh", 3), (None, 4, 4), (None, "fresh", 0), ("1", 4, None)]
)
def test_what_a_rung_wants_counts_where_nothing_else_is_asked(asked, of_the_rung, count):
    rung = rung_from({"trains": "all", "views": of_the_rung}, "mine")
    assert rung_of(rung.written()) == rung
    deeper: Any = SimpleNamespace(rung=rung, on_features=False)
    found = plan_views(FitSpec(data="x", views=asked), MODALITIES["image"], deeper)
    assert (found.count if found else None) == count
    assert not found or found.extra == max(0, found.count - 1)
