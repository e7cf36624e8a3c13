"""Run: a finished fit in the hand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import RunError
from regraft.facts import AnyPrediction, LeftOut
from regraft.targets import TARGETS
from regraft.workspace.runs import BUNDLE, RESULT, bundle_folder, read_run

if TYPE_CHECKING:
    from torch import nn

    from regraft.artifacts import Model


class Run:
    """A run's folder, or a bundle by itself, ready to use.

    `result` is what `regraft fit --json` printed: model, estimate, baseline, test, seconds and so on; empty for a bundle
    that stands alone. `path` is its folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.result: Mapping[str, Any] = read_run(self.path) if (self.path / RESULT).is_file() or not _has_bundle(self.path) else {}

    @property
    def model(self) -> Model:
        """The bundle, checked."""
        from regraft.artifacts import open_model

        folder = bundle_folder(self.path)
        if not folder.is_dir():
            raise RunError(f"{self.path} holds no {BUNDLE}/", move="regraft fit")
        return open_model(folder)

    def network(self) -> nn.Module:
        """The plain torch module with its new output layer, in evaluation mode."""
        return self.model.network()

    def predict(self, inputs: Any, **options: Any) -> list[AnyPrediction]:
        """Predict labels; see `regraft.predict`. Inputs that cannot be read raise DataError unless `skip_broken=True`."""
        from regraft.jobs.use import predict

        return predict(self.path, inputs, **options)

    def stream(self, inputs: Sequence[Any], **options: Any) -> Iterator[AnyPrediction | LeftOut]:
        """Predictions one by one, in order, with what cannot be read in its place; for any number of inputs."""
        from regraft.jobs.use import stream_predictions

        return stream_predictions(self.path, inputs, **options)

    def evaluate(self, data: Any, **options: Any) -> dict[str, Any]:
        """Figures on labelled data; see `regraft.evaluate`."""
        from regraft.jobs.use import evaluate

        return evaluate(self.path, data, **options)

    def __repr__(self) -> str:
        if not self.result:
            return f"Run({str(self.path)!r})"
        name = TARGETS[self.result["target"]].metrics[0]
        figure = self.result["estimate"][name]
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
        return f"Run({str(self.path)!r}: {self.result['model']}, {name} {figure['value']:.3f} ({interval}))"


def _has_bundle(path: Path) -> bool:
    return (path / "bundle.json").is_file()


def open_run(path: str | os.PathLike[str]) -> Run:
    """The run in a folder that `regraft fit` made, or a bundle that was copied from one.

    Raises RunError when there is none or it did not finish.
    """
    return Run(path)
