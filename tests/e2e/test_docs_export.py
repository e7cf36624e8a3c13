"""docs/export.md: every example on the page is run, and prints what the page shows. How a page is read: test_docs_data.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_docs_data import ROOT, make_files, run_console, run_python, sections
from test_docs_data import blocks as blocks_of

PAGE = (ROOT / "docs/export.md").read_text(encoding="utf-8")
SECTIONS = {heading: blocks_of(body) for heading, body in sections(PAGE)}

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.weights


@pytest.mark.long
@pytest.mark.parametrize("heading", [h for h, found in SECTIONS.items() if found])
def test_examples(heading, command):
    for block in SECTIONS[heading]:
        if block.language == "files":
            make_files(block.text)
        elif block.language == "console":
            run_console(block.text, command, heading)
        else:
            run_python(block.text, {}, heading)
    if heading == "Use it":
        table = {name for line in PAGE.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}
        held = set(json.loads(Path("runs/photos/onnx/model.json").read_text(encoding="utf-8")))
        assert held - table == {"format", "kind", "opset", "task", "versions"} and table <= held
