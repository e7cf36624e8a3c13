"""profile, and fit --at: the same features, the same figures, a smaller model."""

from __future__ import annotations

import json
import xml.etree.ElementTree as Xml
from pathlib import Path

import pytest

import regraft
from regraft.events import Done
from regraft.jobs import engines as choosing
from regraft.jobs.network import show_model
from regraft.pretrained import find_model
from regraft.workspace.store import Space, Store

pytestmark = pytest.mark.weights

MODEL = "packaged:all-minilm-l6-v2"


def passes(heard: list) -> list[str]:
    return [e.note for e in heard if isinstance(e, Done) and e.stage == "features"]


def space_of(run: regraft.Run) -> Space:
    """What is stored under the identity that a fit wrote down."""
    maker = json.loads((run.path / "decisions.json").read_text(encoding="utf-8"))["features"]
    space = Store().held(maker)
    assert space is not None
    return space


def rows_of(run: regraft.Run) -> bytes:
    space = space_of(run)
    return space.gather(sorted(space._where)).tobytes()


def bundle_of(run: regraft.Run) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (run.path / "bundle").iterdir()}


@pytest.mark.long
def test_a_profile_pays_for_the_fits_that_follow(text_table, command, monkeypatch):
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
    Store().remove(*space_of(ended).keys)
    alone: list = []
    fresh = regraft.fit(text_table, model=MODEL, at="encoder.encoder.layer.1", threads=1, out="fresh", on_event=alone.append)
    assert passes(alone) == [f"{found['n']} computed"]
    assert rows_of(fresh) == stored
    assert bundle_of(fresh) == bundle_of(ended)

    # so many examples that a faster engine would be looked for
    monkeypatch.setattr(choosing, "worth_timing", lambda examples: True)
    monkeypatch.setattr(choosing, "_timed", lambda *_: pytest.fail("engines were timed"))
    many: list = []
    run = regraft.fit(text_table, model=MODEL, at="encoder.encoder.layer.3", threads=1, out="many", on_event=many.append)
    assert passes(many) == [f"0 computed, {found['n']} already there"]
    assert json.loads((run.path / "decisions.json").read_text())["engine"]["how"] == "its features are here already"

    sizes = [sum(f.stat().st_size for f in Path(n, "bundle").iterdir()) for n in ("ended", "whole")]
    gone = found["depths"][-1]["parameters"] - found["depths"][1]["parameters"]
    assert abs(sizes[1] - sizes[0] - 4 * gone) < 50_000
    shown = command("show", "ended")
    assert "cut off after encoder.encoder.layer.1" in shown.out
    said = [p.label for p in ended.predict(["a plate of soup", "the match was won"], threads=1)]
    assert set(said) <= set(ended.result["labels"])


def test_a_number_and_a_picture_of_sounds(tone_folder, tmp_path, command):
    rows = [f"{path},{len(path.name)}.5" for path in sorted(tone_folder.glob("*/*.wav"))]
    table = tmp_path / "numbers.csv"
    table.write_text("\n".join(["path,height", *(f"{row.split(',')[0]},{220 + 7 * i}" for i, row in enumerate(rows))]))
    words = ("profile", table, "--task", "audio", "--label", "height", "--target", "number", "--threads", "1", "--plot", "sounds.svg")
    answer = command(*words, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert len(found["depths"]) == 4 and found["compared"] == "mae"
    assert "lower is better" in Path("sounds.svg").read_text()
    told = command(*words)
    assert told.code == 0 and "sounds.svg" in told.out and "highest" in told.out


def test_a_network_of_one_block_has_nothing_to_compare(text_table, command):
    answer = command("profile", text_table, "--model", "packaged:use-multilingual-v3")
    assert answer.code == 0 and "one depth only" in answer.err and "None" not in answer.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--at", "encoder.encoder.layer.2.attention"), "lies inside a block"),
        (("--at", "encoder.encoder.layer.5"), "nothing would be cut off"),
        (("--at", "layer.9"), "chooses no layer"),
    ],
)
def test_places_where_nothing_can_be_cut(text_table, command, options, said):
    answer = command("fit", text_table, *options)
    assert answer.code == 2 and said in answer.err and "Traceback" not in answer.err
    assert not Path("runs").exists()


def test_what_trains_is_counted_from_the_new_end():
    found = show_model(find_model(MODEL), steps=[{"op": "truncate", "after": "encoder.encoder.layer.1"}], train="last 1 block, head")
    live = [row["path"] for row in found["layers"] if row["trained"] and row["path"].count(".") == 3]
    assert live == ["encoder.encoder.layer.1"]
