"""What `regraft models` shows: a list that fits, one network whole, and what is said when nothing fits."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

import regraft
from regraft.cli.models import cut, data, licence_line, listed, many, size
from regraft.errors import UsageError
from regraft.jobs import networks
from regraft.pretrained import SOURCES, packaged

WIDE = """\
name                                        params  GMACs  published                           trained on                licence     here
timm:vit_small_patch14_dinov2.lvd142m       22.1 M   46.8  81.1 % top-1 on ImageNet-1k, line…  LVD-142M (nominally 142…  apache-2.0  facts
timm:vit_small_patch14_reg4_dinov2.lvd142m  22.1 M     47  80.9 % top-1 on ImageNet-1k, line…  LVD-142M (nominally 142…  apache-2.0  facts
""".splitlines()

NARROW = """\
name                                        params  licence     here
timm:vit_small_patch14_dinov2.lvd142m       22.1 M  apache-2.0  facts
timm:vit_small_patch14_reg4_dinov2.lvd142m  22.1 M  apache-2.0  facts
""".splitlines()


@pytest.fixture(autouse=True)
def packaged_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown here is that of a regraft that opens packaged networks alone, whatever sources there are."""
    monkeypatch.setattr(networks, "SOURCES", {"packaged": packaged.SOURCE})
    monkeypatch.setattr(networks, "all_models", packaged.models)


def lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines()


def shown(width: int, **asked: Any) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(listed(regraft.models(sort="accuracy", **asked), width))
    return [line.rstrip() for line in lines(out.getvalue())]


def test_a_list_on_a_wide_screen():
    assert shown(138, words="dinov2 small") == WIDE


def test_the_same_list_on_a_narrow_screen():
    assert shown(70, words="dinov2 small") == NARROW


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_screen_and_every_network_has_one(width: int):
    asked = {"task": "image", "limit": 12}
    found = shown(width, **asked)
    assert all(len(line) <= width for line in found)
    assert found[0].split()[0] == "name" and "licence" in found[0] and "here" in found[0]
    if width >= 100:
        assert len(found) == 13


def test_a_narrow_list_keeps_figures_of_one_kind_only():
    wide, narrow = shown(200, words="multilingual-e5-large"), shown(70, words="multilingual-e5-large")
    (without,) = [line for line in wide if "mean of the languages" in line]
    assert without.startswith("hf:intfloat/multilingual-e5-large ")
    assert not any("60.1" in line for line in narrow)
    assert any("75.5 %" in line for line in narrow)


def test_nothing_asked_for_lists_what_can_be_opened_and_says_what_more_is_known(command: Any):
    answer = command("models")
    assert (answer.code, answer.err) == (0, "")
    said = lines(answer.out)
    assert said[0].split()[:3] == ["name", "task", "params"]
    assert [line.split()[0] for line in said[1:8]] == [m["name"] for m in regraft.models()]
    assert said[-1] == ("the catalogue knows 770 more: regraft models WORDS, or an option such as --task image; NAME shows one whole")


def test_a_search_says_how_many_more_fit(command: Any):
    said = lines(command("models", "--task", "image", "--max-params", "30M", "--licence", "permissive", "--limit", "5").out)
    assert len([line for line in said if line.startswith(("timm:", "packaged:"))]) == 5
    (more,) = [line for line in said if "more fit" in line]
    total = len(regraft.models(task="image", max_params="30M", licence="permissive"))
    assert more == f"{total - 5:,} more fit; --limit {total} shows all, --json for a program"
    assert "facts: this regraft knows what was published of the network, and cannot open it" in said


def test_what_has_no_published_number_is_counted(command: Any):
    said = command("models", "--task", "audio", "--max-gmacs", "5").out
    assert "no network fits all that was asked for" in said
    assert "more left out: nobody published their GMACs" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convnxt"], "no network has 'convnxt' in its name or training data; did you mean 'convnext'?"),
        (["zzzzq"], "no network has 'zzzzq' in its name or training data"),
        (["resnet", "wikipedia"], "no network has all of 'resnet', 'wikipedia'"),
    ],
    ids=lambda w: " ".join(w)[:20],
)
def test_words_that_nothing_has(command: Any, words: list[str], message: str):
    answer = command("models", *words)
    assert (answer.code, answer.out, answer.err) == (0, message + "\n", "")
    assert command("models", *words, "--json").json == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-params", "30X"], "error: --max-params 30X: expected a number above 0, such as 30M, 1.5G or 300k"),
        (["--max-gmacs", "-1"], "error: --max-gmacs -1: expected a number above 0, such as 5 or 0.5"),
        (["--limit", "0"], "error: --limit 0: expected at least 1"),
        (
            ["--sort", "acuracy"],
            "error: --sort acuracy: expected accuracy, params, gmacs, features, results, name. did you mean 'accuracy'?",
        ),
        (
            ["--licence", "permisive"],
            "error: --licence permisive: expected attribution, custom, non-commercial, permissive, unknown, weak-copyleft,"
            " or a licence such as mit. did you mean 'permissive'?",
        ),
    ],
    ids=lambda w: " ".join(w)[:20],
)
def test_options_that_cannot_be_meant(command: Any, words: list[str], message: str):
    answer = command("models", *words)
    assert (answer.code, answer.out, answer.err) == (2, "", message + "\n")


