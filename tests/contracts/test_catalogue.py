"""What every entry of the catalogue must hold, and a few rows whose values are known."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path

import pytest

from regraft.facts import ModelFacts
from regraft.pretrained import packaged
from regraft.pretrained.catalogue import HEADLINES, VALUE_NAMES, Entry, entries, entry_of, gathered, ordered_right, source_line
from regraft.pretrained.catalogue.base import APART, ORDERED
from regraft.pretrained.catalogue.read import HERE, SAME
from regraft.spec import TASKS

ROOT = Path(__file__).resolve().parents[2]
ALL = entries()
PREFIXES = {"image": ("timm",), "text": ("hf",), "audio": ("hf", "other")}
KINDS = {"permissive", "attribution", "weak-copyleft", "non-commercial", "custom", "unknown"}


def test_every_entry_has_a_name_a_licence_and_sources():
    assert len(ALL) == 770
    for name, entry in ALL.items():
        prefix, rest = name.split(":", 1)
        assert entry.name == name and rest and rest == rest.strip()
        assert entry.task in TASKS and prefix in PREFIXES[entry.task]
        assert entry.family
        assert entry.licence and entry.licence_kind in KINDS
        assert (entry.licence == "unknown") == (entry.licence_kind == "unknown")
        assert entry.sources and all(source_line(key) for key in entry.sources)


def test_names_differ_in_more_than_their_case():
    assert len({name.casefold() for name in ALL}) == len(ALL)


def test_numbers_are_positive_and_of_a_sensible_size():
    bounds = {
        "parameters": (1e4, 2e10),
        "gmacs": (0.005, 5000),
        "gmacs_224": (0.005, 5000),
        "input_size": (32, 2048),
        "max_tokens": (32, 1e6),
        "sample_rate": (8000, 192_000),
        "features": (16, 20_000),
        "amount": (10, 1e11),
    }
    for entry in ALL.values():
        for name, (low, high) in bounds.items():
            value = getattr(entry, name)
            assert value is None or low <= value <= high, (entry.name, name, value)
        assert bool(entry.amount) == bool(entry.unit)
        assert bool(entry.counted) == bool(entry.parameters)


def test_published_values_are_percentages_or_speeds():
    for entry in ALL.values():
        assert set(entry.values) <= set(VALUE_NAMES)
        for name, value in entry.values.items():
            assert 0 < value <= (math.inf if "a_second" in name else 100), (entry.name, name)
    assert set(HEADLINES.values()) <= set(VALUE_NAMES)


def test_transfer_results_lie_within_bounds_and_name_their_source():
    for entry in ALL.values():
        for result in entry.transfer:
            # mae is given times 100, and a correlation of errors may be negative
            low, high = {"mae": (0, 400), "mcc": (-100, 100)}.get(result.metric, (0, 100))
            assert low <= result.value <= high, (entry.name, result)
            assert result.std is None or 0 <= result.std <= 100
            assert result.n is None or 0 <= result.n <= 1e8
            assert (result.method == "zero-shot") == (result.n == 0)
            assert result.dataset and result.method and result.metric and result.split
            assert source_line(result.source)


def test_no_result_stands_twice():
    for entry in ALL.values():
        keys = [(t.dataset, t.n, t.setting, t.method, t.metric, t.split, t.source) for t in entry.transfer]
        assert len(keys) == len(set(keys)), entry.name


def test_sweeps_and_choices_made_on_the_test_part_are_not_there():
    for entry in ALL.values():
        for result in entry.transfer:
            assert "wise-ft" not in result.method and "[" not in result.dataset
            assert result.method != "transferability score"


def test_rows_that_are_known():
    resnet = ALL["timm:resnet50.tv_in1k"]
    assert (resnet.parameters, resnet.gmacs, resnet.input_size, resnet.features) == (23_508_000, 4.11, 224, 2048)
    assert resnet.values["imagenet_top1"] == pytest.approx(76.16, abs=0.1)
    assert (resnet.licence, resnet.licence_kind, resnet.amount, resnet.unit) == ("bsd-3-clause", "permissive", 1_281_167, "images")
    pets = [t.value for t in resnet.transfer if "Pets" in t.dataset and t.method == "full fine-tune" and t.setting == "full"]
    assert pets and min(pets) > 85
    e5 = ALL["hf:intfloat/multilingual-e5-small"]
    assert (e5.licence, e5.max_tokens, e5.features) == ("mit", 512, 384)
    assert e5.values["mteb_8_tasks"] == pytest.approx(70.7, abs=0.1)
    whisper = ALL["hf:openai/whisper-tiny"]
    assert (whisper.parameters, whisper.counted, whisper.sample_rate) == (8_210_000, "backbone", 16_000)
    assert ALL["timm:vit_small_patch14_dinov2.lvd142m"].values["imagenet_linear"] == 81.1
    assert ALL["hf:speechbrain/cnn14-esc50"].seen == ("ESC50",)
    assert any(t.seen for t in ALL["hf:speechbrain/cnn14-esc50"].transfer)


def test_licences_with_terms_of_their_own_are_not_permissive():
    for entry in ALL.values():
        if entry.licence_kind == "permissive":
            assert entry.licence in ("apache-2.0", "mit", "bsd-3-clause"), entry.name
    assert ALL["timm:vit_small_patch16_dinov3.lvd1689m"].licence_kind == "custom"


WITHIN_MTEB_8 = {
    *("AmazonCounterfactual", "Banking77", "Imdb", "MTOPDomain"),
    *("MassiveIntent", "MassiveScenario", "ToxicConversations", "TweetSentimentExtraction"),
}


@pytest.mark.parametrize(
    ("value", "task", "method"), [("imagenet_top1", "image", "full fine-tune"), ("mteb_8_tasks", "text", "linear probe")]
)
def test_how_often_published_values_order_networks_right_is_counted(value: str, task: str, method: str):
    told: dict[tuple[object, ...], dict[str, tuple[float, float]]] = {}
    for entry in entries().values():
        if entry.task != task or value not in entry.values:
            continue
        for t in entry.transfer:
            other = t.dataset not in WITHIN_MTEB_8 and "ImageNet" not in t.dataset and not t.seen
            if t.method == method and t.metric in ("top1", "accuracy") and other:
                way = (t.dataset, t.setting, t.n, t.source, t.split)
                told.setdefault(way, {}).setdefault(entry.name, (entry.values[value], t.value))
    right: dict[bool, list[bool]] = {False: [], True: []}
    for own in told.values():
        for (head, result), (other_head, other_result) in itertools.combinations(own.values(), 2):
            if head != other_head and result != other_result:
                right[abs(head - other_head) >= APART].append((head > other_head) == (result > other_result))
    found = tuple(round(sum(right[far]) / len(right[far]), 2) for far in (False, True))
    assert found == ORDERED[value] and HEADLINES[task] == value and len(right[False]) > 500


def test_what_is_known_of_an_order():
    one, other = (entry_of(f) for f in packaged.models()[:2])
    assert ordered_right(one, other) == ordered_right(other, one) == ORDERED["imagenet_top1"][0]
    text, sound = (next(entry_of(f) for f in packaged.models() if f.task == task) for task in ("text", "audio"))
    assert ordered_right(one, text) is None and ordered_right(sound, sound) is None


def test_the_day_and_the_size():
    assert len(gathered()) == 10 and gathered() >= "2026-11-23"
    assert sum((HERE / name).stat().st_size for name in ("networks.csv", "transfer.json", "sources.json")) < 400_000


def test_no_paths_of_a_machine_are_carried_along():
    for name in ("networks.csv", "transfer.json", "sources.json"):
        text = (HERE / name).read_text(encoding="utf-8")
        assert not any(word in text for word in ("/home/", "/content/", "/root/", "/Users/", "C:\\")), name


@pytest.mark.parametrize("facts", packaged.models(), ids=lambda f: f.name)
def test_networks_that_regraft_opens_have_an_entry(facts: ModelFacts):
    entry = entry_of(facts)
    assert (entry.name, entry.task, entry.parameters, entry.licence) == (facts.name, facts.task, facts.parameters, facts.licence)
    assert entry.licence_kind == "permissive" and entry.sources[0] == "package"
    assert all(source_line(key) for key in entry.sources)


@pytest.mark.parametrize(("mine", "theirs"), SAME.items())
def test_entries_for_the_same_weights_agree(mine: str, theirs: str):
    facts = next(f for f in packaged.models() if f.name == mine)
    twin = ALL[theirs]
    assert (facts.task, facts.features, facts.licence.casefold()) == (twin.task, twin.features, twin.licence.casefold())
    assert twin.parameters == pytest.approx(facts.parameters, rel=0.02)
    assert entry_of(facts).same_as == theirs


def test_a_network_whose_source_tells_less_keeps_what_the_catalogue_knows():
    bare = ModelFacts("timm:resnet50.tv_in1k", "image", "", "", "", "", "", 0, 0, 16, {}, {})
    entry, twin = entry_of(bare), ALL["timm:resnet50.tv_in1k"]
    assert isinstance(entry, Entry) and entry.same_as == ""
    assert (entry.parameters, entry.features, entry.trained_on, entry.published, entry.licence) == (
        *(twin.parameters, twin.features, twin.trained_on),
        *(twin.published, twin.licence),
    )
    assert entry.licence_kind == twin.licence_kind


# ---------------------------------------------------------------- carrying the facts over


@pytest.fixture(scope="module")
def carry():
    path = ROOT / "docs/carry_catalogue.py"
    if not path.is_file():
        pytest.skip("docs/ is not here")
    spec = importlib.util.spec_from_file_location("carry_catalogue", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def evidence(**more: str) -> dict[str, str]:
    row = dict.fromkeys(("n_train", "train_setting", "std", "n_runs", "protocol"), "")
    return {
        **row,
        "catalogue_id": "a",
        "dataset": "D",
        "method": "lora",
        "metric": "top1",
        "value": "50",
        "split": "test",
        "source": "s",
        **more,
    }


def kept(carry, *rows: dict[str, str]) -> list[list[float]]:
    lines, _ = carry.transfer([*rows], {"a": "timm:a"})
    return lines.get("timm:a", [])


@pytest.mark.parametrize(
    "more",
    [
        {"catalogue_id": "b"},
        {"method": "transferability score"},
        {"metric": "fit_time_s"},
        {"dataset": "D [de]"},
        {"method": "lora + wise-ft"},
        {"method": "lora r=8"},
        {"protocol": "petl|best val over other settings;lr=1"},
        {"protocol": "clip_benchmark-best-of-9|lr=1"},
    ],
    ids=str,
)
def test_results_that_are_left_out(carry, more: dict[str, str]):
    assert kept(carry, evidence(**more)) == []


def test_of_several_tellings_the_one_with_most_runs_or_the_middle_stays(carry):
    assert kept(carry, evidence(value="50"), evidence(value="70", n_runs="5", std="1.234"), evidence(value="90")) == [
        [0, 0, None, 70, 1.23]
    ]
    assert kept(carry, *(evidence(value=v) for v in ("10", "60", "50"))) == [[0, 0, None, 50]]
    assert kept(carry, *(evidence(value=v) for v in ("60", "50"))) == [[0, 0, None, 50]]
    assert len(kept(carry, evidence(n_train="10"), evidence(n_train="20"))) == 2


def test_the_order_of_rows_changes_nothing(carry):
    rows = [evidence(value=str(v), dataset=d, n_train=n) for v in (10, 20, 30) for d in "CAB" for n in ("", "5")]
    assert carry.transfer(rows, {"a": "timm:a"}) == carry.transfer(rows[::-1], {"a": "timm:a"})


def test_sources_are_keys_without_remarks(carry):
    assert carry.source_keys("x README (a; (b) c); mteb-results; x README") == "x README; mteb-results"


def test_the_files_are_as_the_script_writes_them():
    with (HERE / "networks.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(ALL)
    held = json.loads((HERE / "transfer.json").read_text(encoding="utf-8"))
    assert held["datasets"] == sorted(held["datasets"]) and held["ways"] == sorted(held["ways"])
    assert set(held) - {"datasets", "ways"} <= set(ALL)
    assert sum(len(lines) for name, lines in held.items() if name in ALL) == sum(len(e.transfer) for e in ALL.values())
