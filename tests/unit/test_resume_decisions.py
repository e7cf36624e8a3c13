"""Decisions that grow while a training runs."""

from __future__ import annotations

from regraft.events import silent
from regraft.jobs.recording import Recorder
from regraft.workspace.runs import new_run, read_decisions, unfinished_run


def test_a_list_of_decisions_grows_in_a_run_that_goes_on(tmp_path):
    folder = new_run(str(tmp_path / "run"), "data", {})
    first = Recorder(folder, silent)
    first.decide(engine="torch")
    first.lengthen("divided", {"training": 0, "step": 3, "parts": 2})
    folder.close()
    held = unfinished_run(tmp_path / "run")
    again = Recorder(held.folder, silent, held.decisions, held.replay)
    assert again.listed("divided") == [{"training": 0, "step": 3, "parts": 2}]
    again.lengthen("divided", {"training": 1, "step": 5, "parts": 4})
    assert [d["step"] for d in read_decisions(tmp_path / "run")["divided"]] == [3, 5]
    held.folder.close()
