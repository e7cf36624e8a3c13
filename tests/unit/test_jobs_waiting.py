"""Idle threads of PyTorch sleep, also where a user's own code is what imports PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_sleep_before_anything_can_import_torch(given, expected):
    code = "import os, sys, regraft.jobs.fit; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | ({"OMP_WAIT_POLICY": given} if given else {})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "False"]
