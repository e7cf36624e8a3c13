"""What benchmarks of whole processes share: running one and what it cost, cells in a file, which examples are right, tables."""

import csv
import json
import math
import os
import resource
import statistics
import subprocess
import time


def measured(command, folder, env=None, limit=1200, wall=3600):
    """Run a process to its end, at most `limit` seconds of the processor and `wall` of a clock: (exit code, what it cost)."""

    def bounded():
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))

    load, begun = os.getloadavg()[0], time.perf_counter()
    given = {**os.environ, "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **(env or {})}
    with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=given, preexec_fn=bounded)
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.perf_counter() - begun > wall:
                process.kill()
            time.sleep(0.2)
    process.returncode = os.waitstatus_to_exitcode(status)
    cost = {
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
        "load": round((load + os.getloadavg()[0]) / 2, 1),
    }
    return process.returncode, cost


def bits(right):
    """True and false by example, as hexadecimal digits."""
    return f"{int('1' + ''.join(str(int(r)) for r in right), 2):x}"


def unpacked(text):
    return [int(b) for b in f"{int(text, 16):b}"[1:]]


def held_out(run):
    """By training example of a run: 1 where it was right when held out, 0 where not, - where it was not held out."""
    with open(run / "out_of_fold.csv", encoding="utf-8", newline="") as file:
        return "".join("-" if not row["predicted"] else str(int(row["label"] == row["predicted"])) for row in csv.DictReader(file))


def inputs_of(kind, subset, data):
    """The test examples of a subset as `regraft predict` takes them, in the order of truth.json; `data` is the table of sounds."""
    if kind == "image":
        return [str(path) for path in sorted((subset / "test").glob("*/*"))]
    if kind == "text":
        return [str(subset / "test.csv")]
    with open(data, encoding="utf-8", newline="") as file:
        return [str(subset / row["path"]) for row in csv.DictReader(file) if row["split"] == "test"]


def read(path):
    return json.loads(path.read_text())["cells"] if path.exists() else {}


def keep(path, cells):
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(cells[k])}" for k in sorted(cells))
    path.write_text('{"cells": {\n' + lines + "\n}}\n")


def paired(differences):
    """(mean, low, high) of differences by example, with a 95 % interval."""
    mean, n = statistics.mean(differences), len(differences)
    half = 1.96 * statistics.stdev(differences) / math.sqrt(n)
    return mean, mean - half, mean + half


def grid(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]
