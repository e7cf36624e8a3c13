"""The page that a fit leaves, and `regraft report`."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

import regraft
from regraft.errors import RunError

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory, make_images):
    """Pictures of which some lie in the wrong folder."""
    folder = make_images(tmp_path_factory.mktemp("report") / "photos", count=8)
    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    for number, picture in enumerate(sorted(classes[0].iterdir())[:2]):
        picture.rename(classes[1] / f"moved-{number}.png")
    return folder


def test_a_fit_leaves_a_page_with_its_mistakes_to_be_seen(mistaken, command, tmp_path):
    answer = command("fit", mistaken, "--threads", "1", "--out", "run")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    moved = [name for name in ("moved-0.png", "moved-1.png") if name in page]
    assert answer.code == 0 and moved and page.count("data:image/jpeg;base64,") >= len(moved)
    assert regraft.open_run("run").result["labels"][0] in page

    again = command("report", "run", "--json", "--out", "other.html").json
    assert again["file"] == "other.html" and again["shown"] >= len(moved) and again["mistakes"] >= again["shown"]
    # the same, and what takes a moment to make of the features in the store
    other = (tmp_path / "other.html").read_text(encoding="utf-8")
    sections = lambda text: re.findall(r"<h2>(.*?)</h2>", text)
    assert [title for title in sections(other) if title in sections(page)] == sections(page)
    assert all(f"data:image/jpeg;base64,{held}" in other for held in re.findall(r"data:image/jpeg;base64,([^\"]+)", page))

    # the data lies elsewhere now
    shutil.copytree(mistaken, tmp_path / "elsewhere")
    spec = tmp_path / "run" / "spec.json"
    spec.write_text(spec.read_text().replace(str(mistaken), str(tmp_path / "gone")))
    lost = command("report", "run", "--out", "lost.html")
    assert lost.code == 0 and "the examples are not shown" in lost.err and "--data" in lost.err
    assert "data:image" not in (tmp_path / "lost.html").read_text(encoding="utf-8")
    found = command("report", "run", "--data", tmp_path / "elsewhere", "--out", "found.html", "--json").json
    assert found["shown"] == again["shown"]

    assert command("report", "run/bundle").code == 1 and "holds no figures" in command("report", "run/bundle").err
    assert command("report", "nothing").code == 1


def test_of_data_in_memory_the_page_shows_what_it_was_given(make_tone):
    rng = np.random.default_rng(0)
    sounds = [(make_tone(220 * (1 + i % 2) + i, 0.5), "low" if i % 2 == 0 else "high") for i in range(16)]
    noise = [((rng.normal(0, 0.1, 8000).astype(np.float32), 16_000), "low" if i % 2 else "high") for i in range(6)]
    data = [*[((samples, 16_000), label) for samples, label in sounds], *noise]
    run = regraft.fit(data, threads=1, out="run")
    page = (run.path / "report.html").read_text(encoding="utf-8")
    wrong = run.result["estimate"]["accuracy"]["value"] < 1
    assert ('class="wave"' in page) == wrong
    heard: list[str] = []
    regraft.report(run.path, on_event=lambda event: heard.append(getattr(event, "message", "")))
    assert any("data in memory" in line for line in heard)
    assert regraft.report(run.path, data=data)["shown"] == page.count('class="wave"')
    with pytest.raises(RunError):
        regraft.report("nothing")


def test_a_page_that_cannot_be_written_takes_nothing_from_the_run(mistaken, command, monkeypatch, tmp_path):
    import regraft.evaluation.report.figures as figures

    monkeypatch.setattr(figures, "bar", lambda *_: 1 / 0)
    answer = command("fit", mistaken, "--threads", "1", "--out", "whole")
    assert answer.code == 0 and "the page of the run was not written: ZeroDivisionError" in answer.err
    assert regraft.open_run("whole").predict([next(mistaken.glob("*/*.png"))]) and not (tmp_path / "whole" / "report.html").exists()
    assert command("report", "whole").code == 1
