"""Net: a network in the hand: seen, selected, frozen and changed; every change gives another Net and is checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from regraft.anatomy.adapters import bare, merged
from regraft.anatomy.diff import Diff, difference
from regraft.anatomy.freezing import Frozen
from regraft.anatomy.layers import layer_at
from regraft.anatomy.operations import OPERATIONS, Edit
from regraft.anatomy.parts import Parts, find_parts, inside
from regraft.anatomy.select import Selected, joined, select, without
from regraft.anatomy.trace import Broken, Shape, Trace, own_copy, trace
from regraft.anatomy.tree import Row, rows, totals
from regraft.errors import MissingExtra, ModelError, UsageError, nearest
from regraft.facts import ModelFacts

Step = Mapping[str, Any]
"""One operation of a recipe: {"op": "remove", "path": "layer4"}."""


@dataclass(frozen=True)
class Net:
    """A network with one example batch, what was done to it, and what trains.

    `inputs` are the keyword arguments of its forward, batch first (at least 2 examples); `head` the paths of its output layers.
    `module` belongs to this Net: changes are made on copies. `kept` says for each parameter and buffer which one of the network at the
    start it is; those that it lacks are new. `adapted` are kept ones of another shape.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    head: tuple[str, ...]
    seen: Trace
    parts: Parts
    trained: Selected
    steps: tuple[Step, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    adapted: frozenset[str] = frozenset()
    before: Net | None = None
    """The network at the start."""
    seed: int = 0
    facts: ModelFacts | None = None
    """What it was opened from; None for a module of one's own."""

    # ------------------------------------------------------------ seeing

    def rows(self, depth: int | None = None) -> list[Row]:
        """The layers as a table, in the order in which data passes."""
        return rows(self.module, self.seen, self.parts, self.trained, self.fresh(), depth)

    def totals(self) -> tuple[int, int]:
        """(parameters, those that train)."""
        return totals(self.module, self.trained)

    def select(self, *text: str) -> Selected:
        """The layers that a selection means."""
        return select(self.module, self.parts, list(text))

    def fresh(self) -> Selected:
        """The layers all of whose parameters are new."""
        if self.before is None:
            return Selected(())
        fresh = {n for n, _ in self.module.named_parameters() if n not in self.kept}
        every = [n for n, _ in self.module.named_parameters(remove_duplicate=False)]
        holding = {p for n in every for p in _above(n)}
        old = {p for n in every if n not in fresh for p in _above(n)}
        return Selected(tuple(p for p, _ in self.module.named_modules() if p in holding and p not in old))

    # ------------------------------------------------------------ freezing

    def freeze(self, *text: str) -> Net:
        """These layers stay as they are, also under other names that they have; a parameter that is tied to theirs too."""
        chosen = without(self.module, self.trained, select(self.module, self.parts, list(text)))
        return self._stepped({"op": "freeze", "path": ", ".join(text)}, trained=chosen)

    def unfreeze(self, *text: str) -> Net:
        """These layers train."""
        found = select(self.module, self.parts, list(text))
        chosen = joined(self.module, self.trained, found)
        return self._stepped({"op": "unfreeze", "path": ", ".join(text)}, trained=chosen)

    def train_only(self, *text: str) -> Net:
        """These layers train, and nothing else."""
        found = select(self.module, self.parts, list(text))
        return self._stepped({"op": "train", "path": ", ".join(text)}, trained=found)

    def frozen(self, adapt: bool = False) -> Frozen:
        """What an optimisation needs to know; `adapt`: batch norms that train follow the batches."""
        return Frozen(self.trained, adapt)

    def _stepped(self, step: Step, **changes: Any) -> Net:
        return replace(self, steps=(*self.steps, step), **changes)

    # ------------------------------------------------------------ surgery

    def remove(self, path: str | None = None, *, after: str | None = None) -> Net:
        """Without a layer, a block, a stage, the old head ("head"), or everything between `after` and the head."""
        return self.apply({"op": "remove", **_given(path=path, after=after)})

    def truncate(self, after: str) -> Net:
        """Ended after a block."""
        return self.apply({"op": "truncate", "after": after})

    def replace(self, path: str, layer: str | nn.Module) -> Net:
        """With another layer at a path, written (`Linear(256)`) or a module."""
        return self.apply({"op": "replace", "path": path, "layer": layer})

    def insert(self, layer: str | nn.Module, *, after: str | None = None, before: str | None = None) -> Net:
        """With one layer more."""
        return self.apply({"op": "insert", "layer": layer, **_given(after=after, before=before)})

    def append(self, layer: str | nn.Module) -> Net:
        """With one layer more at the end of the head."""
        return self.apply({"op": "append", "layer": layer})

    def reinit(self, path: str) -> Net:
        """With random weights in some layers."""
        return self.apply({"op": "reinit", "path": path})

    def resize_input(self, *, size: int | None = None, channels: int | None = None) -> Net:
        """For images of another size or number of channels."""
        return self.apply({"op": "resize_input", **_given(size=size, channels=channels)})

    def lora(self, select: str, rank: int = 8, alpha: float | None = None) -> Net:
        """With low-rank adapters (LoRA) at the linear layers, convolutions and embeddings of a selection: their own weights are frozen,
        the adapters train. It gives what it gave before.
        """
        return self.apply({"op": "lora", "path": select, "rank": rank, **_given(alpha=alpha)})

    def merged(self) -> nn.Module:
        """A copy of the module without adapters, whose weights hold what they learnt."""
        return own_copy(merged(self.module))

    def apply(self, step: Step) -> Net:
        """A step of a recipe, checked on a copy before it counts: shapes through the whole network. UsageError names the step and what
        does not fit, MissingExtra what it needs.
        """
        name, arguments = _checked(step)
        try:
            if name in ("freeze", "unfreeze", "train"):
                change = {"freeze": self.freeze, "unfreeze": self.unfreeze, "train": self.train_only}[name]
                return change(arguments["path"])
            return self._changed(name, arguments, step)
        except MissingExtra:
            raise
        except (UsageError, ModelError) as error:
            text = f"{_told(step)}: {error.found}"
            raise UsageError(text, expected=error.expected, move=error.move, faults=error.faults) from None

    def _changed(self, name: str, arguments: Mapping[str, Any], step: Step) -> Net:
        seed = self.seed + len(self.steps)
        plan = Edit(self.module, self.seen, self.parts, self.head, dict(self.inputs), seed)
        broken: Broken | None = None
        for attempt in OPERATIONS[name].apply(plan, **arguments):
            memo: dict[int, Any] = {}
            module = own_copy(self.module, memo)
            names: dict[int, list[str]] = {}
            for n, v in _tensors(self.module):
                if id(v) in memo:
                    names.setdefault(id(memo[id(v)]), []).append(n)
            edit = Edit(module, self.seen, self.parts, self.head, dict(self.inputs), seed)
            attempt(edit)
            try:
                seen = self._fitted(edit)
                idle = _idle(edit, seen)
                if idle:
                    raise Broken(idle, (), "the new layer", RuntimeError("no data passes it there"))
                _try_in_training(edit, seen)
            except Broken as error:
                broken = broken or error
                continue
            return self._finished(edit, seen, names, step)
        assert broken is not None, name
        expected, move = self._advice(name, arguments, broken)
        raise UsageError(f"afterwards {broken.found}", expected=expected, move=move)

    def _advice(self, name: str, arguments: Mapping[str, Any], broken: Broken) -> tuple[str, str]:
        """(what is expected, what to try) when a network does not run after an operation."""
        expected = "shapes that go together through the whole network"
        if name == "remove" and "path" in arguments and broken.path and _has(self.module, broken.path):
            both = f"{arguments['path']}, {broken.path}"
            return expected, f'--remove "{both}"'
        if name in ("replace", "insert"):
            at = select(self.module, self.parts, str(arguments.get("path") or arguments.get("after") or arguments.get("before"))).paths[0]
            call = self.seen.calls[at][0]
            gives = call.inputs if "before" in arguments else call.outputs
            return f"a layer that gives {_size(gives[0])} there", ""
        return expected, ""

    def _fitted(self, edit: Edit) -> Trace:
        """The trace after a change; a linear head that gets another number of features is made anew for it."""
        try:
            return trace(edit.network, edit.inputs)
        except Broken as broken:
            path = broken.path
            layer = layer_at(edit.network, path) if path else None
            at_head = any(path == h or path.startswith(f"{h}.") for h in self.head)
            if not at_head or not isinstance(layer, nn.Linear) or not broken.came or len(broken.came[0]) < 2:
                raise
            if path in self.seen.calls and len(self.seen.calls[path][0].inputs[0]) != len(broken.came[0]):
                raise  # a map where there was a row: another head would hide it
            edit.put(path, edit.new_layer(f"Linear({layer.out_features}, bias={layer.bias is not None})", broken.came[0]))
            return trace(edit.network, edit.inputs)

    def _finished(self, edit: Edit, seen: Trace, names: Mapping[int, Sequence[str]], step: Step) -> Net:
        module = edit.network
        if not seen.outputs or any(d == 0 for shape in seen.outputs for d in shape):
            raise UsageError("afterwards the network gives nothing")
        if [s[:1] for s in self.seen.outputs[:1]] == [(self.seen.batch,)] and seen.outputs[0][:1] != (seen.batch,):
            raise UsageError(f"afterwards the network gives {_size(seen.outputs[0])}: no row for each example")
        own = self._own()
        kept: dict[str, str] = {}
        for name, tensor in _tensors(module):
            # one that has several names keeps the one that it has here
            earlier = names.get(id(tensor), ())
            original = own.get(name if name in earlier else next(iter(earlier), ""))
            if original is not None:
                kept[name] = original
        adapted = set(self.adapted) & set(kept)
        for name in edit.adapted & set(own):
            adapted.add(name)
            kept.setdefault(name, own[name])
        parts = find_parts(bare(module), seen, [h for h in self.head if _has(module, h)])
        trained = self._still_trained(module, kept, Selected(tuple(edit.frozen)))
        start = self.before or self
        steps = (*self.steps, dict(step))
        return Net(module, edit.inputs, self.head, seen, parts, trained, steps, kept, frozenset(adapted), start, self.seed, self.facts)

    def _own(self) -> Mapping[str, str]:
        """`kept`, of the network at the start too."""
        return self.kept if self.before is not None else {n: n for n, _ in _tensors(self.module)}

    def _still_trained(self, module: nn.Module, kept: Mapping[str, str], frozen: Selected) -> Selected:
        """What trained still trains, under the names that it has now, and so does what is new; nothing that is `frozen` does."""
        own = self._own()
        back = {original: name for name, original in own.items()}
        live = set()
        for name, _ in module.named_parameters(remove_duplicate=False):
            original = kept.get(name)
            earlier = back.get(original) if original is not None else None
            if name not in frozen and (earlier is None or earlier in self.trained):
                live.add(name)
        return _folded(module, live)

    # ------------------------------------------------------------ records

    def recipe(self) -> list[Step]:
        """What was done, as plain data: applied to the same network it gives the same one.

        UsageError when a layer was given as a module.
        """
        for step in self.steps:
            if isinstance(step.get("layer"), nn.Module):
                raise UsageError(
                    f"{_told(step)}: a layer given as a module cannot be written down", expected="its text, such as 'Linear(256)'"
                )
        return [dict(step) for step in self.steps]

    def follow(self, steps: Sequence[Step]) -> Net:
        """All steps of a recipe, in order."""
        net = self
        for step in steps:
            net = net.apply(step)
        return net

    def diff(self) -> Diff:
        """What is different from the network at the start."""
        return difference(self.before or self, self)

    def __str__(self) -> str:
        every, live = self.totals()
        shown = [f"{'  ' * (r.depth - 1)}{r.path:<40} {r.kind:<24} {r.parameters:>12,}" for r in self.rows(2)]
        return "\n".join([*shown, f"{live:,} of {every:,} parameters train"])

    __repr__ = __str__


def look_at(
    module: nn.Module, inputs: Mapping[str, Tensor], head: Sequence[str] = (), *, seed: int = 0, facts: ModelFacts | None = None
) -> Net:
    """A Net of a module that is left as it is: a copy is worked on. ModelError (Broken) when it does not run on `inputs`."""
    if any(v.ndim == 0 for v in inputs.values()) or not inputs:
        raise UsageError("a network is looked at with one batch", expected="tensors with the batch first")
    module = own_copy(module).eval()
    for path in head:
        if not _has(module, path):
            raise ModelError(f"the network has no layer {path!r} to be its head", expected="the path of its output layer")
    seen = trace(module, inputs)
    parts = find_parts(module, seen, list(head))
    everything = Selected(tuple(n for n in dict.fromkeys(name.split(".")[0] for name, _ in _tensors(module))))
    return Net(module, dict(inputs), tuple(head), seen, parts, everything, seed=seed, facts=facts)


def _checked(step: Step) -> tuple[str, dict[str, Any]]:
    """(operation, arguments) of a step, or UsageError."""
    if not isinstance(step, Mapping) or not isinstance(step.get("op"), str):
        raise UsageError(f"{step!r} is not a step", expected="such as {op: remove, path: layer4}")
    name = step["op"]
    arguments = {k: v for k, v in step.items() if k != "op"}
    if name in ("freeze", "unfreeze", "train"):
        if set(arguments) != {"path"} or not isinstance(arguments["path"], str):
            raise UsageError(f"{name} takes a path", expected=f"{{op: {name}, path: ...}}")
        return name, arguments
    if name not in OPERATIONS:
        known = [*OPERATIONS, "freeze", "unfreeze", "train"]
        raise UsageError(f"there is no operation {name!r}. {nearest(name, known)}".rstrip(), expected=", ".join(known))
    record = OPERATIONS[name]
    known = [*record.required, *record.optional]
    wrong = [k for k in arguments if k not in known]
    missing = [k for k in record.required if k not in arguments]
    if wrong or missing:
        told = f"{name} does not take {', '.join(map(str, wrong))}" if wrong else f"{name} needs {', '.join(missing)}"
        raise UsageError(told, expected=f"{name}: {', '.join(known)}")
    texts = [k for k in ("path", "after", "before") if k in arguments and not isinstance(arguments[k], str)]
    if texts:
        raise UsageError(f"{name}: {texts[0]} is {arguments[texts[0]]!r}", expected="the path of a layer, as text")
    if "layer" in arguments and not isinstance(arguments["layer"], (str, nn.Module)):
        raise UsageError(f"{name}: layer is {arguments['layer']!r}", expected="a layer such as 'Linear(256)', or a module")
    return name, arguments


def _told(step: Step) -> str:
    """A step as people write it."""
    more = ", ".join(f"{k}={v if isinstance(v, (str, int, float)) else type(v).__name__}" for k, v in step.items() if k != "op")
    return f"{step.get('op')}({more})"


def _size(shape: Shape) -> str:
    """A shape for people: its batch is n."""
    return f"({', '.join(['n', *map(str, shape[1:])])})"


def _idle(edit: Edit, seen: Trace) -> str:
    """The path of a new layer that no data passes."""
    paths = {m: p for p, m in edit.network.named_modules()}
    return next((paths[m] for m in edit.runs if m in paths and not any(c and inside(c, paths[m]) for c in seen.calls)), "")


def _try_in_training(edit: Edit, seen: Trace) -> None:
    """Run new layers to which whole numbers come in training mode too: a dropout lets tokens pass in use, and in training it cannot.
    Raises Broken.
    """
    paths = {m: p for p, m in edit.network.named_modules()}
    for layer in edit.runs:
        path = paths.get(layer, "")
        calls = [c for c in seen.calls.get(path, ()) if c.whole_numbers and c.inputs]
        for call in calls[:1]:
            try:
                with torch.random.fork_rng(devices=[]), torch.no_grad():
                    own_copy(layer).train()(torch.zeros(call.inputs[0], dtype=torch.long))
            except Exception as error:  # whatever a layer that is not made for whole numbers says
                raise Broken(path, call.inputs[:1], f"{type(layer).__name__}, in training", error) from None


def _given(**arguments: Any) -> dict[str, Any]:
    return {k: v for k, v in arguments.items() if v is not None}


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def _above(name: str) -> list[str]:
    """The paths of the layers that hold a parameter."""
    return [name[:i] for i, letter in enumerate(name) if letter == "."]


def _folded(module: nn.Module, live: set[str]) -> Selected:
    """Topmost paths whose parameters are all `live`."""
    paths: list[str] = []

    def visit(path: str, layer: nn.Module) -> None:
        own = [f"{path}.{n}" if path else n for n, _ in layer.named_parameters(remove_duplicate=False)]
        if path and own and all(n in live for n in own):
            paths.append(path)
            return
        if path and not own:
            return
        own = [f"{path}.{n}" if path else n for n, _ in layer.named_parameters(recurse=False)]
        paths.extend(n for n in own if n in live)
        for name, child in layer.named_children():
            visit(f"{path}.{name}" if path else name, child)

    visit("", module)
    return Selected(tuple(paths))


def step_once(net: Net, loss_of: Any, *, rate: float = 1e-3, adapt: bool = False) -> float:
    """One optimisation step of what trains (AdamW); the loss before it. For checks: training well is another room's."""
    with net.frozen(adapt).training(net.module) as module:
        live = [p for p in module.parameters() if p.requires_grad]
        if not live:
            raise UsageError("nothing trains", expected="at least one layer", move="--train head")
        optimiser = torch.optim.AdamW(live, rate)
        loss = loss_of(module)
        if not loss.requires_grad:
            raise UsageError("what trains has no part in what the network gives", expected="layers that data passes")
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())