def test_one_network_whole(command: Any):
    answer = command("models", "timm:resnet50.tv_in1k", "--limit", "2")
    assert (answer.code, answer.err) == (0, "")
    said = lines(answer.out)
    for wanted in (
        "name         timm:resnet50.tv_in1k",
        "here         no, facts only: this regraft cannot open it",
        "trained on   ImageNet-1k (1.28 million images)",
        "parameters   23.5 M without the output layer",
        "GMACs        4.11 for one image",
        "input        224 px",
        "licence      bsd-3-clause (permissive)",
        "    76.16  % top-1 on ImageNet-1k",
        "CIFAR-10     full      linear probe    91.47  top1            test  ssl-transfer",
    ):
        assert wanted in said, (wanted, said)
    assert any(line.endswith("more results: --limit 152") for line in said)
    assert "source            gathered 2026-11-23" in said
    assert any(line.startswith("results-imagenet  huggingface/pytorch-image-models") for line in said)


def test_one_packaged_network_whole_has_its_own_facts_and_those_of_the_same_weights(command: Any):
    said = command("models", "EfficientNet-Lite0").out
    assert "same weights  timm:tf_efficientnet_lite0.in1k" in said
    assert "published     75.1 % top-1 on ImageNet-1k" in said
    assert "74.85  % top-1 on ImageNet-1k" in said
    assert "same weights  packaged:efficientnet-lite0" in command("models", "timm:tf_efficientnet_lite0.in1k").out
    assert "package           what the network's own package and papers say; see origin" in said


def test_every_network_can_be_shown_whole():
    from regraft.cli.models import whole

    console = Console(file=io.StringIO(), width=100)
    for row in regraft.models(sort="name"):
        console.print(*whole(row, 3), sep="\n")


def test_json_is_whole_and_names_are_found_alone(command: Any):
    (one,) = command("models", "timm:resnet50.tv_in1k", "--json").json
    assert one["transfer"] and one["values"]["imagenet_top1"] and one["sources"]
    assert (one["openable"], one["here"], one["install"]) == (False, False, "")
    assert len(command("models", "--sort", "name", "--json").json) == 777
    assert len(command("models", "resnet50", "--json", "--limit", "3").json) == 3


def test_python_and_the_command_line_answer_alike(command: Any):
    asked = command("models", "vit", "small", "--max-gmacs", "5", "--trained-on", "laion", "--json").json
    assert asked == regraft.models("vit small", max_gmacs=5, trained_on="laion")
    assert regraft.models(["vit", "small"]) == regraft.models("vit small")
    with pytest.raises(UsageError, match="--limit 0"):
        regraft.models(limit=0)


def test_networks_become_openable_when_a_source_has_their_prefix(monkeypatch: pytest.MonkeyPatch):
    assert not regraft.models("timm:resnet50.tv_in1k")[0]["openable"]
    monkeypatch.setattr(networks, "SOURCES", {"packaged": packaged.SOURCE, "timm": packaged.SOURCE})
    assert regraft.models("timm:resnet50.tv_in1k")[0]["openable"]
    assert not regraft.models("hf:openai/whisper-tiny")[0]["openable"]


def test_a_source_that_lists_a_network_of_the_catalogue_has_the_first_word(monkeypatch: pytest.MonkeyPatch):
    facts = dataclasses.replace(packaged.models()[0], name="timm:resnet50.tv_in1k", licence="MIT")
    source = dataclasses.replace(packaged.SOURCE, name="timm", models=lambda: [facts], missing=lambda _: "")
    monkeypatch.setitem(SOURCES, "timm", source)
    monkeypatch.setattr(networks, "SOURCES", SOURCES)
    monkeypatch.setattr(networks, "all_models", lambda: [facts])
    (row,) = regraft.models("timm:resnet50.tv_in1k")
    assert (row["here"], row["openable"], row["licence"], row["same_as"]) == (True, True, "MIT", "")
    assert row["gmacs"] == 4.11 and row["transfer"]
    assert [m["name"] for m in regraft.models("resnet50", here=True)] == ["timm:resnet50.tv_in1k"]


def test_the_answer_imports_no_network_library():
    code = "import sys; sys.argv = ['regraft', 'models', 'resnet', '--limit', '1']\ntry:\n    from regraft.cli.main import main; main()\n"
    code += "finally:\n    print(sorted({'torch', 'timm', 'transformers', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, lines(done.stderr)[-1]) == (0, "[]"), done


def test_cells():
    assert [size(n) for n in (None, 700_000, 23_508_000, 1_134_050_000)] == ["", "0.7 M", "23.5 M", "1.13 G"]
    assert [many(n) for n in (960, 5_054, 1_281_167, 5_400_000_000)] == ["960", "5,054", "1.28 million", "5.4 billion"]
    assert (cut("short", 9), cut("a, bc def", 4), cut("abcdef", 4)) == ("short", "a…", "abc…")
    assert data({"trained_on": "A > B", "amount": 1000, "unit": "hours", "amount_is_nominal": True}) == (
        "A, then B (nominally 1,000 hours of the first)"
    )
    assert licence_line({"licence": "x", "licence_kind": "custom"}) == "x (terms of its own: read them)"
    assert licence_line({"licence": "unknown", "licence_kind": "unknown"}) == "unknown (what was read states none)"
