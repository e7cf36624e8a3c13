"""Networks in the hand: opened, changed by a recipe, shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import DataError, ModelError, UsageError
from regraft.facts import ModelFacts
from regraft.jobs.common import patterns
from regraft.jobs.frozen import choose_network
from regraft.jobs.written import plain_values
from regraft.modality import MODALITIES
from regraft.pretrained import Access, find_model, source_of
from regraft.pretrained.architectures import architecture_of, build
from regraft.pretrained.python import of_module, settings_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.anatomy import Net
    from regraft.anatomy.net import Step

FREEZING = ("freeze", "unfreeze", "train")
"""Steps that say what trains."""

TRUNCATE = "truncate"
"""The step that cuts a network off after a block."""

LORA = "lora"
"""The step that adds adapters: at first they add nothing, and what they learnt ends in the weights of the layers they stand at."""


def example_inputs(facts: ModelFacts) -> dict[str, Tensor]:
    """Two examples of nothing, as the network takes them."""
    modality = MODALITIES[facts.task]
    blank = modality.blank(facts.preprocessing)
    return modality.collate([blank, blank], facts.preprocessing)


def load(
    model: str | nn.Module,
    *,
    preprocessing: Mapping[str, Any] | None = None,
    task: str = "image",
    classes: int = 2,
    recipe: str | Path | Sequence[Step] = (),
    weights: bool = True,
    offline: bool = False,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
) -> Net:
    """A pretrained network with a new output layer for `classes`, after a recipe (steps, or the path of a YAML or JSON file).

    Or a torch module of your own as it is, in evaluation mode; `task` (image or audio) and `preprocessing` say what it takes: see `fit`.

    `weights=False` opens its shape alone, with random weights. Everything trains until `freeze`. `offline`, `allow_code` and
    `allow` are those of `FitSpec`. Raises UsageError for a recipe that
    does not fit, ModelError when the weights are not here.
    """
    if not isinstance(model, str):
        from regraft.anatomy import look_at

        inputs = own_inputs(model, task, preprocessing)
        return look_at(model, inputs).follow(read_recipe(Path(recipe)) if isinstance(recipe, (str, Path)) else recipe)
    net = _open(find_model(model, Access(offline, allow_code, patterns(allow))), classes=classes, weights=weights)
    return net.follow(read_recipe(Path(recipe)) if isinstance(recipe, (str, Path)) else recipe)


def own_inputs(module: nn.Module, task: str, preprocessing: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """Two examples of nothing as the forward of a module of one's own names them; several inputs have the modality's names."""
    import inspect

    modality = MODALITIES[task]
    settings = settings_of(module, task, preprocessing)
    blank = modality.blank(settings)
    inputs = modality.collate([blank, blank], settings)
    named = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    return dict(zip(named, inputs.values(), strict=False)) if len(inputs) == 1 and named else inputs


def named_model(model: str | nn.Module | Net | None) -> str | None:
    """What a spec calls the network of a fit."""
    if model is None or isinstance(model, str):
        return model
    from regraft.anatomy import Net

    if isinstance(model, Net) and model.facts is not None:
        return model.facts.name
    own = type(model.module if isinstance(model, Net) else model)
    return f"python:{own.__module__}:{own.__qualname__}"


@dataclass(frozen=True)
class Given:
    """The network of a fit: its facts as its source has it, and where it is not that, how it was changed."""

    base: ModelFacts
    edited: Edited | None

    @property
    def facts(self) -> ModelFacts:
        """Of the network whose features are taken."""
        return self.edited.facts if self.edited else self.base


def given_network(
    model: str | nn.Module | Net | None, task: str, preprocessing: Mapping[str, Any] | None, steps: Sequence[Step], may: Access
) -> Given:
    """The network that a fit was given, after `steps`: a name or nothing, a Net, or a module of one's own.

    A Net that was opened by name and whose recipe can be written is that network after its recipe and `steps`; where its weights were
    changed by hand, with these. UsageError when what was given cannot be kept in a bundle.
    """
    if model is None or isinstance(model, str):
        if preprocessing is not None:
            raise UsageError("preprocessing= is for a torch module of your own", move="leave it away")
        facts = choose_network(model, task, may)
        return Given(facts, edit_network(facts, steps) if steps else None)
    from regraft.anatomy import Net

    changed = bool(steps)
    if isinstance(model, Net):
        if model.facts is not None:
            if model.facts.task != task:
                raise UsageError(f"{model.facts.name} is for {model.facts.task}, the data is {task}", move=f"regraft models --task {task}")
            return _of_net(model, model.facts, [*model.recipe(), *steps])
        changed, model = changed or bool(model.steps), model.module
    if changed:
        raise UsageError(
            "a module of your own that regraft changed cannot be made again from a bundle",
            expected="a function that makes the changed module: model='package.module:function'",
        )
    facts, state = of_module(model, task, preprocessing)
    return Given(facts, Edited(facts, [], [], False, None, False, [], 0, state))


def _of_net(net: Net, facts: ModelFacts, steps: Sequence[Step]) -> Given:
    import hashlib

    import torch

    from regraft.anatomy.adapters import merged

    edited = edit_network(facts, steps)
    own = merged(net.module).state_dict()
    theirs = {name: own[name] for name, tensor in edited.weights.items() if name in own and own[name].shape == tensor.shape}
    if all(torch.equal(tensor, edited.weights[name]) for name, tensor in theirs.items()):
        return Given(facts, edited if steps else None)
    digest = hashlib.sha256()
    weights = {name: theirs.get(name, tensor).detach().clone() for name, tensor in edited.weights.items()}
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode() + tensor.cpu().contiguous().numpy().tobytes())
    changed = replace(edited.facts, sha256=digest.hexdigest(), trained_on=f"{edited.facts.trained_on}, then by your own code")
    return Given(facts, replace(edited, facts=changed, weights=weights))


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
    return look_at(network, example_inputs(facts), [head], facts=facts)


def read_recipe(path: Path) -> list[Step]:
    """The steps in a YAML or JSON file: a list of {op: NAME, ...} or {NAME: PATH} or {NAME: {...}}.

    Only plain values are read: no tags, no aliases. DataError says what is wrong.
    """
    values = plain_values(path, "recipe", "- remove: layer4")
    if not isinstance(values, list):
        raise DataError(f"{path} is not a recipe", expected="a list of steps, such as\n- remove: layer4")
    return [_step(path, i, value) for i, value in enumerate(values)]


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
    recipe: str | None,
    remove: Sequence[str],
    replaced: Sequence[str],
    insert: Sequence[str],
    resize: int | None = None,
    lora: str | None = None,
    rank: int | None = None,
    at: str | None = None,
) -> list[Step]:
    """The steps that options name: first those of the file, then what is removed, replaced, inserted, resized, then where the network
    ends, and adapters last.

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
    if at is not None:
        steps.append({"op": TRUNCATE, "after": at})
    if lora is not None:
        steps.append({"op": LORA, "path": lora, **({} if rank is None else {"rank": rank})})
    elif rank is not None:
        raise UsageError(f"--rank {rank} is of adapters, and there are none", move='--lora "blocks"')
    return steps


