"""predict, evaluate, features: what a run or a network is for."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data import Dataset, open_data, open_inputs
from regraft.data.base import TEST, Example
from regraft.errors import DataError, MissingExtra, ModelError, UsageError
from regraft.events import Emit, Said, Started, Warned, silent
from regraft.facts import AnyPrediction, LeftOut, NumberPrediction
from regraft.jobs.common import Messages, as_source, asked, check_losses, choose_device, computing_threads, core_count, patterns, say_notes
from regraft.jobs.engines import choose_engine, recorded_engine, wanted_engine
from regraft.jobs.frozen import choose_network, frozen_model, frozen_pretrained, pass_workers
from regraft.jobs.labelled import encode_all
from regraft.jobs.run import open_run
from regraft.modality import MODALITIES
from regraft.pretrained import Access, find_model, source_of
from regraft.targets import Target, target_from_json
from regraft.workspace.bundle import MANIFEST
from regraft.workspace.files import read_json, written_aside
from regraft.workspace.runs import BUNDLE

if TYPE_CHECKING:
    from regraft.artifacts import Predictor

PathLike = str | os.PathLike[str]


def predict(
    run: PathLike,
    inputs: Any,
    *,
    input: str | None = None,
    top: int | None = None,
    offline: bool = False,
    allow_outside: bool = False,
    device: str = "auto",
    threads: int | None = None,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
    skip_broken: bool = False,
    on_event: Emit = silent,
) -> list[AnyPrediction]:
    """Predictions for files, folders, tables or objects, in order.

    `run` is a run's folder, a bundle, or the name of a pretrained network such as timm:resnet50, which then predicts the classes that
    it was trained on; `offline` fetches nothing for it, `allow` is that of `FitSpec`. `top` keeps that many labels in `probabilities`,
    the most probable first. For an image or sound model, strings are paths; for a text model, strings are texts and Path objects are
    files. Raises DataError naming every input that cannot be read, unless `skip_broken`.
    """
    out: list[AnyPrediction] = []
    broken: list[LeftOut] = []
    options: dict[str, Any] = {"input": input, "top": top, "allow_outside": allow_outside, "device": device, "threads": threads}
    predictor = open_predictor(run, offline=offline, allow_code=allow_code, allow=allow, on_event=on_event)
    for item in stream_predictions(predictor, inputs, **options, on_event=on_event):
        if isinstance(item, LeftOut):
            broken.append(item)
        else:
            out.append(item)
    if broken and not skip_broken:
        faults = [f"{b.name}: {b.reason}" for b in broken[:20]]
        raise DataError(
            f"{len(broken):,} of {len(broken) + len(out):,} inputs cannot be read", faults=faults, move="skip_broken=True leaves them out"
        )
    return out


def open_predictor(
    run: PathLike, *, offline: bool = False, allow_code: bool = False, allow: str | Sequence[str] = (), on_event: Emit = silent
) -> Predictor:
    """The model in a run's folder or a bundle; or a pretrained network with its own old output layer.

    RunError and BundleError for a folder that holds no model, UsageError for a name of no network, and for a network without classes
    of its own.
    """
    from regraft.artifacts import Published

    name = os.fspath(run)
    kind, _, rest = name.partition(":")
    place = rest.partition("?")[0] if kind == "path" else name
    if Path(place).is_dir() and (kind != "path" or any((Path(place) / inner).is_file() for inner in (MANIFEST, f"{BUNDLE}/{MANIFEST}"))):
        name = place
    if Path(name).exists() or ("/" in name and ":" not in name):
        if allow:
            raise UsageError("--allow is for weights in a file, and a run is whole", move="leave --allow away")
        model = open_run(name).model
        if allow_code:
            model.allow_code()
        return model
    try:
        facts = find_model(name, Access(offline, allow_code, patterns(allow)))
    except UsageError as error:
        found, dot, hint = error.found.partition(". ")
        text = f"{found.rstrip('.')}, and no folder of a run{dot}{hint}" if found.startswith("there is no network") else error.found
        move = "regraft runs, or regraft models" if error.move == "regraft models" else error.move
        raise UsageError(text, expected=error.expected, move=move, faults=error.faults) from None
    source = source_of(facts)
    if line := source.missing(facts):
        raise ModelError(f"the weights of {facts.name} are not installed", move=line)
    old = source.old(facts)
    if old is None:
        raise UsageError(
            f"{facts.name} has no output layer that says one class of several: what it gives are {facts.features} features",
            expected="a run, or a network with classes of its own",
            move=f"regraft fit DATA --model {name}",
        )
    on_event(Said(f"network: {facts.name}, its own {old.outputs:,} classes, licence {facts.licence}, trained on {facts.trained_on}"))
    if said := facts.differences():
        on_event(Warned(said))
    if not old.labels:
        on_event(Warned(f"nothing says what the {old.outputs:,} classes of {facts.name} are called: they are numbers from 0"))
    return Published(facts, old, source.files(facts))


def stream_predictions(
    run: PathLike | Predictor,
    inputs: Any,
    *,
    input: str | None = None,
    top: int | None = None,
    offline: bool = False,
    allow_outside: bool = False,
    device: str = "auto",
    threads: int | None = None,
    allow_code: bool = False,
    on_event: Emit = silent,
) -> Iterator[AnyPrediction | LeftOut]:
    """Predictions one by one, in order; an input that cannot be read gives a LeftOut in its place. See `predict`."""
    from regraft.artifacts import predict as run_model

    model = open_predictor(run, offline=offline, allow_code=allow_code, on_event=on_event) if isinstance(run, (str, os.PathLike)) else run
    if top is not None and (top < 1 or model.target.name == "number"):
        raise UsageError(f"--top {top}: " + ("expected at least 1" if top < 1 else "the model predicts a number, which has no labels"))
    several = isinstance(inputs, (list, tuple)) and not _is_sound(inputs)
    plain = asked(model.modality.name, input, None, labelled=False)
    dataset = open_inputs(list(inputs) if several else [inputs], replace(plain, allow_outside=allow_outside))
    on_event(Started("predicting", len(dataset.examples), model.modality.nouns))
    yield from dataset.left_out
    cores = threads or core_count()
    where = choose_device(device)
    engine = recorded_engine(model, where, on_event)
    with computing_threads(cores):
        names, sources = (e.name for e in dataset.examples), (e.source for e in dataset.examples)
        for item in run_model(model, names, sources, device=where, engine=engine, workers=pass_workers(where, cores)):
            yield item if top is None or isinstance(item, (LeftOut, NumberPrediction)) else item.top(top)


def _is_sound(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], np.ndarray) and isinstance(value[1], numbers.Number)


def evaluate(
    run: PathLike,
    data: Any,
    *,
    input: str | None = None,
    label: str | None = None,
    split: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    allow_code: bool = False,
    strict: bool = False,
    allow_outside: bool = False,
    store: bool = True,
    on_event: Emit = silent,
) -> dict[str, Any]:
    """Figures of a run on labelled data: metrics with 95 % intervals, baselines, n, left_out, and what the target adds
    (the confusion table; each label).

    Where the data has a test part of its own, that part alone is judged. Raises DataError when nothing can be judged.
    """
    from regraft.artifacts import linear, outputs_of

    on_event = messages = Messages(on_event)
    held = open_run(run)
    model = held.model
    if allow_code:
        model.allow_code()
    modality, manifest, target = model.modality, model.manifest, model.target
    columns = _columns_of(held.path)
    plain = asked(manifest["task"], input or columns.get("input"), label or columns.get("label"))
    usual = None if split else columns.get("split")
    more = {"target": target.name, "split": split, "usual_split": usual, "allow_outside": allow_outside}
    dataset = open_data(as_source(data), replace(plain, **more, marking=_marking_of(held.path)))
    examples = dataset.part(TEST) or dataset.examples
    if len(examples) < len(dataset.examples):
        on_event(Said(f"the data has a test part: its {len(examples):,} {modality.nouns} are judged, the others are not"))
    left_out = list(dataset.left_out)
    strangers = target.strangers([e.label or "" for e in examples])
    examples, values, unusable = encode_all(examples, target)
    left_out += unusable
    if not examples:
        raise DataError(
            "no example has a label that the model knows",
            expected=f"one of {', '.join(target.outputs[:10])}" if target.name != "number" else "finite numbers",
            faults=[f"found: {', '.join(list(strangers)[:10])}"] if strangers else [f"{b.name}: {b.reason}" for b in unusable[:3]],
        )
    if strangers and not unusable:
        shown = ", ".join(f"{name} ({n})" for name, n in list(strangers.items())[:5])
        on_event(Warned(f"labels that the model does not know are not judged: {shown}"))
    cores = threads or core_count()
    where = choose_device(device)
    bare = _without_network(held.path, target)
    with computing_threads(cores):
        engine = recorded_engine(model, where, on_event)
        extracted = frozen_model(model).run(examples, where, cores, engine, keep=store, summaries=bare is not None, emit=on_event)
    left_out += extracted.left_out
    check_losses(left_out, len(extracted.kept), modality, strict=strict, emit=on_event)
    say_notes(extracted.notes, len(extracted.kept), on_event)
    truth = target.array([values[i] for i in extracted.kept])
    if not len(truth):
        raise DataError("no example can be judged", faults=[f"{b.name}: {b.reason}" for b in left_out[:10]])
    outputs = outputs_of(extracted.features, model.output_layer(), target)
    decided = target.decide(outputs)
    baseline: dict[str, Any] = {"constant": target.constant(truth)}
    if bare is not None:
        learnt, bare_target, bare_weight, bare_bias = bare
        theirs = outputs_of(modality.vectorise(learnt, extracted.summaries), linear(bare_weight, bare_bias), bare_target)
        found = bare_target.figures(truth, theirs, bare_target.decide(theirs))
        baseline["without_network"] = {"metrics": {k: v.to_json() for k, v in found.items()}}
    return {
        "run": str(held.path),
        "model": manifest["model"]["name"],
        "target": target.name,
        "metrics": {k: v.to_json() for k, v in target.figures(truth, outputs, decided).items()},
        "baseline": baseline,
        **target.details(truth, outputs, decided),
        "n": len(truth),
        "left_out": [item.to_json() for item in left_out],
        **messages.to_json(),
    }


def _columns_of(run: Path) -> dict[str, str]:
    """The columns that a run's fit found, for a table with the same ones."""
    try:
        decisions = read_json(run / "decisions.json")
    except (OSError, ValueError):
        return {}
    return {k: v for k in ("input", "label", "split") if isinstance(v := decisions.get(k), str)}


