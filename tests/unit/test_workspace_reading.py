"""What a process was reading when it crashed is told by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from regraft.workspace.reading import SLOT, Reading, left_behind

CRASH = """
import os, signal, sys
from pathlib import Path
from regraft.workspace.reading import Reading
reading = Reading(Path(sys.argv[1]))
reading.enter("photos/before.jpg")
reading.leave()
reading.enter(sys.argv[2])
os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are others on Windows")
@pytest.mark.parametrize("name", ["photos/bad.jpg", "photos/größe.jpg"])
def test_a_crash_leaves_the_name(tmp_path: Path, name: str):
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path), name], check=False)
    assert done.returncode < 0
    assert left_behind(tmp_path) == [name]
    assert left_behind(tmp_path) == []


def test_an_ordinary_end_leaves_nothing(tmp_path: Path):
    reading = Reading(tmp_path)
    reading.enter("a.jpg")
    reading.close()
    assert list(tmp_path.iterdir()) == [] and left_behind(tmp_path) == []


def test_a_process_that_still_runs_is_left_alone(tmp_path: Path):
    reading = Reading(tmp_path)
    reading.enter("a.jpg")
    assert left_behind(tmp_path) == []
    assert reading.path.exists()
    reading.close()


def test_every_thread_has_its_own_name(tmp_path: Path):
    reading = Reading(tmp_path)
    both = threading.Barrier(2)

    def read(name: str) -> None:
        reading.enter(name)
        both.wait()

    threads = [threading.Thread(target=read, args=(name,)) for name in ("a.jpg", "b.jpg")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gone = reading.path.rename(tmp_path / "99999999-x")
    assert sorted(left_behind(tmp_path)) == ["a.jpg", "b.jpg"] and not gone.exists()
    reading.close()


def test_a_long_name_keeps_its_end_and_odd_files_are_passed_over(tmp_path: Path):
    reading = Reading(tmp_path)
    reading.enter("x" * 3 * SLOT + "/bad.jpg")
    reading.path.rename(tmp_path / "99999999-x")
    (tmp_path / "notes-1").write_text("mine")
    (found,) = left_behind(tmp_path)
    assert found.endswith("/bad.jpg") and len(found) < SLOT
    assert (tmp_path / "notes-1").exists()
    reading.close()


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("")
    reading = Reading(tmp_path / "file" / "inside")
    reading.enter("a.jpg")
    reading.leave()
    reading.close()
