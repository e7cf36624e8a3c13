"""The record that every kind of export fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

SCORES = "scores"
"""The name of the output (batch, outputs) of every file."""

BATCH, LENGTH = "batch", "length"
"""What the sizes of inputs are called that the user of a file chooses."""

Runner = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""From inputs by name to scores (batch, outputs) float32."""


@dataclass(frozen=True)
class Export:
    """A kind of file that a model can be written as.

    packages                             what has to be installed; their versions are recorded
    write(network, inputs, free, notes, path)  write `network`, which takes `inputs` as keyword arguments (batch first, two examples).
                                         `free` says of each input which sizes the user of the file chooses: axis -> name. `notes` go
                                         into the file as text. Gives what is worth recording, as plain data. ModelError when the
                                         network cannot be written, MissingExtra when a package is not there
    runner(path)                         the file in the program that others will run it in
    """

    name: str
    about: str
    ending: str
    packages: tuple[str, ...]
    write: Callable[[nn.Module, Mapping[str, Tensor], Mapping[str, Mapping[int, str]], Mapping[str, str], Path], dict[str, int | str]]
    runner: Callable[[Path], Runner]
