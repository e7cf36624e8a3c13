"""Claims, stated before measuring. Choices are replayed from cells that were measured once (`--table`, by `replay.py`); on fixed subsets of
eight sets, judged by accuracy on test examples:

1. The accuracy that regraft's choice gives up has a mean within half a point of what a chooser gives up that sees half of the test part
   (the floor), and is at most 3 points at the 90th percentile, at budgets of 30 s, 2 min and 10 min.
2. It gives up less than each fixed rule: always `head`, always `full`, fastai's recipe, the largest network, the network that is best on
   ImageNet (of texts and sounds: by its makers' figure), one by chance.
3. Predicted seconds are within 25 % for 80 % of the fits, predicted memory within 20 %; of the 90 % intervals for accuracy 85 to 95 %
   hold what came out.
4. Making a plan takes at most 15 % of two minutes.

    REGRAFT_DATA=DIR python benchmarks/judgement/decisions.py [--only REGEX] [--minutes M] [--again REGEX]    measures what is missing
    python benchmarks/judgement/decisions.py --table                                                          prints the tables
    python benchmarks/judgement/decisions.py --list                                                           what is missing, in order

A cell is (set, examples, seed, network, kind), on one thread. Its test examples are kept one by one (`right`), so that an oracle can
choose by one half of them and be judged by the other. Kinds:

- probe: the linear head by the code of `fit`, in this process, on features in a store of the benchmark. Cheap: every network, seeds 0 to 2.
- plan: `regraft plan --budget 2m` from an empty home: options, prospects and what they stand on. No prediction sees a cell. `then` is what
  `--train head` takes afterwards in that home, which is what the plan speaks of.
- RUNG in 2m: `regraft fit --train RUNG --budget 2m` from an empty home: what a user with that budget gets. What ends earlier is the
  same with ten minutes, and with 30 seconds where it ended in those.
- auto in 2m: what regraft itself does with the budget and nothing else said, under the name of the usual network; `network` is the one that
  it took, `climbed` are the rungs that it trained, and whether each was kept, `pilots` the short trainings of its race.
- RUNG in 10m: the same with ten minutes, where two were too few for all steps or folds.

A fit sees the training examples alone, and its time holds no test part; predicting comes afterwards. Seconds are those of a clock, which
a budget is in; cells hold seconds of the processor and the load besides. What failed stays as that, until --again takes it out. The order
is that of `cells`: small subsets of all sets before anything of a second network. Of omniglot 15 a class take the place of 20, as five of
20 drawings are held out, and are all there are; banking77 has 1,540 at 20 a class.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cells import bits, held_out, inputs_of, keep, measured, read  # noqa: E402
from subsets import IMAGES, TEXTS, write  # noqa: E402

RESULTS = HERE.parent / "results" / "judgement.json"

SIZES = {
    "hymenoptera": (10, 40, 244),
    "subj": (10, 40, 1000),
    "trec6": (30, 120, 1000),
    "fsdd": (50, 200, 1000),
    "flowers5": (25, 100, 1000),
    "cifar10": (50, 200, 1000),
    "omniglot": (200, 600),
    "banking77": (385, 1000, 1540),
}
"""Training examples: five a class, 20 a class, 1,000 in all."""

NETWORKS = {
    "image": ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"),
    "text": ("all-minilm-l6-v2", "use-multilingual-v3"),
    "audio": ("whisper-tiny-en", "resemblyzer"),
}
"""The packaged ones; the first is the one that `fit` takes by itself."""

RUNGS = ("norm", "top=1", "contrastive", "full")
BUDGETS = {"2m": 120.0, "10m": 600.0}


def kind_of(name):
    return "image" if name in IMAGES else "text" if name in TEXTS else "audio"


def classes_of(name):
    return {"hymenoptera": 2, "subj": 2, "trec6": 6, "fsdd": 10, "flowers5": 5, "cifar10": 10, "omniglot": 40, "banking77": 77}[name]


def means(name, n, rung):
    """Whether a rung means something: few-shot training is for texts, up to 20 a class."""
    return rung != "contrastive" or kind_of(name) == "text" and n <= 20 * classes_of(name)


def key(name, n, seed, network, what):
    return f"{name} / {n} / {seed} / {network} / {what}"


def cut_short(one):
    """Whether a fit left steps away, or the rung as a whole; folds that were not trained change the judgement of a model alone."""
    return any("steps of training" in said or said.startswith("--train") for said in one.get("short", ()))


def cells(found):
    """(set, n, seed, network, kind) in the order in which they are measured."""
    small, middle, large = ([(name, own[k]) for name, own in SIZES.items() if k < len(own)] for k in range(3))
    main = lambda subsets, *kinds: [
        (name, n, 0, NETWORKS[kind_of(name)][0], what) for name, n in subsets for what in kinds if means(name, n, what.split()[0])
    ]
    probes = lambda seeds: [
        (name, n, seed, network, "probe")
        for name, own in SIZES.items()
        for n in own
        for seed in seeds
        for network in NETWORKS[kind_of(name)]
        if not seed or (name, n) != ("hymenoptera", 244)
    ]
    others = [
        (name, n, 0, network, what)
        for subsets in (small, middle, large)
        for what in ("plan", "head in 2m", "top=1 in 2m", "contrastive in 2m", "full in 2m")
        for name, n in subsets
        for network in NETWORKS[kind_of(name)][1:]
        if means(name, n, what.split()[0])
    ]
    planned = [
        *main(small, "plan", "head in 2m"),
        *main(small, "top=1 in 2m", "contrastive in 2m", "full in 2m"),
        *main(middle, "plan", "head in 2m"),
        *main(middle, "top=1 in 2m", "contrastive in 2m"),
        *probes((0,)),
        *main(middle, "full in 2m"),
        *main(large, "plan", "head in 2m"),
        *main(large, "top=1 in 2m"),
        *main(large, "full in 2m"),
        *main(small, "norm in 2m"),
        *main(middle, "norm in 2m"),
        *main([*small, *middle, *large], "auto in 2m"),
        *probes((1, 2)),
        *others,
    ]
    again = [(*c[:4], c[4].replace("2m", "10m")) for c in planned if cut_short(found.get(key(*c)) or {})]
    return [*planned, *again]


# one cell


def data_of(name, subset):
    """(what a fit is given of a subset: the training examples alone; how that is read)."""
    kind = kind_of(name)
    if kind == "image":
        return subset / "train", []
    if kind == "text":
        return subset / "train.csv", ["--input", "text", "--label", "label"]
    rows = (subset / "fsdd.csv").read_text(encoding="utf-8").splitlines()
    alone = subset / "train.csv"
    alone.write_text("\n".join(row for row in rows if row.endswith((",split", ",train"))) + "\n", encoding="utf-8")
    return alone, ["--input", "path", "--label", "digit"]


@cache
def opened(network, task):
    from regraft.jobs.frozen import choose_network, frozen_pretrained
    from regraft.pretrained import source_of

    facts = choose_network(network, task)
    return frozen_pretrained(facts, lambda: dict(source_of(facts).weights(facts)))


ENGINES = {}
"""By network the engine that was found the first time, so that features are made once."""


def probed(name, network, subset, truth, seed):
    """A linear head on stored features: as `fit` makes it, but that near-duplicates may stand in two folds."""
    from regraft.events import silent
    from regraft.jobs.common import computing_threads
    from regraft.jobs.engines import choose_engine
    from regraft.jobs.labelled import open_labelled
    from regraft.jobs.parts import both_parts, divide
    from regraft.jobs.validation import Validation
    from regraft.spec import FitSpec
    from regraft.strategy.rules import strengths_for

    sound = kind_of(name) == "audio"
    data = subset / "fsdd.csv" if sound else subset
    with computing_threads(1):
        begun = time.perf_counter(), time.process_time()
        spec = FitSpec(data=str(data), seed=seed, **({"task": "audio", "input": "path", "label": "digit"} if sound else {}))
        labelled = open_labelled(spec, data, None)
        examples, values = both_parts(labelled)
        frozen = opened(network, labelled.dataset.task)
        engine = ENGINES.get(network) or choose_engine(frozen, examples, None, "auto", "cpu", 1).engine
        ENGINES[network] = engine
        extracted = frozen.run(examples, "cpu", 1, engine, keep=True, summaries=False, emit=silent)
        looked = time.perf_counter()
        parts = divide(labelled, examples, values, extracted, silent)
        target = labelled.target
        validation = Validation.of(target, target.metrics[0], parts, seed, balance=False, emit=silent)
        probe = validation.probe("head", extracted.features[parts.train], strengths_for(target.loss), silent)
        done = time.perf_counter()
    said = (extracted.features[parts.test] @ probe.weight.T + probe.bias).argmax(1)
    judged = validation.judge(probe.out_of_fold)
    held = ["-"] * len(parts.y)
    for place, truly, decided in zip(judged.places, judged.truth, judged.decided, strict=True):
        held[place] = str(int(truly == decided))
    labels = [target.outputs[k] for k in said]
    if truth["kind"] == "image":
        # a reader may have another order than names have: a class folder and a name are one example
        own = dict(zip((Path(e.name).parts[-2:] for e in examples if e.part == "test"), labels, strict=True))
        labels = [own[Path(i).parts[-2:]] for i in inputs_of("image", subset, data)]
    return {
        "right": bits([a == b for a, b in zip(labels, truth["test"], strict=True)]),
        "held_out": "".join(held),
        "estimate": round(validation.figures(judged)[target.metrics[0]].value, 4),
        "computed": extracted.computed,
        "features_seconds": round(extracted.seconds, 2),
        "head_seconds": round(done - looked, 2),
        "cpu_seconds": round(time.process_time() - begun[1], 2),
        "engine": engine.label,
    }


PLANNED = """
import json, sys
from pathlib import Path
import regraft
from regraft.jobs.prospects import Ground
grounds, options = [], Ground.options
def kept(self, budget=None):
    grounds.append(self)
    return options(self, budget)
