"""Old classes by their names."""

from __future__ import annotations

import pytest

from regraft.strategy.naming import compared, match_names

OLD = ("ant, emmet, pismire", "bee", "crane (n02012849)", "crane (n03126707)", "sports car, sport car", "glass", "Black Widow")


@pytest.mark.parametrize(
    ("label", "group"),
    [
        ("ants", (0,)),
        ("EMMET", (0,)),
        ("Bees", (1,)),
        ("cranes", (2, 3)),
        ("sport_car", (4,)),
        ("sports  cars", (4,)),
        ("glass", (5,)),
        ("black_widows", (6,)),
        ("car", ()),
        ("beetle", ()),
        ("", ()),
    ],
)
def test_a_label_finds_the_classes_of_its_name(label, group):
    found = match_names([label, "zebra"], [*OLD, "zebra"])
    assert found.groups == (group, (7,))
    assert found.complete == bool(group)


def test_two_labels_of_one_name_have_no_class():
    found = match_names(["bee", "Bees", "ant"], OLD)
    assert found.groups == ((), (), (0,)) and found.unmatched == ("bee", "Bees")


def test_one_letter_and_double_s_stay():
    assert compared("S") == "s" and compared("Glass") == "glass" and compared("dress_es") == "dress e"
