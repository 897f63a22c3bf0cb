"""What every sink must do, whatever its backend is."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from toolkit.history import History
from toolkit.lines.install import InstalledLines
from toolkit.logger import Health, Logger
from toolkit.record import Artifact, Histogram, HParams, Image, Record, Table, Text, Value, Video
from toolkit.settings.lines import Lines
from toolkit.sinks import Sink
from toolkit.sinks.console import ConsoleSink
from toolkit.sinks.csv import CsvSink
from toolkit.sinks.jsonl import JsonlSink
from toolkit.sinks.memory import MemorySink
from toolkit.sinks.mlflow import MlflowSink
from toolkit.sinks.parquet import ParquetSink
from toolkit.sinks.tensorboard import TensorBoardSink
from toolkit.sinks.text import TextSink
from toolkit.sinks.trackio import TrackioSink
from toolkit.sinks.view import View
from toolkit.sinks.wandb import WandbSink

SINKS: dict[str, Callable[[Path], Sink]] = {
    "memory": lambda path: MemorySink(),
    "jsonl": lambda path: JsonlSink(path / "run" / "metrics.jsonl"),
    "console": lambda path: ConsoleSink(1e-9, console=Console(file=io.StringIO())),
    "console lines": lambda path: ConsoleSink(1e-9, style="lines", console=Console(file=io.StringIO())),
    "tensorboard": lambda path: TensorBoardSink(path / "run" / "tensorboard"),
    "text": lambda path: TextSink(closing=InstalledLines(Lines(), path / "run").close),
    "csv": lambda path: CsvSink(path / "run" / "csv"),
    "parquet": lambda path: ParquetSink(path / "run" / "parquet"),
    "view": lambda path: View(CsvSink(path / "run" / "csv"), past(path / "run" / "metrics.jsonl")),
    "wandb": lambda path: WandbSink(path, mode="offline", project="tests"),
    "trackio": lambda path: TrackioSink(path, project="contract"),
    "mlflow": lambda path: MlflowSink(path, tracking_uri=(path / "mlruns").as_uri()),
}
EVERYTHING: dict[str, Value] = {
    "float": 1.0,
    "nan": float("nan"),
    "infinity": float("inf"),
    "histogram": Histogram(np.array([1.0, 2.0]), np.array([0.0, 1.0, 2.0])),
    "empty histogram": Histogram(np.zeros(2), np.array([0.0, 1.0, 2.0])),
    "table": Table(("a", "b"), [("x|y", 1.0), ("\n", None)]),
    "text": Text("*hello*"),
    "settings": HParams({"a": 1.0, "b": "x", "c": None, "d": True}),
    "a strange [key]/ü": 2.0,
    "": 3.0,
    "half a character \ud800": 4.0,
    "halves": Table(("\ud800",), [("\ud800",)]),
    "half a setting": HParams({"\ud800": "\ud800"}),
    "picture": Image(np.zeros((2, 3, 3), np.uint8), "black"),
    "moving picture": Video(np.zeros((2, 4, 3, 3), np.float32)),
    "model": Artifact("model", Path(__file__), "model", "00", {"loss": 0.5}),
}


def past(journal: Path) -> History:
    """Of a run whose last step was 2."""
    JsonlSink(journal).write([Record("train", step, step, 1e9 + step, {"float": 0.0}) for step in range(3)])
    return History(journal)


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    return SINKS[request.param](tmp_path)


def test_it_takes_every_kind_of_value_in_every_stream(sink: Sink) -> None:
    """Behind the logger no value and no stream makes a sink raise, also when steps repeat or go back."""
    with Logger([sink]) as logger:
        for stream in ("train", "heldout", "system", "samples", "mine", "", "\ud800"):
            for step in (0, 1, 1, 5, 3):
                logger.log(step, EVERYTHING, stream=stream)
                logger.flush()
    assert logger.health == Health(0, 0, 0, 0)


def test_it_takes_an_empty_record(sink: Sink) -> None:
    """A record without values is no error."""
    sink.write([Record("train", 0, 0, 0.0, {})])
    sink.close()


def test_it_can_be_closed_unused(sink: Sink) -> None:
    """A run that ends before its first step closes cleanly."""
    sink.close()


def test_it_takes_bursts(sink: Sink) -> None:
    """Many rows at once are no trouble either."""
    with Logger([sink]) as logger:
        for step in range(20):
            logger.log(step, EVERYTHING)
    assert logger.health.sink_failures == 0