Ground.options = kept
plan = regraft.plan(**json.loads(sys.argv[1]))
whole = [o.to_json() for o in options(grounds[-1])]
said = {**plan.to_json(), "options": whole, "prospects": [p.to_json() for p in grounds[-1].prospects()]}
Path(sys.argv[2]).write_text(json.dumps(said))
"""
"""A plan with what a climb would be told, and with options of whole schedules: all are made from the same ground."""


def short(values):
    return [float(f"{values[k]:.4g}") for k in ("value", "low", "high")]


def ran(command, folder):
    return measured(command, folder, {"REGRAFT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"})


def fit_command(network, data, asked, rung, seed, run):
    command = [sys.executable, "-m", "regraft", "fit", str(data), "--json", "--out", str(run)]
    said = [] if rung == "auto" else ["--train", rung, "--model", network]
    return [*command, *said, "--seed", str(seed), "--threads", "1", *asked]


def stages_of(run):
    """Seconds of what a run told to be done."""
    events = map(json.loads, (run / "events.jsonl").read_text(encoding="utf-8").splitlines())
    return {e["stage"]: round(e["seconds"], 2) for e in events if e["event"] == "Done"}


def planned(name, network, subset, seed, folder):
    data, asked = data_of(name, subset)
    given = {"data": str(data), "model": network, "budget": "2m", "threads": 1, "seed": seed}
    given |= {asked[k].removeprefix("--"): asked[k + 1] for k in range(0, len(asked), 2)}
    out = folder / "plan.json"
    command = [sys.executable, "-c", PLANNED, json.dumps(given), str(out)]
    code, cost = ran(command, folder)
    if code:
        return code, cost, {}
    plan = json.loads(out.read_text())
    code, then = ran(fit_command(network, data, asked, "head", seed, folder / "run"), folder)
    if code:
        return code, then, {}
    then["peak_mb"] = json.loads((folder / "run" / "run.json").read_text())["peak_memory_mb"]
    for prospect in plan["prospects"]:
        prospect |= {"reasons": [], "raw": {}}
    evidence = {k: plan["evidence"].get(k) for k in ("examples", "per_class", "seen", "head", "constant", "near", "similarity")}
    options = {o["train"]: {k: short(o[k]) for k in ("figure", "seconds", "memory")} for o in plan["options"]}
    stages = {o["train"]: {k: float(f"{v['value']:.3g}") for k, v in o["stages"].items()} for o in plan["options"]}
    chosen = plan["chosen"]["train"]
    return (
        code,
        cost,
        {"options": options, "stages": stages, "evidence": evidence, "prospects": plan["prospects"], "chosen": chosen, "then": then},
    )


def predicted(run, given, kind, more):
    """Labels of the test examples; images go through an engine that gives the same but for rounding in less than half of the time."""
    from regraft.artifacts import Model
    from regraft.jobs.use import open_predictor, stream_predictions

    model = open_predictor(run)
    assert isinstance(model, Model)
    if kind == "image":
        model = replace(model, manifest={**model.manifest, "engine": {"name": "onnx", "precision": "fp32"}})
    return [p.label for p in stream_predictions(model, given, threads=1, **more)]


def fitted(name, network, subset, truth, seed, what, folder):
    rung, budget = what.split(" in ")
    data, asked = data_of(name, subset)
    run = folder / "run"
    code, cost = ran([*fit_command(network, data, asked, rung, seed, run), "--budget", budget], folder)
    if code:
        return code, cost, {}
    result = json.loads((run / "run.json").read_text())
    decided = json.loads((run / "decisions.json").read_text())
    given = inputs_of(truth["kind"], subset, subset / "fsdd.csv")
    given, more = (Path(given[0]), {"input": "text"}) if truth["kind"] == "text" else (given, {})
    said = predicted(run, given, truth["kind"], more)
    gain = result.get("better_than_head") or (result.get("asked") or {}).get("better_than_head")
    cost["peak_mb"] = result["peak_memory_mb"]
    return (
        code,
        cost,
        {
            "right": bits([a == b for a, b in zip(said, truth["test"], strict=True)]),
            "held_out": held_out(run),
            "estimate": round(result["estimate"]["accuracy"]["value"], 4),
            "estimate_how": result["estimate_how"],
            **({"gain": [round(gain["accuracy"][k], 4) for k in ("value", "low", "high")]} if gain else {}),
            "ships": decided.get("ships", rung),
            "short": result["budget"]["with_more"],
            "engine": decided["engine"]["name"],
            "settings": {k: v for k, v in (decided.get("settings") or {}).items() if k in ("epochs", "batch", "lr")},
            "stages": stages_of(run),
            **(_itself(result, decided) if rung == "auto" else {}),
        },
    )


def _itself(result, decided):
    """What regraft chose by itself, and the pilots of its race."""
    raced = decided.get("race", {}).get("candidates", ())
    return {
        "climbed": {r["train"]: r["kept"] for r in result["ladder"] if r["tried"]},
        "network": decided["model"].partition(":")[2],
        "pilots": {c["name"].partition(":")[2]: c["pilot"] for c in raced if c.get("pilot")},
    }


def cell(name, n, seed, network, what, data, subsets, commit):
    subset = subsets / f"{name}-{n}-{seed}"
    truth = write(name, n, seed, data, subset)
    found = {"subset": truth["sha256"][:16], "commit": commit}
    if what == "probe":
        one = probed(name, network, subset, truth, seed)
        return {**found, **one, "accuracy": accuracy(one)}
    with tempfile.TemporaryDirectory(dir=subsets) as scratch:
        folder = Path(scratch)
        code, cost, more = (
            planned(name, network, subset, seed, folder) if what == "plan" else fitted(name, network, subset, truth, seed, what, folder)
        )
        if code:
            lines = (folder / "stderr").read_text().strip().splitlines()
            return {**found, **cost, "failed": f"exit {code}: {' | '.join(lines[-3:])}"[:400]}
    return {**found, **cost, **more, **({"accuracy": accuracy(more)} if "right" in more else {})}


def accuracy(one):
    from cells import unpacked

    right = unpacked(one["right"])
    return round(sum(right) / len(right), 4)


def measure(only, minutes, again, work):
    if not os.environ.get("REGRAFT_DATA"):
        raise SystemExit("REGRAFT_DATA does not name the folder of data sets: nothing is measured")
    data, begun = Path(os.environ["REGRAFT_DATA"]), time.perf_counter()
    commit = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    held = lambda: {k: v for k, v in read(RESULTS).items() if not (again and re.search(again, k))}
    found, subsets = held(), work / "subsets"
    subsets.mkdir(parents=True, exist_ok=True)
    os.environ["REGRAFT_HOME"] = str(work / "home")
    while time.perf_counter() - begun < minutes * 60:
        this = next((c for c in cells(found) if key(*c) not in found and (not only or re.search(only, key(*c)))), None)
        if this is None:
            break
        one = cell(*this, data, subsets, commit)
        # another process may have measured others meanwhile
        found = {**found, **({} if again else read(RESULTS)), key(*this): one}
        keep(RESULTS, found)
        told = one.get("failed") or (f"{one['accuracy']:.3f}" if "accuracy" in one else one["chosen"])
        seconds = one.get("seconds", one.get("features_seconds", 0) + one.get("head_seconds", 0))
        cut = "short" if one.get("short") else ""
        print(f"{key(*this):60} {told:>8}  {seconds:6.1f} s  {one['cpu_seconds']:6.1f} CPU s  {cut}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="cells whose key holds this regular expression")
    parser.add_argument("--again", help="measure these cells anew")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--work", type=Path, help="where subsets and features are kept")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    found = read(RESULTS)
    if given.list:
        print("\n".join(key(*c) for c in cells(found) if key(*c) not in found))
    elif given.table:
        from replay import tables

        print("\n".join(tables(found)))
    elif given.work:
        measure(given.only, given.minutes, given.again, given.work)
    else:
        with tempfile.TemporaryDirectory(prefix="judgement-") as folder:
            measure(given.only, given.minutes, given.again, Path(folder))


if __name__ == "__main__":
    main()