@dataclass(frozen=True)
class Edited:
    """A pretrained network after a recipe, for features: without an output layer.

    `facts` are those of the network before its output layer, with the steps that change it in its architecture. `weights` is its state
    dict after them. `steps` is the whole recipe and `structure` its steps that change layers, those of the head too; `trains` what its
    freezing steps leave to train, None where there are none. `lora` says whether it has adapters: they are in `structure` alone.
    """

    facts: ModelFacts
    steps: list[Step]
    structure: list[Step]
    has_own_head: bool
    trains: str | None
    lora: bool
    patch: list[str]
    new_weights: int
    weights: dict[str, Tensor]


def edit_network(facts: ModelFacts, steps: Sequence[Step]) -> Edited:
    """Follow a recipe on a pretrained network. UsageError when it does not fit."""
    from regraft.anatomy import described, look_at
    from regraft.jobs.common import wait_without_spinning

    wait_without_spinning()
    head = architecture_of(facts.architecture).head(facts.architecture)
    whole, below, structure, freezing = _sorted_out(facts, steps)
    lora = [step for step in structure if step["op"] == LORA]
    own_head = len(below) + len(lora) < len(structure)
    inputs = example_inputs(facts)
    base = build(facts.architecture, 0)
    base.load_state_dict(source_of(facts).weights(facts))
    net = look_at(base, inputs, [head]).follow(below)
    if len(net.seen.outputs[0]) != 2:
        raise UsageError(f"afterwards the network gives {net.seen.outputs[0]} for two examples", expected="one row of features each")
    preprocessing = dict(facts.preprocessing)
    for name, value in net.inputs.items():
        if value.ndim == 4 and value.shape[1] != 3:
            raise UsageError(f"afterwards {name} has {value.shape[1]} channels", expected="3: images are read in colours")
        if value.ndim == 4 and value.shape[2] != inputs[name].shape[2]:
            preprocessing["size"] = value.shape[2]
    architecture = described(facts.architecture, inputs, below)
    width, parameters = net.seen.outputs[0][1], net.totals()[0]
    changed = replace(facts, architecture=architecture, preprocessing=preprocessing, features=width, parameters=parameters)
    trains = _trained_without_adapters(whole.follow(freezing), bool(lora)) if freezing else None
    patch = (whole if own_head or lora else net).diff().lines()
    weights = dict(net.module.state_dict())
    ends = (step for step in structure if step["op"] == TRUNCATE)
    written: list[Step] = [dict(next(ends) if step.get("op") == TRUNCATE else step) for step in steps]
    return Edited(changed, written, structure, own_head, trains, bool(lora), patch, net.diff().new, weights)


