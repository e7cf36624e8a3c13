"""What settings do to the loop: each against the same thing written out, and through a checkpoint to the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from regraft.anatomy.recompute import recomputed
from regraft.features.material import of_rows
from regraft.strategy.settings import Settings
from regraft.training.afterwards import MIXES, between
from regraft.training.deeper import Task, tune
from regraft.training.loop import Course, Learner, Problem, Saved, found_height, out_of_memory, seconds_of_step, train
from regraft.training.losses import SIGMOID, SOFTMAX, SQUARED
from regraft.training.mixing import drawn_mix

PLAIN = Settings(epochs=3, batch=8, lr=1e-2, layer_decay=1.0)


def learner(*, images: bool = False, dropout: float = 0.3, norm: bool = False) -> Learner:
    torch.manual_seed(1)
    below = [nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()] if images else [nn.Linear(5, 6)]
    module = nn.Sequential(*below, *([nn.BatchNorm1d(6)] if norm else []), nn.ReLU(), nn.Dropout(dropout), nn.Linear(6, 3))
    output = module[-1]
    assert isinstance(output, nn.Linear)
    tensor = lambda arrays: torch.from_numpy(arrays["input"])
    turned = lambda arrays: tensor(arrays).permute(0, 3, 1, 2).float() / 255
    scores = (lambda arrays: module(turned(arrays))) if images else (lambda arrays: module(tensor(arrays)))
    mixed = (lambda arrays, mix: module(mix.of(turned(arrays)))) if images else None
    names = [name for name, _ in module.named_parameters()]
    head = [name for name in names if name.startswith(f"{len(module) - 1}.")]
    groups = [(head, 1e-2), ([n for n in names if n not in head], 1e-2)]
    return Learner(module, scores, module.train, module.eval, groups, output, mixed, head)


def problem(settings: Settings, own: Learner | None = None, n: int = 32, **more) -> Problem:
    rng = np.random.default_rng(0)
    images = own is not None and own.mixed is not None
    rows = rng.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8) if images else rng.normal(size=(n, 5)).astype(np.float32)
    truth = torch.from_numpy((rows.reshape(n, -1)[:, 0] > np.median(rows)).astype(np.int64))
    return Problem(own or learner(), of_rows(rows), truth, np.ones(n), np.arange(n), SOFTMAX, settings, 0, **more)


def tensors(own: Learner) -> dict[str, torch.Tensor]:
    return own.state()


def same(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


ALL = {
    "ema": {"ema": 0.9},
    "l2_sp": {"l2_sp": 20.0, "l2_sp_head": 2.0},
    "patience": {"patience": 2},
    "both": {"patience": 1, "ema": 0.8},
    "balanced": {"balanced": True, "smoothing": 0.1},
    "parts": {"accumulate": 3},
    "found": {"find": True},
    "cutmix": {"cutmix": 1.0},
}


@pytest.mark.parametrize("name", ALL)
def test_a_training_goes_on_to_the_same_bits_whatever_is_set(name):
    more = {"inner": np.arange(24, 32), "examples": np.arange(24)} if "patience" in ALL[name] else {}
    at = {}

    def run(saved=None):
        own = learner(images="cutmix" in ALL[name])
        asked = replace(problem(replace(PLAIN, **ALL[name]), own), **more)

        def keep(course: Course) -> None:
            if course.step == 5:
                held = course.saved()
                at[course.step] = Saved({k: v.clone() for k, v in held.tensors.items()}, dict(held.facts))

        return train(asked, saved=saved, after=keep), tensors(own)

    found, whole = run()
    again, rest = run(at[5])
    assert found == again and same(whole, rest)


def test_smoothing_is_that_of_torch():
    own = learner(dropout=0.0)
    course = Course(problem(replace(PLAIN, smoothing=0.2, batch=32), own))
    own.train_mode()
    rows = course.problem.material.arrays[0]["input"]
    worth = course._gradient(np.arange(32))
    expected = nn.functional.cross_entropy(own.module(torch.from_numpy(rows)), course.problem.truth, label_smoothing=0.2)
    assert worth == pytest.approx(float(expected.detach()), rel=1e-5)
    uncertain = torch.zeros(2, 3)
    assert SQUARED.even is None and SIGMOID.even is not None
    torch.testing.assert_close(SIGMOID.even(uncertain), SIGMOID.each(uncertain, torch.full((2, 3), 0.5)))


@pytest.mark.parametrize("which", ["mixup", "cutmix"])
def test_mixed_images_and_their_losses(which):
    own = learner(images=True, dropout=0.0)
    asked = problem(replace(PLAIN, batch=32, **{which: 1.0}), own)
    course = Course(asked)
    own.train_mode()
    worth = course._gradient(np.arange(32))
    mix = drawn_mix(32, asked.settings.mixup, asked.settings.cutmix, [0, 0, 0])
    images = torch.from_numpy(asked.material.arrays[0]["input"]).permute(0, 3, 1, 2).float() / 255
    if which == "mixup":
        mixed, share = mix.share * images + (1 - mix.share) * images[mix.partner], mix.share
    else:
        mixed = mix.of(images)
        share = float((mixed == images).all(1).float().mean())
        assert 0 < share < 1
    both = [nn.functional.cross_entropy(own.module(mixed), truth) for truth in (asked.truth, asked.truth[mix.partner])]
    assert worth == pytest.approx(float((share * both[0] + (1 - share) * both[1]).detach()), rel=2e-2 if which == "cutmix" else 1e-4)


def test_l2_sp_pulls_to_the_start_and_the_head_to_nothing():
    own = learner()
    before = tensors(own)
    far = replace(problem(replace(PLAIN, l2_sp=1 / 1e-2, l2_sp_head=0.0, warm_up=0.0), own))
    course = Course(far)
    with torch.no_grad():
        for parameter in own.module.parameters():
            parameter.add_(1.0)
    moved = tensors(own)
    course._pull()
    # at the whole rate a strength of 1 / rate brings weights back in one step; the head's is left alone
    after = tensors(own)
    for name in after:
        torch.testing.assert_close(after[name], moved[name] if name in own.new else before[name])


def test_the_mean_of_the_weights_is_the_result():
    own, seen = learner(), []
    asked = problem(replace(PLAIN, ema=0.5), own)
    train(asked, after=lambda course: seen.append({n: t.clone() for n, t in own.moving().items()}))
    plain = learner()
    mean = plain.moving()
    for step, now in enumerate(seen):
        keeps = min(0.5, (2 + step) / (11 + step))
        mean = {name: torch.lerp(mean[name], now[name], 1 - keeps) for name in mean}
    found = own.moving()
    assert not same(found, seen[-1])
    for name in mean:
        torch.testing.assert_close(found[name], mean[name])


def test_training_stops_where_inner_examples_say_so():
    own = learner(dropout=0.0)
    noise = np.random.default_rng(1)
    asked = replace(problem(replace(PLAIN, epochs=40, patience=3, lr=0.1), own), examples=np.arange(24), inner=np.arange(24, 32))
    # labels by chance: there is nothing to learn, so the loss of other examples soon rises
    truth = torch.from_numpy(noise.integers(0, 3, 32))
    found = train(replace(asked, truth=truth))
    assert len(found.losses) == found.epoch + 3 < 40
    again = learner(dropout=0.0)
    train(replace(asked, truth=truth, learner=again, inner=np.zeros(0, np.int64), until=found.epoch))
    assert same(tensors(own), tensors(again))


def test_every_class_comes_equally_often():
    from regraft.training.loop import _order

    asked = problem(replace(PLAIN, balanced=True), n=400)
    truth = torch.from_numpy((np.arange(400) < 20).astype(np.int64))
    drawn = np.concatenate([_order(replace(asked, truth=truth), epoch) for epoch in range(20)])
    assert abs(float(truth[drawn].double().mean()) - 0.5) < 0.03
    assert np.array_equal(np.sort(_order(replace(asked, settings=PLAIN), 0)), np.arange(400))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory"), MemoryError()]
)
def test_memory_that_runs_out_divides_the_batch(error):
    own, told, sizes = learner(dropout=0.0, norm=True), [], []
    plain = own.scores

    def hungry(arrays):
        sizes.append(len(arrays["input"]))
        own.module.train()
        out = plain(arrays)
        if len(arrays["input"]) > 4:
            raise error
        return out

    asked = problem(replace(PLAIN, epochs=1, batch=16, adapt=True), replace(own, scores=hungry), divided=lambda *how: told.append(how))
    found = train(asked)
    assert found.parts == 4 and told == [(0, 2), (0, 4)] and max(sizes[2:]) <= 4
    # the same as one that knew from the start
    other = learner(dropout=0.0, norm=True)
    train(replace(asked, learner=other, settings=replace(asked.settings, accumulate=4)))
    assert same(tensors(own), tensors(other))
    third = learner(dropout=0.0, norm=True)
    train(replace(asked, learner=third, parts_at={0: 4}))
    assert same(tensors(own), tensors(third))


def test_other_errors_are_not_memory():
    assert not out_of_memory(RuntimeError("shapes do not match")) and out_of_memory(MemoryError())
    own = learner()
    with pytest.raises(RuntimeError, match="shapes"):
        train(problem(PLAIN, replace(own, scores=lambda arrays: (_ for _ in ()).throw(RuntimeError("shapes")))))


def test_parts_of_a_batch_give_the_gradient_of_the_whole():
    gradients = []
    for parts in (1, 4):
        own = learner(dropout=0.0)
        course = Course(problem(replace(PLAIN, batch=32, accumulate=parts), own))
        own.train_mode()
        course._gradient(np.arange(32))
        gradients.append([p.grad.clone() for p in own.module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_range_test_finds_a_rate_within_its_range_and_moves_nothing():
    own = learner(norm=True)
    before = tensors(own)
    height = found_height(problem(replace(PLAIN, find=True), own))
    assert 0.1 <= height <= 10 and same(before, tensors(own))
    # a rate that is far too high already is lowered
    steep = replace(own, groups=[(names, 1e4) for names, _ in own.groups])
    assert found_height(problem(replace(PLAIN, find=True), steep)) == pytest.approx(0.1)


def test_timing_a_step_moves_nothing():
    own = learner(norm=True)
    before, random = tensors(own), torch.get_rng_state()
    for precision in ("fp32", "bf16"):
        assert seconds_of_step(problem(replace(PLAIN, precision=precision), own)) > 0
    assert same(before, tensors(own)) and torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in own.module.parameters()) and not own.module.training


def test_bf16_learns_what_fp32_learns():
    losses = [train(problem(replace(PLAIN, epochs=15, precision=precision))).losses[-1] for precision in ("fp32", "bf16")]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.parametrize("training", [True, False])
def test_blocks_that_are_computed_twice_give_the_same_bits(training):
    def run(paths):
        torch.manual_seed(0)
        block = lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.ReLU(inplace=True))
        net = nn.Sequential(nn.Conv2d(3, 3, 3), block(), block()).train(training)
        with recomputed(net, paths):
            net(torch.randn(2, 3, 12, 12)).square().sum().backward()
        assert all("forward" not in layer.__dict__ for layer in net.modules())
        return [p.grad for p in net.parameters()], list(net.buffers())

    for one, other in zip(run([]), run(["1", "2"]), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("loss", [SOFTMAX, SQUARED])
def test_mixes_of_weights_are_judged_and_the_end_is_left(loss):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 5)).astype(np.float32)
    values = (rows[:, 0] > 0).astype(np.int64) if loss is SOFTMAX else 7 + 3 * rows[:, 0].astype(np.float64)
    folds = np.arange(30) % 3
    own = learner(dropout=0.0)
    if loss is SQUARED:
        own.module[-1] = nn.Linear(6, 1)
        own = replace(own, output=own.module[-1])
    begin = own.state()
    task = Task(of_rows(rows), loss, values, np.arange(30), np.ones(30), folds)
    tuned = tune(own, task, PLAIN, seed=0, starts=[{}] * 4, mixes=MIXES)
    assert tuned.held_out.shape == (5, 30, len(own.output.bias)) and np.isfinite(tuned.held_out).all()
    end = {name: tensor.clone() for name, tensor in own.moving().items()}
    own.restore(begin)
    start = own.module(torch.from_numpy(rows)).detach().double().numpy()
    np.testing.assert_allclose(tuned.held_out[0], start, rtol=1e-4, atol=1e-5)
    assert same({n: begin[n] for n in tuned.begin}, dict(tuned.begin))
    own.move(between(tuned.begin, end, 1.0))
    assert same(end, own.moving())
    half = between(tuned.begin, end, 0.5)
    torch.testing.assert_close(half["0.weight"], (begin["0.weight"] + end["0.weight"]) / 2)


def test_the_final_training_takes_rate_and_length_of_those_that_were_judged():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 5)).astype(np.float32)
    task = Task(of_rows(rows), SOFTMAX, rng.integers(0, 3, 60), np.arange(60), np.ones(60), np.arange(60) % 3, np.arange(60) % 8)
    heard = []
    watch = lambda tick: heard.append((tick.training, tick.step, tick.steps))
    tuned = tune(learner(), task, replace(PLAIN, epochs=12, find=True, patience=2), seed=0, watch=watch)
    assert len(tuned.rates) == len(tuned.epochs) == 4
    assert tuned.rates[-1] == pytest.approx(np.median(tuned.rates[:3])) and tuned.epochs[-1] == round(np.median(tuned.epochs[:3]))
    # every training is heard to its end
    ends = {stage: (step, steps) for stage, step, steps in heard}
    assert len(ends) == 4 and all(step == steps for step, steps in ends.values())
