"""docs/cut.md: every example on the page is run and prints what the page shows, and the picture is that of the cut that is found now."""

from __future__ import annotations

import importlib.util
import re

import pytest
from test_docs_data import ROOT, run_console, run_python, sections
from test_docs_data import blocks as blocks_of

PAGE = (ROOT / "docs/cut.md").read_text(encoding="utf-8")
SECTIONS = {heading: found for heading, body in sections(PAGE) if (found := blocks_of(body))}

pytestmark = pytest.mark.weights


@pytest.mark.long
@pytest.mark.parametrize("heading", list(SECTIONS))
def test_examples(heading, command):
    names: dict[str, object] = {}
    for block in SECTIONS[heading]:
        if block.language == "console":
            run_console(block.text, command, heading)
        else:
            run_python(block.text, names, heading)


def test_every_block_is_run():
    assert sum(map(len, SECTIONS.values())) == PAGE.count("\n```") / 2 == 2


@pytest.mark.long
def test_the_picture_is_that_of_the_cut():
    spec = importlib.util.spec_from_file_location("draw_cut", ROOT / "docs/draw_cut.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.drawn() == (ROOT / "docs/cut.svg").read_text(encoding="utf-8")


def test_the_table_says_what_is_found():
    from regraft.jobs.network import show_model
    from regraft.pretrained import find_model

    rows = re.findall(r"^\| (efficientnet-lite0)? *\| (.+?) \| (\S+) \| \S+ \| ([\d,]+) \| ([\d.]+) % \|$", PAGE, re.MULTILINE)
    name, train, after, kept, saved = rows[0]
    cut = show_model(find_model(name), train=train, cut=True)["cut"]
    assert (cut["after"], f"{cut['bytes']:,}", f"{100 * cut['saved']:.1f}") == (after, kept, saved)
