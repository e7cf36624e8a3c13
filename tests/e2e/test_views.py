"""fit with views: flips only where they leave examples what they are, the same bytes with and without the store, and training below
the head.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import regraft
from regraft.errors import Interrupted, UsageError

OWN = """
import torch
from torch import nn
class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.mix = nn.Conv2d(4, 4, 1)
    def forward(self, pixels):
        maps = self.mix(self.stem(pixels).relu())
        middle = maps.shape[3] // 2
        return torch.cat([maps[..., :middle].mean((2, 3)), maps[..., middle:].mean((2, 3)), pixels.mean((2, 3))], 1)
"""

PICTURES = {"size": 16, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture
def network(tmp_path, monkeypatch):
    import torch

    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "network_in_halves.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    import network_in_halves

    torch.manual_seed(0)
    yield network_in_halves.Halves()
    sys.modules.pop("network_in_halves", None)


def pictures(kind: str, count: int = 40) -> list[tuple[np.ndarray, str]]:
    """Pictures that are brighter on one side, which is their label, or brighter or darker as a whole."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        values = rng.integers(60, 120, (20, 20, 3), dtype=np.uint8)
        where = (slice(None), slice(0, 10) if i % 2 else slice(10, 20)) if kind == "side" else (slice(None), slice(0, 20 * (i % 2)))
        values[where] += 70
        found.append((values, ("left" if i % 2 else "right") if kind == "side" else ("bright" if i % 2 else "dark")))
    return found


def fitted(network, kind="whole", **more):
    return regraft.fit(pictures(kind), model=network, preprocessing=PICTURES, threads=1, **more)


def decisions_of(run) -> dict:
    return json.loads((run.path / "decisions.json").read_text())


def bundle_of(run) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((run.path / "bundle").iterdir())}


def test_flips_are_left_out_where_they_change_what_an_example_is(network):
    sides = decisions_of(fitted(network, "side", views=2, out="sides"))
    tried = sides["views"]["tried"]["flip"]
    assert not tried["used"] and tried["examples"] == 40 and tried["change"]["high"] < -0.5
    assert [kind["name"] for kind in sides["views"]["augment"]] == ["crop", "colour"] and "accuracy" in sides["views_gain"]
    whole = decisions_of(fitted(network, "whole", views=2, out="whole"))
    assert whole["views"]["tried"]["flip"]["used"] and [kind["name"] for kind in whole["views"]["augment"]] == ["crop", "flip", "colour"]
    asked = decisions_of(fitted(network, "side", views=2, augment="flip", out="asked"))
    assert "tried" not in asked["views"] and [kind["name"] for kind in asked["views"]["augment"]] == ["flip"]


def test_views_leave_no_trace_of_the_store_and_plain_fits_none_of_views(network):
    plain = bundle_of(fitted(network, out="before"))
    first, again = (bundle_of(fitted(network, views=3, out=name)) for name in ("first", "again"))
    assert first == again == bundle_of(fitted(network, views=3, store=False, out="nothing-kept"))
    assert first != plain == bundle_of(fitted(network, out="after"))


@pytest.mark.parametrize("views", [3, "fresh"])
def test_training_below_the_head_on_views_is_interrupted_and_goes_on_to_the_same_bytes(network, views, monkeypatch):
    import torch

    from regraft.training.loop import Course
    from regraft.workspace.checkpoints import Checkpoint

    options = {"views": views, "train": "backbone.mix, head", "settings": {"epochs": 3}, "augment": "flip"}
    frozen = network.stem.weight.detach().clone()
    whole = fitted(network, **options, out="whole")
    trained = whole.network()
    assert torch.equal(trained.get_submodule("backbone.stem").weight, frozen)
    assert not torch.equal(trained.get_submodule("backbone.mix").weight, network.mix.weight)
    assert decisions_of(whole)["cut"]["reason"].startswith("every epoch shows another view") == (views == "fresh")
    assert not (whole.path / "material").exists()

    steps: list[int] = []
    step = Course._take_step

    def interrupted(course, batch):
        steps.append(course.step)
        # in the second epoch of the second fold
        if steps.count(0) == 2 and course.step == 3:
            raise KeyboardInterrupt
        return step(course, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "due", True)
        patched.setattr(Course, "_take_step", interrupted)
        with pytest.raises(Interrupted):
            fitted(network, **options, store=False, out="cut-short")
    again = regraft.resume("cut-short", data=pictures("whole"), model=network, preprocessing=PICTURES)
    assert bundle_of(again) == bundle_of(whole)


def test_what_cannot_be_meant(network):
    with pytest.raises(UsageError, match="another view in every epoch"):
        fitted(network, views="fresh")
    with pytest.raises(UsageError, match="texts have no augmentations"):
        regraft.fit([("good", "a"), ("bad", "b")] * 10, views=4)
    for wrong, words in (
        ({"views": 4, "augment": "turn"}, "--augment turn"),
        ({"views": 4, "augment": "none"}, "would all be the same"),
        ({"augment": "crop"}, "only the plain view"),
    ):
        with pytest.raises(UsageError, match=words):
            fitted(network, **wrong)