def _marking_of(run: Path) -> tuple[str, ...] | None:
    """Of several label columns those that a run's fit found to say yes and no."""
    try:
        found = read_json(run / "decisions.json").get("marking")
    except (OSError, ValueError, AttributeError):
        return None
    return tuple(map(str, found)) if isinstance(found, list) else None


def _without_network(run: Path, target: Target) -> tuple[dict[str, Any], Target, np.ndarray, np.ndarray] | None:
    """The model without a network that a run keeps beside its bundle; None for a bundle that stands alone."""
    try:
        held = read_json(run / "without_network.json")
        with np.load(run / "without_network.npz", allow_pickle=False) as arrays:
            return held["vectoriser"], target_from_json(held["target"], target.outputs), arrays["weight"], arrays["bias"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def extract_features(
    data: Any,
    *,
    model: str | None = None,
    offline: bool = False,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
    task: str | None = None,
    input: str | None = None,
    label: str | None = None,
    out: PathLike | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    strict: bool = False,
    store: bool = True,
    on_event: Emit = silent,
) -> dict[str, Any]:
    """Features of a frozen network: name, label (where there is one), part, and a row for each example that can be read.

    `out` ending .npy or .npz writes NumPy, .parquet writes Parquet. Returns names, labels, parts, features (n, d) float32
    and left_out.
    """
    on_event = messages = Messages(on_event)
    target = None if out is None else Path(out)
    if target is not None and target.suffix not in _WRITERS:
        raise UsageError(f"--out {target}: features are written to {', '.join(_WRITERS)}", move=f"--out {target.stem}.parquet")
    source = as_source(data)
    dataset = _labelled_or_not(source, task, input, label)
    facts = choose_network(model, dataset.task, Access(offline, allow_code, patterns(allow)))
    if said := facts.differences():
        on_event(Warned(said))
    on_event(Said(f"network: {facts.name}, licence {facts.licence}, {facts.features} features an example"))
    modality, examples = MODALITIES[dataset.task], dataset.examples
    cores, where = threads or core_count(), choose_device(device)
    named = wanted_engine(engine, precision, where)
    frozen = frozen_pretrained(facts, lambda: source_of(facts).weights(facts))
    with computing_threads(cores):
        # without a head nothing tells how close rounded features are: only an engine that was named may round
        chosen = choose_engine(frozen, examples, named, "fp32", where, cores)
        if said := chosen.sentence(modality.nouns):
            on_event(Said(said))
        extracted = frozen.run(examples, where, cores, chosen.engine, keep=store, summaries=False, emit=on_event)
    left_out = [*dataset.left_out, *extracted.left_out]
    check_losses(left_out, len(extracted.kept), modality, strict=strict, emit=on_event)
    say_notes(extracted.notes, len(extracted.kept), on_event)
    kept = [examples[i] for i in extracted.kept]
    if target is not None:
        _WRITERS[target.suffix](target, kept, extracted.features)
    return {
        "model": facts.name,
        "licence": facts.licence,
        "names": [e.name for e in kept],
        "labels": [e.label for e in kept],
        "parts": [e.part for e in kept],
        "features": extracted.features,
        "left_out": [item.to_json() for item in left_out],
        **messages.to_json(),
    }


def _labelled_or_not(source: Any, task: str | None, input: str | None, label: str | None) -> Dataset:
    """The data with its labels where it has any: features need none."""
    try:
        return open_data(source, asked(task, input, label))
    except DataError:
        if label is not None:
            raise
        return open_data(source, asked(task, input, None, labelled=False))


def _write_numpy(path: Path, examples: Sequence[Example], features: np.ndarray) -> None:
    with written_aside(path) as aside, open(aside, "wb") as file:
        if path.suffix == ".npy":
            np.save(file, features, allow_pickle=False)
        else:
            names = np.array([e.name for e in examples])
            labels = np.array([e.label or "" for e in examples])
            np.savez(file, features=features, names=names, labels=labels, parts=np.array([e.part for e in examples]))


def _write_parquet(path: Path, examples: Sequence[Example], features: np.ndarray) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("writing Parquet needs pyarrow", move="pip install 'regraft[parquet]', or --out FILE.npz") from None
    flat = pyarrow.array(features.reshape(-1))
    columns = {
        "name": [e.name for e in examples],
        "label": [e.label for e in examples],
        "part": [e.part for e in examples],
        "features": pyarrow.FixedSizeListArray.from_arrays(flat, features.shape[1] if len(features) else 1),
    }
    with written_aside(path) as aside:
        pyarrow.parquet.write_table(pyarrow.table(columns), aside)


_WRITERS = {".parquet": _write_parquet, ".npy": _write_numpy, ".npz": _write_numpy}
