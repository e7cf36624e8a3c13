"""profile, and fit --at: the same features, the same figures, a smaller model."""

from __future__ import annotations

import json
import xml.etree.ElementTree as Xml
from pathlib import Path

import numpy as np
import pytest

import regraft
from regraft.errors import UsageError
from regraft.events import Done
from regraft.jobs import engines as choosing
from regraft.workspace.store import Store

pytestmark = pytest.mark.weights

MODEL = "packaged:all-minilm-l6-v2"


def passes(heard: list) -> list[str]:
    return [e.note for e in heard if isinstance(e, Done) and e.stage == "features"]


def rows_of(run: regraft.Run) -> np.ndarray:
    """What is stored under the identity that a fit wrote down."""
    maker = json.loads((run.path / "decisions.json").read_text(encoding="utf-8"))["features"]
    space = Store().held(maker)
    assert space is not None
    return space.gather(sorted(space._where))


def test_a_profile_pays_for_the_fits_that_follow(text_table, command):
    heard: list = []
    found = regraft.profile(text_table, model=MODEL, threads=1, plot="depths.svg", on_event=heard.append)
    assert [d["at"] for d in found["depths"]] == [f"encoder.encoder.layer.{i}" for i in range(6)]
    assert passes(heard) == [f"{found['n']} computed"]
    assert [d["saved"]["macs"] for d in found["depths"]] == sorted((d["saved"]["macs"] for d in found["depths"]), reverse=True)
    assert found["depths"][-1]["saved"] == {"macs": 0.0, "parameters": 0.0} and "over_last" not in found["depths"][-1]

    again: list = []
    second = regraft.profile(text_table, model=MODEL, threads=1, on_event=again.append)
    assert passes(again) == [f"0 computed, {found['n']} already there"]
    assert second["depths"] == found["depths"]

    texts = Xml.parse("depths.svg").getroot()
    assert texts.tag.endswith("svg") and len([e for e in texts.iter() if e.tag.endswith("circle")]) == 6

    later: list = []
    whole = regraft.fit(text_table, model=MODEL, threads=1, out="whole", on_event=later.append)
    ended = regraft.fit(text_table, model=MODEL, at="first 2 blocks", threads=1, out="ended", on_event=later.append)
    assert passes(later) == [f"0 computed, {found['n']} already there"] * 2
    assert whole.result["estimate"] == found["depths"][-1]["metrics"]
    assert ended.result["estimate"] == found["depths"][1]["metrics"]
    assert whole.result["baseline"] == found["baseline"]

    # what the pass over all depths gave are the bits of the cut network's own pass
    stored = rows_of(ended)
    Store().remove(next(s.key for s in Store().spaces() if s.maker == Store().held(json.loads(Path("ended/decisions.json").read_text())["features"]).maker))
    assert passes((fresh := [])) == []
    regraft.fit(text_table, model=MODEL, at="encoder.encoder.layer.1", threads=1, out="fresh", on_event=fresh.append)
    assert passes(fresh) == [f"{found['n']} computed"]
    assert rows_of(ended).tobytes() == stored.tobytes()
    assert {p.name: p.read_bytes() for p in Path("fresh/bundle").iterdir()} == {p.name: p.read_bytes() for p in Path("ended/bundle").iterdir()}

    sizes = [sum(f.stat().st_size for f in Path(n, "bundle").iterdir()) for n in ("ended", "whole")]
    gone = found["depths"][-1]["parameters"] - found["depths"][1]["parameters"]
    assert abs(sizes[1] - sizes[0] - 4 * gone) < 50_000
    shown = command("show", "ended")
    assert "truncate encoder.encoder.layer.1" in shown.out
    said = [p.label for p in ended.predict(["a plate of soup", "the match was won"], threads=1)]
    assert set(said) <= set(ended.result["labels"])
