"""What MLflow's client reads back from a store of files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from toolkit.errors import SinkError
from toolkit.record import Artifact, Histogram, HParams, Image, Record, Table, Text, Value, Video
from toolkit.sinks.mlflow import MlflowSink


def record(step: int, values: dict[str, Value], stream: str = "train", policy_step: int | None = None) -> Record:
    """A record, one second a step."""
    return Record(stream, step, step if policy_step is None else policy_step, 1e9 + step, values)


def sink_in(path: Path) -> MlflowSink:
    """A sink with a store of its own."""
    return MlflowSink(path, tracking_uri=(path / "store").as_uri())


def runs(path: Path) -> list[Run]:
    """All runs of the experiment, the oldest first."""
    client = MlflowClient((path / "store").as_uri())
    experiment = client.get_experiment_by_name("grpo")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def series(path: Path, run: Run, key: str) -> list[tuple[int, float]]:
    """The steps and values of a metric."""
    history = MlflowClient((path / "store").as_uri()).get_metric_history(run.info.run_id, key)
    return [(metric.step, metric.value) for metric in history]


def test_rows_stand_at_the_step_of_their_policy(tmp_path: Path) -> None:
    """A late row is kept at its own step, and the next process continues the run."""
    for records in ([record(7, {"loss": 0.5})], [record(9, {"loss": 1.0}, "heldout", 3)]):
        sink = sink_in(tmp_path)
        sink.write(records)
        sink.close()
    (run,) = runs(tmp_path)
    assert series(tmp_path, run, "loss") == [(7, 0.5), (3, 1.0)]
    assert (run.info.run_name, run.info.status) == (tmp_path.name, "FINISHED")


def test_burst_larger_than_one_call_is_sent_whole(tmp_path: Path) -> None:
    """MLflow takes 1000 metrics a call, and a burst may have more."""
    sink = sink_in(tmp_path)
    sink.write([record(step, {f"x{number}": 1.0 for number in range(60)}) for step in range(40)])
    sink.close()
    (run,) = runs(tmp_path)
    assert [step for step, _ in series(tmp_path, run, "x59")] == list(range(40))


def test_names_and_settings_are_brought_within_the_limits(tmp_path: Path) -> None:
    """Characters that MLflow refuses become underlines; long values are cut, and a changed setting stays as it was."""
    sink = sink_in(tmp_path)
    sink.write([record(0, {"../a [key]//b": 1.0, "settings": HParams({"lr": 0.5, "long": "x" * 9000})})])
    sink.write([record(1, {"settings": HParams({"lr": 0.25, "new": True})})])
    sink.close()
    (run,) = runs(tmp_path)
    assert run.data.metrics == {"a _key_/b": 1.0}
    assert run.data.params == {"lr": "0.5", "long": "x" * 6000, "new": "True"}


def test_what_is_no_number_becomes_a_file(tmp_path: Path) -> None:
    """Each value is a file of its stream, its key and its step; an artifact has its checksum beside it."""
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    values: dict[str, Value] = {
        "histogram": Histogram(np.array([2, 3]), np.array([0.0, 1.0, 2.0])),
        "samples/table": Table(("text", "number"), [("a", 1.0), ("\ud800", float("nan"))]),
        "text": Text("*hello* \ud800"),
        "image": Image(np.full((2, 3), 0.5)),
        "video": Video(np.zeros((2, 4, 4, 3), np.uint8)),
        "model": Artifact("my model", model, "model", "abc", {"step": 3.0}),
    }
    sink = sink_in(tmp_path)
    sink.write([record(5, values)])
    sink.close()
    (run,) = runs(tmp_path)
    files = tmp_path / "store" / run.info.experiment_id / run.info.run_id / "artifacts"
    assert json.loads((files / "train/histogram/5.json").read_text()) == {"counts": [2, 3], "edges": [0, 1, 2]}
    table = json.loads((files / "train/samples/table/5.json").read_text())
    assert table == {"columns": ["text", "number"], "data": [["a", 1.0], ["?", None]]}
    assert (files / "train/text/5.md").read_text() == "*hello* ?"
    assert (files / "train/image/5.png").read_bytes().startswith(b"\x89PNG")
    assert (files / "train/video/5.gif").read_bytes().startswith(b"GIF89a")
    assert (files / "model/my model/model.bin").read_bytes() == b"weights"
    about = {"kind": "model", "sha256": "abc", "metadata": {"step": 3.0}}
    assert json.loads((files / "model/my model.json").read_text()) == about


def test_run_that_is_set_aside_keeps_its_rows_under_another_name(tmp_path: Path) -> None:
    """A history that is written anew stands alone under the run's name."""
    sink = sink_in(tmp_path)
    sink.write([record(9, {"x": 9.0})])
    sink.set_aside()
    sink.write([record(3, {"x": 3.0})])
    sink.close()
    old, new = runs(tmp_path)
    assert (series(tmp_path, old, "x"), series(tmp_path, new, "x")) == ([(9, 9.0)], [(3, 3.0)])
    assert new.info.run_name == tmp_path.name
    assert old.info.run_name != tmp_path.name


def test_store_that_cannot_be_used_is_an_error_before_training(tmp_path: Path) -> None:
    """An address that this installation of MLflow does not know is named."""
    with pytest.raises(SinkError, match=r"sinks\.mlflow: cannot start: (.|\n)*nowhere(.|\n)*without this backend"):
        MlflowSink(tmp_path, tracking_uri="nowhere://x")