def _trained_without_adapters(net: Net, lora: bool) -> str:
    """A selection of what trains, without the adapters, which train anyway, as does the head where there are any."""
    from regraft.anatomy.adapters import outside_adapters

    return ", ".join(outside_adapters(net.module, net.trained.paths)) or "head" * lora


def _sorted_out(facts: ModelFacts, steps: Sequence[Step]) -> tuple[Net, list[Step], list[Step], list[Step]]:
    """(the network after all that change layers, with random weights; steps that change the features; steps that change layers, the
    head's and adapters too; freezing steps) of a recipe, each in order.

    That the old head is removed goes without saying: a new output layer comes in its place.
    """
    from regraft.anatomy.depths import depth_at

    net = _open(facts, classes=2, weights=False)
    below: list[Step] = []
    structure: list[Step] = []
    freezing: list[Step] = []
    for step in map(dict, steps):
        if step.get("op") in FREEZING:
            freezing.append(step)
            continue
        at = step.get("path") or step.get("after") or step.get("before")
        inside_head = step.get("op") == "append"
        if isinstance(at, str) and not inside_head and step.get("op") != LORA and step.get("op") != "resize_input":
            inside_head = all(in_head(net, path) for path in net.select(at).paths)
        if inside_head and step.get("op") == "remove" and "after" not in step:
            continue
        if step.get("op") == TRUNCATE and isinstance(at, str):
            # the same features have one description, however their place was named
            step["after"] = depth_at(net, at)
        structure.append(step)
        if not inside_head and step.get("op") != LORA:
            below.append(step)
        net = net.apply(step)
    return net, below, structure, freezing


def _linears(net: Net, path: str) -> list[str]:
    """The paths of the linear layers at or in a layer that have a bias, in their order."""
    from torch import nn

    from regraft.anatomy.layers import layer_at

    inner = layer_at(net.module, path).named_modules(prefix=path)
    return [name for name, layer in inner if isinstance(layer, nn.Linear) and layer.bias is not None]


def in_head(net: Net, path: str) -> bool:
    """Whether a layer is the head or lies in it."""
    from regraft.anatomy.parts import inside

    return any(inside(path, h) for h in net.head)


@dataclass(frozen=True)
class Whole:
    """A network with weights and its new head, and what trains.

    `architecture` describes it with every step but those of adapters, which are merged in the end; `plain` says that its head is one
    linear layer, as the head's own fit makes it; `output` is the path of the last linear layer.
    """

    net: Net
    architecture: dict[str, Any]
    plain: bool
    output: str


