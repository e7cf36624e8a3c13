"""Networks in the hand: opened, changed by a recipe, shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import DataError, ModelError, UsageError
from regraft.facts import ModelFacts
from regraft.modality import MODALITIES
from regraft.pretrained import find_model, source_of
from regraft.pretrained.architectures import architecture_of, build

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.anatomy import Net
    from regraft.anatomy.net import Step

RECIPE_BYTES = 1 << 20
"""A recipe's file at most."""

FREEZING = ("freeze", "unfreeze", "train")
"""Steps that say what trains."""


def example_inputs(facts: ModelFacts) -> dict[str, Tensor]:
    """Two examples of nothing, as the network takes them."""
    modality = MODALITIES[facts.task]
    blank = modality.blank(facts.preprocessing)
    return modality.collate([blank, blank], facts.preprocessing)


def load(model: str, *, classes: int = 2, recipe: str | Path | Sequence[Step] = (), weights: bool = True) -> Net:
    """A pretrained network with a new output layer for `classes`, after a recipe (steps, or the path of a YAML or JSON file).

    `weights=False` opens its shape alone, with random weights. Everything trains until `freeze`. Raises UsageError for a recipe that
    does not fit, ModelError when the weights are not here.
    """
    net = _open(find_model(model), classes=classes, weights=weights)
    return net.follow(read_recipe(Path(recipe)) if isinstance(recipe, (str, Path)) else recipe)


