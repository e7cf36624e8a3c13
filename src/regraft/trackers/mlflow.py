"""MLflow: a run in an experiment of its tracking server, or of a database: SQLite in the run's folder where nothing else is set.

What was asked for are params, what was decided are tags. `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` are heard.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from regraft.trackers.base import Opening, Point, Tracker

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""MLflow's own settings, where the user did not choose: it reports to nobody, says nothing on the screen, and gives up early."""

FIGURES, TEXTS = 1000, 100
"""How many a call takes."""

STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


def _load() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401


class _Session:
    def __init__(self, opening: Opening) -> None:
        from mlflow.tracking import MlflowClient

        own = f"sqlite:///{(opening.folder / 'mlflow.db').absolute()}"
        where = opening.destination or os.environ.get("MLFLOW_TRACKING_URI") or own
        self._client: Any = MlflowClient(where)
        if opening.id is not None:
            self.id = opening.id
            self._client.update_run(self.id, status="RUNNING")
            return
        files = (opening.folder / "mlflow-artifacts").absolute().as_uri() if where == own else None
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "regraft", files)
        self.id = self._client.create_run(experiment, run_name=opening.name).info.run_id

    def _experiment(self, name: str, files: str | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name, artifact_location=files)
            except MlflowException:
                # another fit made it just now
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def params(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        self._send(params=[Param(*item) for item in values.items()])

    def notes(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._send(tags=[RunTag(f"regraft.{name}", value) for name, value in values.items()])

    def points(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        self._send(FIGURES, metrics=[Metric(p.name, p.value, int(p.time * 1000), p.step or 0) for p in points])

    def _send(self, most: int = TEXTS, **of: Sequence[Any]) -> None:
        ((kind, items),) = of.items()
        left = iter(items)
        while part := list(islice(left, most)):
            self._client.log_batch(self.id, **{kind: part})

    def close(self, status: str) -> None:
        self._client.set_terminated(self.id, STATUS[status])


TRACKER = Tracker("mlflow", "the packages mlflow-skinny, sqlalchemy and alembic", "mlflow", _load, _Session)