def whole_network(facts: ModelFacts, edited: Edited | None, weights: Mapping[str, Tensor], outputs: int, train: str) -> Whole:
    """A pretrained network after its recipe, with `weights` below the head and a head for `outputs`; what `train` selects, the head and
    what is new trains. A head that ends in no linear layer gets one behind it. `facts` are those before the recipe. UsageError for a
    head that ends in a linear layer of another size.
    """
    from torch import nn

    from regraft.anatomy import described
    from regraft.anatomy.adapters import plain_names
    from regraft.anatomy.layers import layer_at

    steps = list(edited.structure) if edited else []
    net = _open(facts, classes=outputs, weights=False).follow(steps)
    (head,) = net.head
    if net.seen.outputs[0][1:] != (outputs,) or not _linears(net, head):
        _check_end(list(layer_at(net.module, head).modules())[-1], outputs)
        steps = [*steps, {"op": "append", "layer": f"Linear({outputs})"}]
        net = net.apply(steps[-1])
    names = plain_names(net.module)
    net.module.load_state_dict({own: weights[name] for own, name in names.items() if name in weights}, strict=False)
    wrong = [n for n in names.values() if n not in weights and not n.startswith(f"{head}.")] + sorted(set(weights) - set(names.values()))
    if wrong:
        raise ModelError(f"the weights of {facts.name} do not fit the network: {', '.join(wrong[:5])}")
    lora = edited is not None and edited.lora
    net = net.train_only(train, "head") if train == "head" and not lora else _with_new(net.train_only(train, "head"))
    described_as = described(facts.architecture, example_inputs(facts), [s for s in steps if s["op"] != LORA])
    return Whole(net, described_as, isinstance(layer_at(net.module, head), nn.Linear), _linears(net, head)[-1])


def _check_end(last: nn.Module, outputs: int) -> None:
    from torch import nn

    if isinstance(last, nn.Linear) and last.out_features != outputs:
        raise UsageError(
            f"the head ends in Linear({last.out_features}), and there are {outputs} outputs to learn",
            expected=f"Linear({outputs}) at the end, or no linear layer there: one is added",
        )


def head(outputs: int, *hidden: int, dropout: float = 0.0) -> str:
    """A new head in writing, for `Net.replace`: linear layers of the sizes `hidden`, ReLU and dropout behind each, then the output layer.

    `head(7)` is "Linear(7)". UsageError for sizes that no layer can have.
    """
    if any(type(size) is not int or size < 1 for size in (outputs, *hidden)) or not 0 <= dropout < 1:
        raise UsageError(
            f"no head has {outputs} outputs, hidden layers of {list(hidden)} and dropout {dropout}",
            expected="sizes from 1, dropout from 0 to below 1",
        )
    if not hidden:
        return f"Linear({outputs})"
    parts = [part for size in hidden for part in (f"Linear({size})", "ReLU()", *([f"Dropout({dropout})"] if dropout else []))]
    return f"Sequential({', '.join([*parts, f'Linear({outputs})'])})"


def _with_new(net: Net) -> Net:
    """The same, and what is new trains too."""
    from regraft.anatomy.select import joined

    return replace(net, trained=joined(net.module, net.trained, net.fresh()))


SHOWN_TOKENS = 128
"""The length of the text for which the cut is told: what is kept grows with it."""


def show_model(
    facts: ModelFacts, *, steps: Sequence[Step] = (), train: str | None = None, depth: int | None = None, cut: bool = False
) -> dict[str, Any]:
    """A network's layers as plain data: parts in the order in which data passes, shapes of one example, parameters, multiply-adds.

    `train` are the layers that train; when not given, those that freezing steps leave, else the head; with adapters, these and what else is
    new too. `depth` is how many names
    deep; when not given, so deep that the blocks are seen. `cut` adds where the frozen part ends, what is kept of an example, and what
    that saves. No weights are needed: the table is the same for random ones.
    """
    changed = _open(facts, classes=2, weights=False).follow(steps)
    if train is None:
        train = None if any(s.get("op") in FREEZING for s in steps) else "head"
    net = changed if train is None else changed.train_only(train)
    if any(s.get("op") == LORA for s in steps):
        net = _with_new(net)
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


def longer(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Example inputs with texts of the length for which work is told: the example has two tokens."""
    import torch

    found = dict(inputs)
    for name, value in found.items():
        if value.ndim == 2 and not value.is_floating_point():
            found[name] = torch.cat([value[:, :1].expand(-1, SHOWN_TOKENS - 1), value[:, 1:2]], 1).contiguous()
    return found


def _cut_of(net: Net) -> dict[str, Any]:
    """The facts of the cut as plain data; of a network that cannot be cut those of no cut, with the reason."""
    from regraft.errors import CutError
    from regraft.features.cut import find_cut, no_cut

    inputs = longer(net.inputs)
    try:
        found = find_cut(net.module, inputs, net.frozen())
    except CutError as error:
        found = no_cut(net.module, inputs, net.frozen(), error.found, net.seen.macs)
    return found.to_json()
