"""The MLflow sink: numbers as metrics, settings as parameters, everything else as files of the run."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from toolkit.errors import cannot_start
from toolkit.media import gif, png
from toolkit.names import valid
from toolkit.record import Artifact, Histogram, HParams, Image, Record, Table, Text, Value, Video

# MLflow's limits.
_METRICS_A_CALL = 1000
_PARAMETERS_A_CALL = 100
_NAME_CHARACTERS = 250
_VALUE_CHARACTERS = 6000


class MlflowSink:
    """Logs records into an MLflow run that the next process continues, each at the step of its policy.

    What is no number becomes a file `<stream>/<key>/<step>` of the run. `tracking_uri` is by default MLflow's own, and
    `run_name` the name of the run directory `log_dir`, which keeps the id of the run.

    Raises:
        SinkError: the tracking server or store cannot be used.
        OSError: `log_dir` cannot be written.
    """

    name = "MLflow"

    def __init__(
        self,
        log_dir: Path,
        *,
        tracking_uri: str | None = None,
        experiment: str = "grpo",
        run_name: str | None = None,
    ) -> None:
        self._id_file = log_dir / "mlflow" / "run_id"
        self._experiment = experiment
        self._run_name = run_name or log_dir.resolve().name
        # A server that is gone is asked for minutes otherwise, before the training starts and at its end.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        try:
            self._client = MlflowClient(tracking_uri)
            self._run_id = self._started()
        except MlflowException as error:
            raise cannot_start("mlflow", error) from error

    def write(self, records: Sequence[Record]) -> None:
        """Send the numbers of all records in as few calls as MLflow allows, and the files of each record in one."""
        metrics = [metric for record in records for metric in _metrics(record)]
        for start in range(0, len(metrics), _METRICS_A_CALL):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _METRICS_A_CALL])
        for record in records:
            others = {key: value for key, value in record.values.items() if not isinstance(value, float)}
            if others:
                self._log_others(record, others)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run_id)

    def set_aside(self) -> None:
        """Keep what was logged as a run of another name, and go on in an empty one."""
        self.close()
        self._client.update_run(self._run_id, name=f"{self._run_name} until {self._run_id[:8]}")
        self._id_file.unlink()
        self._run_id = self._started()

    def _started(self) -> str:
        if self._id_file.exists():
            run_id = self._id_file.read_text()
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        experiment = self._client.get_experiment_by_name(self._experiment)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(self._experiment)
        run_id = str(self._client.create_run(experiment_id, run_name=self._run_name).info.run_id)
        self._id_file.parent.mkdir(parents=True, exist_ok=True)
        self._id_file.write_text(run_id)
        return run_id

    def _log_others(self, record: Record, values: Mapping[str, Value]) -> None:
        with TemporaryDirectory() as directory:
            for key, value in values.items():
                if isinstance(value, HParams):
                    self._log_parameters(value)
                elif isinstance(value, Artifact):
                    self._log_artifact(value)
                else:
                    _save(value, Path(directory) / record.stream / _name(key) / str(record.policy_step))
            self._client.log_artifacts(self._run_id, directory)

    def _log_parameters(self, settings: HParams) -> None:
        """Those that the run does not have yet: MLflow refuses another value, which a resumed run may have."""
        known = self._client.get_run(self._run_id).data.params
        named = {_name(key): valid(str(value))[:_VALUE_CHARACTERS] for key, value in settings.values.items()}
        new = [Param(name, value) for name, value in named.items() if name not in known]
        for start in range(0, len(new), _PARAMETERS_A_CALL):
            self._client.log_batch(self._run_id, params=new[start : start + _PARAMETERS_A_CALL])

    def _log_artifact(self, value: Artifact) -> None:
        place = f"{_name(value.kind)}/{_name(value.name)}"
        log = self._client.log_artifacts if value.path.is_dir() else self._client.log_artifact
        log(self._run_id, str(value.path), place)
        about = {"kind": value.kind, "sha256": value.sha256, "metadata": dict(value.metadata)}
        self._client.log_dict(self._run_id, about, f"{place}.json")


def _metrics(record: Record) -> list[Metric]:
    milliseconds, step = round(record.time * 1000), record.policy_step
    numbers = record.values.items()
    return [Metric(_name(key), value, milliseconds, step) for key, value in numbers if isinstance(value, float)]


def _name(key: str) -> str:
    """The key in the characters that MLflow allows, as a relative path."""
    allowed = re.sub(r"[^/\w.\- :]", "_", key)[:_NAME_CHARACTERS]
    return posixpath.normpath("/" + allowed).lstrip("/") or "_"


def _save(value: Value, path: Path) -> None:
    """Write the value into a file at `path`, with the ending of its kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match value:
        case Text(text):
            path.with_suffix(".md").write_text(text, errors="replace")
        case Image():
            path.with_suffix(".png").write_bytes(png(value))
        case Video():
            path.with_suffix(".gif").write_bytes(gif(value))
        case Histogram(counts, edges):
            shown: Any = {"counts": counts.tolist(), "edges": edges.tolist()}
            path.with_suffix(".json").write_bytes(orjson.dumps(shown))
        case Table(columns, rows):
            # Not MLflow's own table, which needs pandas and reads and writes the whole file for each part.
            shown = {"columns": list(map(valid, columns)), "data": [[_cell(cell) for cell in row] for row in rows]}
            path.with_suffix(".json").write_bytes(orjson.dumps(shown))


def _cell(cell: str | float | None) -> str | float | None:
    return valid(cell) if isinstance(cell, str) else cell
