"""What every sink must do, whatever its backend is."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from toolkit.logger import Logger
from toolkit.record import Histogram, HParams, Record, Table, Text, Value
from toolkit.sinks import Sink
from toolkit.sinks.by_stream import ByStream
from toolkit.sinks.console import ConsoleSink
from toolkit.sinks.jsonl import JsonlSink
from toolkit.sinks.memory import MemorySink
from toolkit.sinks.tensorboard import TensorBoardSink

SINKS: dict[str, Callable[[Path], Sink]] = {
    "memory": lambda path: MemorySink(),
    "jsonl": lambda path: JsonlSink(path / "run" / "metrics.jsonl"),
    "console": lambda path: ConsoleSink(1e-9, console=Console(file=io.StringIO())),
    "console lines": lambda path: ConsoleSink(1e-9, style="lines", console=Console(file=io.StringIO())),
    "tensorboard": lambda path: TensorBoardSink(path / "run" / "tensorboard"),
    "by stream": lambda path: ByStream({"samples": MemorySink()}, rest=MemorySink()),
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
}


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    return SINKS[request.param](tmp_path)


def test_it_takes_every_kind_of_value_in_every_stream(sink: Sink) -> None:
    """No value and no stream makes a sink raise, also when steps repeat or go back."""
    for stream in ("train", "heldout", "system", "samples", "mine"):
        for step in (0, 1, 1, 5, 3):
            sink.write([Record(stream, step, step, 1e9 + step, EVERYTHING)])
    sink.close()


def test_it_takes_an_empty_record(sink: Sink) -> None:
    """A record without values is no error."""
    sink.write([Record("train", 0, 0, 0.0, {})])
    sink.close()


def test_it_can_be_closed_unused(sink: Sink) -> None:
    """A run that ends before its first step closes cleanly."""
    sink.close()


def test_it_works_behind_the_logger(sink: Sink) -> None:
    """Driven by the logger's thread no write fails."""
    with Logger([sink]) as logger:
        for step in range(20):
            logger.log(step, EVERYTHING)
    assert logger.health.sink_failures == 0
