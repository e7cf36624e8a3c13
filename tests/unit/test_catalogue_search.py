"""Finding and ordering entries of the catalogue; every rule on a few made-up entries."""

from __future__ import annotations

import pytest

from regraft.errors import UsageError
from regraft.pretrained.catalogue import Entry, Wanted, exactly, number_of, search
from regraft.pretrained.catalogue.base import in_words, squash


def entry(name: str, task: str = "image", licence: str = "mit", kind: str = "permissive", trained_on: str = "ImageNet-1k", **more) -> Entry:
    return Entry(name, task, more.pop("family", ""), trained_on, licence, kind, ("s",), **more)


SMALL = entry("timm:convnextv2_atto.a", family="ConvNeXt V2", parameters=3_000_000, gmacs=0.5, values={"imagenet_top1": 76.0})
LARGE = entry("timm:vit_large.laion", family="ViT", parameters=300_000_000, gmacs=60.0, trained_on="LAION-2B > ImageNet-1k")
LARGE_BETTER = entry("timm:vit_large.b", family="ViT", parameters=300_000_000, gmacs=60.0, values={"imagenet_top1": 88.0})
UNKNOWN = entry("timm:odd", family="Odd", licence="x-terms", kind="custom")
TEXT = entry("hf:org/Text-Base", "text", parameters=110_000_000, trained_on="Wikipedia, 104 languages", values={"mteb_8_tasks": 70.0})
SOUND = entry("other:AVES/aves", "audio", "unknown", "unknown", "xeno-canto", domain="bioacoustics")
ALL = [UNKNOWN, LARGE, SOUND, TEXT, SMALL, LARGE_BETTER]


def names(wanted: Wanted, here: tuple[str, ...] = ()) -> list[str]:
    return [e.name.split(":")[1] for e in search(ALL, wanted, here).entries]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(("convnext",)), ["convnextv2_atto.a"]),
        (Wanted(("ConvNeXt-V2",)), ["convnextv2_atto.a"]),
        (Wanted(("VIT", "laion")), ["vit_large.laion"]),
        (Wanted(("vit", "wikipedia")), []),
        (Wanted(("bio",)), ["AVES/aves"]),
        (Wanted(("104 languages",)), ["org/Text-Base"]),
        (Wanted(task="audio"), ["AVES/aves"]),
        (Wanted(trained_on="laion"), ["vit_large.laion"]),
        (Wanted(trained_on="imagenet1k", max_gmacs=1), ["convnextv2_atto.a"]),
        (Wanted(licence="custom"), ["odd"]),
        (Wanted(licence="X-Terms"), ["odd"]),
        (Wanted(licence="unknown"), ["AVES/aves"]),
        (Wanted(max_params=3e6), ["convnextv2_atto.a"]),
        (Wanted(max_params=2_999_999), []),
    ],
    ids=str,
)
def test_what_fits(wanted: Wanted, found: list[str]):
    assert names(wanted) == found


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        (None, ["vit_large.b", "convnextv2_atto.a", "odd", "vit_large.laion", "org/Text-Base", "AVES/aves"]),
        ("accuracy", ["vit_large.b", "convnextv2_atto.a", "odd", "vit_large.laion", "org/Text-Base", "AVES/aves"]),
        ("params", ["convnextv2_atto.a", "org/Text-Base", "vit_large.b", "vit_large.laion", "AVES/aves", "odd"]),
        ("gmacs", ["convnextv2_atto.a", "vit_large.b", "vit_large.laion", "odd", "org/Text-Base", "AVES/aves"]),
        ("name", ["org/Text-Base", "AVES/aves", "convnextv2_atto.a", "odd", "vit_large.b", "vit_large.laion"]),
    ],
)
def test_orders_have_what_is_missing_last(sort: str | None, found: list[str]):
    assert names(Wanted(sort=sort)) == found


def test_what_is_here_comes_first_unless_an_order_was_asked_for():
    assert names(Wanted(task="image"), ("timm:odd",))[0] == "odd"
    assert names(Wanted(task="image", sort="accuracy"), ("timm:odd",))[0] == "vit_large.b"
    assert names(Wanted(here=True), ("timm:odd",)) == ["odd"]


def test_numbers_that_nobody_published_are_counted_not_passed_over_silently():
    found = search(ALL, Wanted(max_params=1e9, max_gmacs=100))
    assert [e.name for e in found.entries] == ["timm:vit_large.b", "timm:convnextv2_atto.a", "timm:vit_large.laion"]
    assert found.unknown == {"parameters": 2, "gmacs": 3}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(("vit",)), ""),
        (Wanted(("convnxt",)), "no network has 'convnxt' in its name or training data; did you mean 'convnext'?"),
        (Wanted(("0000",)), "no network has '0000' in its name or training data"),
        (Wanted(("vit", "wikipedia")), "no network has all of 'vit', 'wikipedia'"),
        (Wanted(("vit",), task="audio"), "no network fits all that was asked for; 2 networks fit the words alone"),
        (Wanted(task="audio", licence="mit"), "no network fits all that was asked for"),
    ],
    ids=str,
)
def test_why_nothing_was_found(wanted: Wanted, said: str):
    assert search(ALL, wanted).said == said


@pytest.mark.parametrize(
    ("given", "number"),
    [
        *(("30M", 30e6), ("30m", 30e6), ("1.5G", 1.5e9), ("1.5B", 1.5e9), ("300k", 300e3), (" 7 ", 7), (".5G", 0.5e9), ("1,000", 1000)),
        *(("30_000_000", 30e6), (30_000_000, 30e6), (0.5, 0.5), ("3e7", 3e7), (1e30, 1e30), (None, None)),
    ],
)
def test_sizes_as_people_write_them(given: float | str | None, number: float | None):
    assert number_of("--max-params", given, "30M") == (None if number is None else pytest.approx(number))


@pytest.mark.parametrize(
    "given", ["", "M", "30X", "30MB", "-3", -3, 0, "0", "nan", "inf", float("nan"), float("inf"), "1.2.3", "ten", True]
)
def test_sizes_that_cannot_be_meant(given: float | str):
    with pytest.raises(UsageError, match="expected a number above 0, such as 30M"):
        number_of("--max-params", given, "30M")


def test_options_that_cannot_be_meant_are_all_named():
    with pytest.raises(UsageError) as error:
        search(ALL, Wanted(task="video", sort="size", licence="permisive", trained_on="-"))
    assert [fault.split(":")[0] for fault in error.value.faults] == [
        *("--task video", "--sort size", "--licence permisive"),
        "--trained-on is empty",
    ]
    assert error.value.faults[2].endswith("or a licence such as mit. did you mean 'permissive'?")


@pytest.mark.parametrize(
    ("word", "name"),
    [("timm:odd", "timm:odd"), ("ODD", "timm:odd"), ("org/text-base", "hf:org/Text-Base"), ("od", None), ("timm", None), ("", None)],
)
def test_exact_names(word: str, name: str | None):
    found = exactly(ALL, word)
    assert (found.name if found else None) == name


def test_signs_as_words():
    assert squash("ConvNeXt-V2 / naïve") == "convnextv2naïve"
    assert in_words("ImageNet-22k > ImageNet-1k") == "ImageNet-22k, then ImageNet-1k"
    assert in_words("self+labels") == "self, labels"
    assert in_words("core + AudioSet") == "core, AudioSet"
    assert in_words("C4") == "C4"