def _open(facts: ModelFacts, *, classes: int, weights: bool) -> Net:
    import torch

    from regraft.anatomy import look_at
    from regraft.jobs.common import wait_without_spinning

    wait_without_spinning()
    head = architecture_of(facts.architecture).head(facts.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(facts.architecture, classes)
    if weights:
        if line := source_of(facts).missing(facts):
            raise ModelError(f"the weights of {facts.name} are not installed", move=line)
        lacking, foreign = network.load_state_dict(source_of(facts).weights(facts), strict=False)
        wrong = [n for n in lacking if not n.startswith(f"{head}.")] + list(foreign)
        if wrong:
            raise ModelError(f"the weights of {facts.name} do not fit its architecture: {', '.join(wrong[:5])}")
    return look_at(network, example_inputs(facts), [head])


def read_recipe(path: Path) -> list[Step]:
    """The steps in a YAML or JSON file: a list of {op: NAME, ...} or {NAME: PATH} or {NAME: {...}}.

    Only plain values are read: no tags, no aliases. DataError says what is wrong.
    """
    try:
        if path.stat().st_size > RECIPE_BYTES:
            raise DataError(f"{path} has {path.stat().st_size >> 10:,} KB; a recipe may have {RECIPE_BYTES >> 10:,}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8", expected="a recipe as YAML or JSON") from None
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise DataError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    values = _plain(path, text)
    if not isinstance(values, list):
        raise DataError(f"{path} is not a recipe", expected="a list of steps, such as\n- remove: layer4")
    return [_step(path, i, value) for i, value in enumerate(values)]


def _plain(path: Path, text: str) -> Any:
    import yaml

    class Plain(yaml.SafeLoader):
        """Plain values alone: an alias may stand for more than memory holds."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not read")
            return super().compose_node(parent, index)

    try:
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.load(text, Plain)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read as a recipe ({said})", expected="YAML such as\n- remove: layer4") from None


def _step(path: Path, number: int, value: Any) -> Step:
    if isinstance(value, dict) and isinstance(value.get("op"), str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        ((name, arguments),) = value.items()
        if isinstance(arguments, dict) and "op" not in arguments:
            return {"op": str(name), **{str(k): v for k, v in arguments.items()}}
        if isinstance(arguments, str):
            return {"op": str(name), "layer" if name == "append" else "path": arguments}
    raise DataError(f"{path}, step {number + 1}: {value!r} is not a step", expected="such as - remove: layer4")


def written_steps(
    recipe: str | None, remove: Sequence[str], replaced: Sequence[str], insert: Sequence[str], resize: int | None = None
) -> list[Step]:
    """The steps that options name: first those of the file, then what is removed, replaced, inserted, resized.

    `replaced` and `insert` are PATH=LAYER; an inserted layer comes after PATH. UsageError names what is not of this form.
    """
    steps: list[Step] = read_recipe(Path(recipe)) if recipe else []
    faults = [f"--{o} {t}: expected PATH=LAYER" for o, given in (("replace", replaced), ("insert", insert)) for t in given if "=" not in t]
    if faults:
        raise UsageError(faults[0]) if len(faults) == 1 else UsageError("edits that cannot be read", faults=faults)
    steps += [{"op": "remove", "path": path} for path in remove]
    for text in replaced:
        path, _, layer = text.partition("=")
        steps.append({"op": "replace", "path": path.strip(), "layer": layer.strip()})
    for text in insert:
        path, _, layer = text.partition("=")
        steps.append({"op": "insert", "after": path.strip(), "layer": layer.strip()})
    if resize is not None:
        steps.append({"op": "resize_input", "size": resize})
    return steps


@dataclass(frozen=True)
class Edited:
    """A pretrained network after a recipe, for features: without an output layer.

    `facts` are those of the original with the recipe in its architecture. `weights` is the state dict after the recipe.
    """

    facts: ModelFacts
    steps: list[Step]
    patch: list[str]
    new_weights: int
    weights: dict[str, Tensor]


def edit_network(facts: ModelFacts, steps: Sequence[Step]) -> Edited:
    """Follow a recipe on a pretrained network. UsageError when it does not fit, or changes the output layer."""
    from torch import nn

    from regraft.anatomy import described, look_at
    from regraft.anatomy.layers import layer_at
    from regraft.jobs.common import wait_without_spinning

    wait_without_spinning()
    head = architecture_of(facts.architecture).head(facts.architecture)
    bad = [s for s in steps if s.get("op") in (*FREEZING, "append")]
    if bad:
        raise UsageError(
            f"the recipe says {bad[0]['op']}, and --train head freezes all and puts one linear layer at the end",
            move="leave that step away; heads of several layers and deeper training are not there yet",
        )
    inputs = example_inputs(facts)
    base = build(facts.architecture, 0)
    base.load_state_dict(source_of(facts).weights(facts))
    net = look_at(base, inputs, [head]).follow(steps)
    if not isinstance(layer_at(net.module, head), nn.Identity):
        raise UsageError(
            f"the recipe changes the output layer {head}, and --train head puts one linear layer there",
            move="leave that step away; heads of several layers are not there yet",
        )
    if len(net.seen.outputs[0]) != 2:
        raise UsageError(f"afterwards the network gives {net.seen.outputs[0]} for two examples", expected="one row of features each")
    preprocessing = dict(facts.preprocessing)
    for name, value in net.inputs.items():
        if value.ndim == 4 and value.shape[1] != 3:
            raise UsageError(f"afterwards {name} has {value.shape[1]} channels", expected="3: images are read in colours")
        if value.ndim == 4 and value.shape[2] != inputs[name].shape[2]:
            preprocessing["size"] = value.shape[2]
    architecture = described(facts.architecture, inputs, steps)
    changed = replace(facts, architecture=architecture, preprocessing=preprocessing, features=net.seen.outputs[0][1])
    diff = net.diff()
    return Edited(changed, [dict(s) for s in steps], diff.lines(), diff.new, dict(net.module.state_dict()))


SHOWN_TOKENS = 128
"""The length of the text for which the cut is told: what is kept grows with it."""


def show_model(
    facts: ModelFacts, *, steps: Sequence[Step] = (), train: str | None = None, depth: int | None = None, cut: bool = False
) -> dict[str, Any]:
    """A network's layers as plain data: parts in the order in which data passes, shapes of one example, parameters, multiply-adds.

    `train` are the layers that train; when not given, those that freezing steps leave, else the head. `depth` is how many names
    deep; when not given, so deep that the blocks are seen. `cut` adds where the frozen part ends, what is kept of an example, and what
    that saves. No weights are needed: the table is the same for random ones.
    """
    changed = _open(facts, classes=2, weights=False).follow(steps)
    if train is None:
        train = None if any(s.get("op") in FREEZING for s in steps) else "head"
    net = changed if train is None else changed.train_only(train)
    every, live = net.totals()
    depth = depth or max(2, *(path.count(".") + 1 for paths in net.parts.blocks for path in paths[:1]), 2)
    return {
        "model": facts.to_json(),
        "here": not source_of(facts).missing(facts),
        "inputs": {k: list(v.shape[1:]) for k, v in net.inputs.items()},
        "parts": {name: list(paths) for name, paths in net.parts.items() if paths},
        "layers": [row.to_json() for row in net.rows(depth)],
        "parameters": every,
        "depth": depth,
        "trained": live,
        "train": ", ".join(net.trained.paths) if train is None else train,
        "macs": net.seen.macs,
        **({"diff": net.diff().to_json(), "patch": net.diff().lines(), "recipe": changed.recipe()} if steps else {}),
        **({"cut": _cut_of(net)} if cut else {}),
    }


def _cut_of(net: Net) -> dict[str, Any]:
    """The facts of the cut as plain data; of a network that cannot be cut those of no cut, with the reason."""
    import torch

    from regraft.errors import CutError
    from regraft.features.cut import find_cut, no_cut

    inputs = dict(net.inputs)
    for name, value in inputs.items():
        if value.ndim == 2 and not value.is_floating_point():  # tokens: the example has two
            inputs[name] = torch.cat([value[:, :1].expand(-1, SHOWN_TOKENS - 1), value[:, 1:2]], 1).contiguous()
    try:
        found = find_cut(net.module, inputs, net.frozen())
    except CutError as error:
        found = no_cut(net.module, inputs, net.frozen(), error.found, net.seen.macs)
    return found.to_json()
