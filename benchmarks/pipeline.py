"""Where the time of a pass over 5,000 photographs goes, and whether both cores work meanwhile.

Claim: at least 85 % of the wall time of the pass is spent with both cores busy (a sample of a quarter of a second counts as busy when
the process used at least 85 % of what two cores could give), on a machine with two cores and nothing else to do. Beside it, for a
machine that others use too: the part of the pass in which at least as many threads as there are cores ran or were ready to
(Linux; looked at fifty times a second), and CPU time an image.

5,000 JPEGs of 500 x 375 pixels are drawn (the size of hymenoptera's photographs). One process runs `regraft.fit` on them without
the store; beside it the parts are timed alone, on one core: decode, resize, the network, the probe.

    python benchmarks/pipeline.py [--images 5000] [--out benchmarks/results/pipeline.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

EVERY = 0.25
LOOK = 0.02
BUSY = 0.85


def draw(folder: Path, count: int) -> None:
    """Two classes of smooth pictures with grain; about 80 KB each."""
    rng = np.random.default_rng(0)
    grain = [rng.normal(0, 6, (375, 500, 1)).astype(np.float32) for _ in range(8)]
    for name, shift in (("warm", 40), ("cold", -40)):
        (folder / name).mkdir(parents=True)
        for i in range(count // 2):
            small = rng.integers(60, 200, (8, 10, 3)).astype(np.float32)
            small[..., 0] += shift * rng.random()
            picture = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
            pixels = np.clip(np.asarray(picture) + grain[i % 8], 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.jpg", quality=90)


def ready_threads() -> int:
    """Threads of this process that run or are ready to, without the one that asks; 0 where the system does not say."""
    ready = -1
    for stat in Path("/proc/self/task").glob("*/stat"):
        with suppress(OSError):
            ready += stat.read_text().rpartition(")")[2].split()[0] == "R"
    return max(0, ready)


class Sampler:
    """How much of the cores this process used, four times a second, and in between how much it had to do."""

    def __init__(self, cores: int) -> None:
        self.cores, self.samples, self._stop = cores, [], threading.Event()
        self.cpu: list[tuple[float, float]] = []
        self.ready: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        wall, used = time.perf_counter(), time.process_time()
        while not self._stop.wait(LOOK):
            now, cpu = time.perf_counter(), time.process_time()
            self.ready.append((now, ready_threads()))
            if now - wall >= EVERY:
                self.samples.append((now, (cpu - used) / (now - wall) / self.cores))
                self.cpu.append((now, cpu))
                wall, used = now, cpu

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def alone(folder: Path) -> dict[str, float]:
    """Milliseconds an image of each part on one core; medians of 200 images."""
    from regraft.features.engines import REFERENCE
    from regraft.jobs.common import computing_threads
    from regraft.jobs.frozen import frozen_pretrained
    from regraft.modality.image import MODALITY
    from regraft.pretrained import find_model, source_of

    facts = find_model("packaged:efficientnet-lite0")
    trunk = frozen_pretrained(facts, lambda: source_of(facts).weights(facts)).trunk("cpu", REFERENCE, 1)
    prepare = MODALITY.preparer(facts.preprocessing, {})
    times: dict[str, list[float]] = {"read and hash": [], "decode": [], "resize": [], "small picture": [], "network": []}

    def timed(name: str, work, share: int = 1):
        start = time.perf_counter()
        result = work()
        times[name].append((time.perf_counter() - start) / share * 1000)
        return result

    windows = []
    for path in sorted(folder.glob("*/*.jpg"))[:208]:
        loaded = timed("read and hash", lambda path=path: MODALITY.load(path))
        decoded = timed("decode", loaded.decode)
        windows += timed("resize", lambda decoded=decoded: prepare(decoded)).windows
        timed("small picture", lambda decoded=decoded: MODALITY.summary(decoded))
    with computing_threads(1):
        for i in range(0, len(windows), facts.tile):
            timed("network", lambda i=i: trunk(windows[i : i + facts.tile]), facts.tile)
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--images", type=int, default=5000)
    ask.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pipeline.json")
    given = ask.parse_args()
    begun = time.perf_counter()
    load = round(os.getloadavg()[0], 1)
    import regraft
    from regraft.events import Done
    from regraft.jobs.common import core_count

    cores = core_count()
    with tempfile.TemporaryDirectory() as place:
        os.environ["REGRAFT_HOME"] = str(Path(place) / "home")
        folder = Path(place) / "photos"
        draw(folder, given.images)
        stages: dict[str, tuple[float, float]] = {}

        def listen(event) -> None:
            if isinstance(event, Done):
                now = time.perf_counter()
                stages[event.stage] = (now - event.seconds, now)

        start = time.perf_counter()
        with Sampler(cores) as sampler:
            run = regraft.fit(folder, store=False, out=str(Path(place) / "run"), on_event=listen)
        whole = time.perf_counter() - start
        parts = alone(folder)
    table = {}
    for stage, (first, last) in stages.items():
        shares = [share for at, share in sampler.samples if first + EVERY <= at <= last]
        busy = sum(share >= BUSY for share in shares) / max(1, len(shares))
        ready = [count for at, count in sampler.ready if first <= at <= last]
        spent = [cpu for at, cpu in sampler.cpu if first <= at <= last] or [0.0]
        table[stage] = {
            "seconds": round(last - first, 2),
            "cpu_seconds": round(spent[-1] - spent[0], 2),
            "part_of_time_with_work_for_every_core": round(sum(count >= cores for count in ready) / max(1, len(ready)), 3),
            "mean_share_of_cores": round(statistics.mean(shares), 3) if shares else None,
            "part_of_time_busy": round(busy, 3),
        }
    table["before the pass"] = {"seconds": round(min(first for first, _ in stages.values()) - start, 2)}
    passed = table["features"]
    result = {
        "claim": "part_of_time_busy of the pass is at least 0.85",
        "holds": passed["part_of_time_busy"] >= 0.85,
        "images": given.images,
        "cores": cores,
        "images_a_second": round(given.images / passed["seconds"], 1),
        "cpu_ms_an_image": round(passed["cpu_seconds"] / given.images * 1000, 2),
        "load_of_the_machine_before": load,
        "stages": table,
        "alone_ms_an_image_on_one_core": parts,
        "whole_fit_seconds": round(whole, 2),
        "accuracy": run.result["estimate"]["accuracy"],
        "benchmark_seconds": round(time.perf_counter() - begun, 1),
    }
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
