"""Claim: `regraft --help` and wrong usage answer in 0.3 seconds, without importing torch.

Whole processes, alternating, 11 runs each; the median counts. Writes results/start_up.json.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = {
    "help": ["--help"],
    "wrong command": ["fti", "photos"],
    "wrong option": ["fit", "photos", "--sed", "3"],
    "fit --help": ["fit", "--help"],
}


def main():
    seconds = {name: [] for name in CASES}
    for _ in range(11):
        for name, words in CASES.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "regraft", *words], capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    found = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    for name, value in found.items():
        print(f"{name:14} {value:.3f} s {'ok' if value <= 0.3 else 'TOO SLOW'}")
    path = Path(__file__).resolve().parent / "results" / "start_up.json"
    path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
