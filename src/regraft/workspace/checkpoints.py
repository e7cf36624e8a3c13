"""A checkpoint: how far a training is, in one safetensors file with plain data in its header. Written aside and renamed, so that a file
under its name is whole; nothing in it can execute.

It holds an identity, what it belongs to: the data, network, recipe, settings and versions of one training. A checkpoint of another one is
refused, with what differs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regraft.errors import RunError
from regraft.workspace.files import cannot_write, written_aside

FORMAT = 1

EVERY = 30.0
"""Seconds between two checkpoints at least: what a kill loses at most, but for a step."""

SHARE = 0.02
"""Part of the time that saving may take: where writing is slow, checkpoints are further apart."""


class Checkpoint:
    """The file of one training. `clock` gives seconds that never go back."""

    def __init__(self, path: Path, identity: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.clock = path, clock
        self.identity = json.loads(json.dumps(identity))
        self._next = clock() + EVERY

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self.clock() >= self._next

    def save(self, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Replace what is there. WriteError where the disk does not take it; what was there stays."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        begun = self.clock()
        header = {"format": FORMAT, "identity": self.identity, "facts": facts}
        try:
            with written_aside(self.path, durable=True) as aside:
                # (ascontiguousarray alone would give a counter without dimensions one)
                plain = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in tensors.items()}
                save_file(plain, aside, metadata={"regraft": json.dumps(header)})
        except SafetensorError as error:
            raise cannot_write(self.path, error) from None
        now = self.clock()
        self._next = now + max(EVERY, (now - begun) / SHARE)

    def read(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """(tensors, facts) of what was saved last; None when nothing was. RunError when it is damaged, or belongs to another training."""
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return None
        move = f"remove {self.path}: this training then begins anew"
        try:
            with safe_open(self.path, framework="numpy") as file:
                header = json.loads((file.metadata() or {})["regraft"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
                version, identity, facts = header["format"], header["identity"], dict(header["facts"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"the checkpoint {self.path} cannot be read: {error}", move=move) from None
        if version != FORMAT:
            raise RunError(f"the checkpoint {self.path} has format {version}; this regraft reads {FORMAT}", move=move)
        if found := differences(identity, self.identity):
            raise RunError(f"the checkpoint {self.path} belongs to another training", faults=found, move=move)
        return tensors, facts


SHOWN = 80
"""Characters of a value in a difference."""


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two plain values, in sentences with the names of keys; of mappings each key by itself."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*before, *now])
        return [found for key in keys for found in differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))]
    return [] if before == now else [f"{name} was {_short(before)}, and is now {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."
