"""Settings and rungs as people write them: what is taken, what is refused, what follows from what."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from regraft.errors import DataError, UsageError
from regraft.jobs.rungs import asked_settings, setting_values, written_rung
from regraft.strategy.rungs import RUNGS, Rung, rung_from, rung_of
from regraft.strategy.settings import (
    LIMITS,
    MIXUP_FROM,
    SCALES,
    Settings,
    changed,
    checked,
    mixup_for,
    precision_for,
    settings_for,
    weight_decay_for,
    worth_timing,
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rungs.md").read_text(encoding="utf-8")


def test_every_setting_has_limits_and_a_line_in_the_docs():
    assert set(LIMITS) == {f.name for f in fields(Settings)}
    for name, limit in LIMITS.items():
        assert f"| `{name}` |" in PAGE and limit.about in PAGE


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("lr", "1e-3", 1e-3),
        ("lr", 0.01, 0.01),
        ("epochs", "5", 5),
        ("epochs", 5.0, 5),
        ("adapt", "True", True),
        ("wise", False, False),
        ("precision", "bf16", "bf16"),
        ("layer_decay", "1", 1.0),
    ],
)
def test_values_get_their_types(name, value, taken):
    found, faults = checked({name: value}, "--set")
    assert not faults and found == {name: taken} and type(found[name]) is type(taken)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("lr", "0", "a number above 0 and at most 10"),
        ("lr", "fast", "a number above 0"),
        ("lr", "nan", "a number above 0"),
        ("lr", True, "a number above 0"),
        ("epochs", "2.5", "a whole number from 1 to 10,000"),
        ("batch", "0", "from 1 to 65,536"),
        ("adapt", "1", "true or false"),
        ("precision", "fp16", "fp32 or bf16 or auto"),
        ("ema", 1, "from 0 to 0.99999"),
        ("eposch", 3, "did you mean 'epochs'?"),
        ("zzz", 3, "There are epochs, batch, lr"),
        ("warm_up", [1], "from 0 to 0.9"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(name, value, says):
    found, faults = checked({name: value}, "--set")
    assert not found and len(faults) == 1 and says in faults[0] and faults[0].startswith(f"--set {name}")


def test_all_faults_are_told_at_once():
    with pytest.raises(UsageError) as error:
        asked_settings(["lr=-1", "eposch=3", "batch", "mixup=0.1", "cutmix=1"])
    assert len(error.value.faults) == 4 and error.value.exit_code == 2


def test_settings_of_a_spec_are_those_that_were_asked_for():
    texts = asked_settings({"lr": 1e-3, "adapt": True, "precision": "bf16"})
    assert texts == ("lr=0.001", "adapt=true", "precision=bf16")
    assert setting_values(texts) == {"lr": 1e-3, "adapt": True, "precision": "bf16"}
    assert asked_settings(["lr=find", "epochs=3", "epochs=4"]) == ("find=true", "epochs=4")


def test_what_follows_from_a_setting():
    usual = settings_for(500, convolutions=True, whole=False)
    assert changed(usual, {"lr": 10 * usual.lr}).weight_decay == pytest.approx(usual.weight_decay / 10)
    assert changed(usual, {"lr": 1e-3, "weight_decay": 0.2}).weight_decay == 0.2
    assert changed(usual, {"epochs": 3}, {"epochs": 4}).epochs == 4
    pulled = changed(usual, {"l2_sp": 5.0})
    assert pulled.l2_sp_head == 0.5 and pulled.weight_decay == 0


@pytest.mark.parametrize(("lr", "decay"), [(1e-4, 0.01), (1e-3, 0.001), (1e-5, 0.1), (1e-9, 0.3)])
def test_weight_decay_goes_with_the_rate(lr, decay):
    assert weight_decay_for(lr, 1e-4) == pytest.approx(decay)


@pytest.mark.parametrize(
    ("examples", "images", "whole", "mixup"),
    [(MIXUP_FROM, True, True, 0.1), (MIXUP_FROM - 1, True, True, 0.0), (10**6, False, True, 0.0), (10**6, True, False, 0.0)],
)
def test_mixup_by_the_rule(examples, images, whole, mixup):
    assert mixup_for(examples, images=images, whole=whole) == mixup
    assert settings_for(examples, convolutions=True, whole=whole, images=images).mixup == mixup


def test_scales_alone_get_a_higher_rate():
    one, other = (settings_for(200, convolutions=False, whole=False, scales=scales) for scales in (False, True))
    assert other.lr == SCALES * one.lr


@pytest.mark.parametrize(("fp32", "bf16", "taken"), [(1.0, 0.5, "bf16"), (1.0, 0.8, "bf16"), (1.0, 0.85, "fp32"), (1.0, 2.0, "fp32")])
def test_the_precision_that_is_clearly_faster(fp32, bf16, taken):
    assert precision_for(fp32, bf16) == taken
    assert worth_timing(1.0, 60) and not worth_timing(0.5, 60)


def test_a_rung_of_ones_own(tmp_path):
    file = tmp_path / "gentle.yaml"
    file.write_text("trains: last 2  blocks, head\nhow: gently\nsettings:\n  lr: 1e-4\n  layer_decay: 0.7\n")
    rung = rung_of(written_rung(str(file)))
    assert rung == Rung("gentle", "last 2 blocks, head", "gently", {"lr": 1e-4, "layer_decay": 0.7}) and not rung.whole
    assert rung_of(written_rung(rung)) == rung == rung_from(rung.to_json(), "other")
    assert written_rung("top=2") == "top=2" and rung_of(written_rung({"trains": "all"})).whole
    assert all(rung_of(written_rung(known)) == known for known in RUNGS.values())


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("- a\n", 0),
        ("train: all\n", 2),
        ("trains: ''\nsettings: {lr: 0, lrr: 1}\n", 3),
        ("trains: all\nsettings: fast\n", 1),
        ("trains: all\nname: 3\n", 1),
        ("trains: all\nname: head\n", 1),
    ],
)
def test_a_rung_that_cannot_be_is_refused_whole(tmp_path, text, count):
    file = tmp_path / "bad.yml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        written_rung(str(file))
    assert len(error.value.faults) == count and "bad" in error.value.found


def test_a_record_with_the_name_of_a_rung_is_refused():
    with pytest.raises(UsageError, match="head is a rung that there is already"):
        rung_of(written_rung(Rung("head", "last 2 blocks, head")))


def test_files_that_are_no_rung(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        written_rung(str(tmp_path / "none.yaml"))
    (tmp_path / "x.yaml").write_text("a: &a [*a]\nb: *a\n")
    with pytest.raises(DataError, match="cannot be read as a rung"):
        written_rung(str(tmp_path / "x.yaml"))
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        rung_of("{trains")
    with pytest.raises(UsageError, match="there is no such setting"):
        Rung("a", "all", settings={"lrr": 1})
