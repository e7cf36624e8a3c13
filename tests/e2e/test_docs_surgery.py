"""docs/surgery.md: every example on the page is run, and prints what the page shows. How a page is read: test_docs_data.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_docs_data import ROOT, make_files, run_console, run_python, sections
from test_docs_data import blocks as blocks_of

from regraft.anatomy.notation import KINDS
from regraft.anatomy.operations import OPERATIONS
from regraft.anatomy.select import WORDS

PAGE = (ROOT / "docs/surgery.md").read_text(encoding="utf-8")
BODIES = dict(sections(PAGE))
SECTIONS = {heading: blocks_of(body) for heading, body in BODIES.items()}

pytestmark = pytest.mark.weights


@pytest.mark.long
@pytest.mark.parametrize("heading", [h for h, found in SECTIONS.items() if found])
def test_examples(heading, command):
    names: dict[str, object] = {}
    for block in SECTIONS[heading]:
        if block.language == "files":
            make_files(block.text)
        elif block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            run_console(block.text, command, heading)
        else:
            run_python(block.text, names, heading)


def test_every_block_is_run():
    assert sum(map(len, SECTIONS.values())) == PAGE.count("\n```") / 2
    assert all(b.file or b.language in ("files", "console", "python") for found in SECTIONS.values() for b in found)
    assert len(SECTIONS) == len(re.findall(r"^##+ ", PAGE, re.MULTILINE))


def first_cells(heading: str) -> list[str]:
    """The names in the first column of the table under a heading."""
    rows = [line.split("|")[1] for line in BODIES[heading].splitlines() if line.startswith("|")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_operation_is_in_the_table():
    assert set(first_cells("A recipe in a file")) == {*OPERATIONS, "freeze", "unfreeze", "train"}


def test_every_argument_of_an_operation_is_in_the_table():
    for line in BODIES["A recipe in a file"].splitlines():
        name, _, takes = line.strip("| ").partition(" | ")
        if name.strip("`") in OPERATIONS:
            name = name.strip("`")
            assert set(re.findall(r"`(\w+)`", takes)) - {name} == {*OPERATIONS[name].required, *OPERATIONS[name].optional}


def test_every_form_of_a_selection_is_tried():
    tried = re.findall(r'net\.select\("([^"]+)"\)', BODIES["Choose layers"])
    assert set(first_cells("Choose layers")) - set(tried) == {"blocks", "neck", "all", "*"}
    assert set(WORDS) <= set(first_cells("Choose layers"))


def test_every_layer_that_can_be_written_is_named():
    said = BODIES["Replace"].split("There are ")[1].split(".")[0]
    assert set(re.findall(r"`(\w+)`", said)) == {"Sequential", *KINDS}
