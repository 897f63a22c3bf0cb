"""The shared logger: order, isolation, bounds, and what it never does to the caller."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.logger import Logger
from toolkit.record import HParams, Record, Text
from toolkit.sinks import jsonl
from toolkit.sinks.memory import MemorySink


class RaisingSink:
    """Raises at every write from the given one on."""

    def __init__(self, good_writes: int = 0) -> None:
        self.good_writes = good_writes
        self.calls = 0

    def write(self, records: Sequence[Record]) -> None:
        self.calls += 1
        if self.calls > self.good_writes:
            raise OSError("No space left on device")

    def close(self) -> None:
        raise RuntimeError("and not closing either")


class WaitingSink(MemorySink):
    """Waits at its first write until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.gate = threading.Event()

    def write(self, records: Sequence[Record]) -> None:
        self.entered.set()
        self.gate.wait(30)
        super().write(records)


def test_what_was_logged_before_close_is_written_in_order() -> None:
    """Close drains the queue, keeps the order, closes each sink once, and may be called again."""
    sinks = [MemorySink(), MemorySink()]
    logger = Logger(sinks)
    for step in range(500):
        logger.log(step, {"loss": float(step)})
    logger.close()
    logger.close()
    for sink in sinks:
        assert sink.series("loss") == [(step, float(step)) for step in range(500)]
        assert sink.closed


def test_values_of_every_kind_become_host_values() -> None:
    """Python, NumPy and JAX numbers become floats; nested mappings get slashes; strings become texts."""
    sink = MemorySink()
    with Logger([sink]) as logger:
        logger.log(
            3,
            {
                "a": 1,
                "b": np.float32(2.5),
                "c": jnp.float32(3.5),
                "d": {"e": {"f": np.int64(4)}},
                "note": "hello",
                "hparams": HParams({"lr": 0.1}),
            },
        )
        logger.log(4, lambda: {"lazy": 5.0})
    first, second = sink.records
    assert first.values == {
        "a": 1.0,
        "b": 2.5,
        "c": 3.5,
        "d/e/f": 4.0,
        "note": Text("hello"),
        "hparams": HParams({"lr": 0.1}),
    }
    assert second.values == {"lazy": 5.0}


def test_a_torch_number_is_read_as_a_float() -> None:
    """A tensor with one element, also one that requires a gradient, is a number."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    sink = MemorySink()
    with Logger([sink]) as logger:
        logger.log(0, {"loss": torch.tensor(0.5), "graph": torch.tensor(0.25, requires_grad=True)})
    assert sink.records[0].values == {"loss": 0.5, "graph": 0.25}


def test_a_value_that_changes_in_place_is_logged_as_it_was() -> None:
    """An accumulator of NumPy or torch keeps the value it had when it was logged, nested or not."""
    total = np.zeros(())
    sink = MemorySink()
    with Logger([sink]) as logger:
        for step in range(50):
            total += 1
            logger.log(step, {"total": total, "deep": {"total": total}})
    assert sink.series("total") == sink.series("deep/total") == [(step, step + 1.0) for step in range(50)]


def test_a_late_result_carries_both_steps() -> None:
    """A row says at which step it was logged and which policy it measured."""
    sink = MemorySink()
    with Logger([sink]) as logger:
        logger.log(40, {"accuracy": 0.5}, stream="heldout", policy_step=25)
    (record,) = sink.records
    assert (record.stream, record.step, record.policy_step) == ("heldout", 40, 25)


def test_a_failing_sink_hurts_no_other_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """A sink that raises is left out after three failures in a row; the others have every row."""
    bad, good = RaisingSink(good_writes=2), MemorySink()
    with caplog.at_level(logging.WARNING, logger="toolkit"), Logger([bad, good]) as logger:
        for step in range(20):
            logger.log(step, {"x": 1.0})
    assert len(good.records) == 20
    assert bad.calls == 2 + 3 * 2  # two that went well, then three rows that were tried twice
    assert logger.health.sink_failures == 20 - 2 + 1  # every missed row, and the close
    named = [message for message in caplog.messages if "is left out and tried again" in message]
    assert len(named) == 1
    assert "RaisingSink" in named[0]


def test_a_row_that_fails_once_is_written_at_the_second_attempt() -> None:
    """A moment's trouble of a backend loses nothing."""

    class Hiccup(MemorySink):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def write(self, records: Sequence[Record]) -> None:
            self.calls += 1
            if self.calls == 2:
                raise TimeoutError("try again")
            super().write(records)

    sink = Hiccup()
    with Logger([sink]) as logger:
        for step in range(4):
            logger.log(step, {"x": 0.0})
    assert [record.step for record in sink.records] == [0, 1, 2, 3]
    assert logger.health.sink_failures == 0


def test_a_full_queue_drops_and_counts_and_never_blocks() -> None:
    """While a sink hangs, logging stays instant, and what does not fit is counted."""
    sink = WaitingSink()
    logger = Logger([sink], capacity=10)
    logger.log(0, {"x": 0.0})
    assert sink.entered.wait(10)
    for step in range(1, 101):
        logger.log(step, {"x": float(step)})
    assert logger.health.dropped == 90
    assert logger.health.queue_depth == 10
    sink.gate.set()
    logger.close()
    assert [record.step for record in sink.records] == list(range(11))


def test_close_gives_up_on_a_hanging_sink(caplog: pytest.LogCaptureFixture) -> None:
    """Close waits no longer than it was told, and says how much is not written."""
    sink = WaitingSink()
    logger = Logger([sink], close_s=0.2)
    logger.log(0, {"x": 0.0})
    assert sink.entered.wait(10)
    logger.log(1, {"x": 1.0})
    with caplog.at_level(logging.ERROR, logger="toolkit"):
        logger.close()
    assert any("did not finish in 0.2 s" in message for message in caplog.messages)
    sink.gate.set()


def test_values_that_cannot_be_read_are_left_out_and_the_rest_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """An array, a failing function and an object that is no mapping each cost only themselves."""
    sink = MemorySink()
    with caplog.at_level(logging.WARNING, logger="toolkit"), Logger([sink]) as logger:
        logger.log(0, {"good": 1.0, "array": np.zeros(3), "object": object()})
        logger.log(1, lambda: 1 / 0)  # type: ignore[arg-type, return-value]  # wrong on purpose
        logger.log(2, 7)  # type: ignore[arg-type]  # wrong on purpose
        logger.log(3, {"after": 2.0})
    assert [dict(record.values) for record in sink.records] == [{"good": 1.0}, {"after": 2.0}]
    assert logger.health.bad_values == 4
    assert any("'array'" in message for message in caplog.messages)


def test_the_same_trouble_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A value that is wrong at every step fills no log file."""
    with caplog.at_level(logging.WARNING, logger="toolkit"), Logger([MemorySink()]) as logger:
        for step in range(50):
            logger.log(step, {"bad": object()})
    assert len(caplog.messages) == 1
    assert logger.health.bad_values == 50


def test_processors_change_and_drop_records() -> None:
    """Each record passes the processors in order; None drops it."""
    sink = MemorySink()

    def only_even(record: Record) -> Record | None:
        return record if record.step % 2 == 0 else None

    with Logger([sink], [only_even]) as logger:
        for step in range(6):
            logger.log(step, {"x": 0.0})
    assert [record.step for record in sink.records] == [0, 2, 4]


def test_flush_returns_when_everything_so_far_is_written() -> None:
    """After flush the rows are in the sink, without waiting for a burst to end."""
    sink = MemorySink()
    with Logger([sink], burst_s=60.0) as logger:
        logger.log(0, {"x": 0.0})
        started = time.monotonic()
        assert logger.flush(timeout_s=10)
        assert len(sink.records) == 1
        assert time.monotonic() - started < 10


def test_logging_after_close_is_counted_as_dropped() -> None:
    """A row that comes too late raises nothing and is counted."""
    logger = Logger([MemorySink()])
    logger.close()
    logger.log(0, {"x": 0.0})
    assert logger.health.dropped == 1
    started = time.monotonic()
    assert logger.flush(timeout_s=30)
    assert time.monotonic() - started < 10


def test_a_sink_that_recovers_is_taken_back(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that is full for a while costs the rows of that while, not the rest of the run's history."""
    monkeypatch.setattr("toolkit.logger._RETRY_S", 0.05)

    class Full(MemorySink):
        full = True

        def write(self, records: Sequence[Record]) -> None:
            if self.full:
                raise OSError("No space left on device")
            super().write(records)

    sink = Full()
    with caplog.at_level(logging.WARNING, logger="toolkit"), Logger([sink]) as logger:
        for step in range(5):
            logger.log(step, {"x": 0.0})
        logger.flush()
        sink.full = False
        time.sleep(0.1)
        for step in range(5, 10):
            logger.log(step, {"x": 0.0})
    assert [record.step for record in sink.records] == [5, 6, 7, 8, 9]
    assert any("Full is back; it missed 5 rows" in message for message in caplog.messages)


def test_a_step_may_be_a_number_of_jax_or_numpy() -> None:
    """A step kept in a Flax train state is an array; it is logged as a whole number."""
    sink = MemorySink()
    with Logger([sink]) as logger:
        for step in (jnp.int32(3), np.int64(4), 5.0):
            logger.log(step, {"x": 0.0})  # type: ignore[arg-type]  # what users pass
    assert [(record.step, type(record.step)) for record in sink.records] == [(3, int), (4, int), (5, int)]


ENDINGS = {
    "falls off the end": "",
    "sys.exit": "sys.exit(3)",
    "an exception": "raise RuntimeError('the training failed')",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
    "SIGTERM to a host that exits": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    ),
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
}
CODES = {"falls off the end": 0, "sys.exit": 3, "an exception": 1, "SIGTERM": -15, "Ctrl-C": -2}


@pytest.mark.parametrize("ending", ENDINGS)
def test_however_the_process_ends_nothing_logged_is_lost(ending: str, tmp_path: Path) -> None:
    """Rows logged just before an exit, an error, SIGTERM or Ctrl-C are in the journal; the exit code is unchanged."""
    code = f"""
import os, signal, sys, time
from pathlib import Path
from toolkit.logger import Logger
from toolkit.sinks.jsonl import JsonlSink
logger = Logger([JsonlSink(Path({str(tmp_path / "journal.jsonl")!r}))], burst_s=0.5)
for step in range(1000):
    logger.log(step, {{"x": float(step)}})
{ENDINGS[ending]}
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert [record.step for record in jsonl.read(tmp_path / "journal.jsonl")] == list(range(1000))
    assert ended.returncode == CODES.get(ending, 0)


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_a_second_signal_while_closing_loses_nothing(second: str, tmp_path: Path) -> None:
    """Ctrl-C twice, or SIGTERM after Ctrl-C, while a slow sink is still written to: every row arrives."""
    code = f"""
import os, signal, threading, time
from pathlib import Path
from toolkit.logger import Logger
from toolkit.sinks.jsonl import JsonlSink
class Slow(JsonlSink):
    def write(self, records):
        time.sleep(0.02)
        super().write(records)
with Logger([Slow(Path({str(tmp_path / "journal.jsonl")!r}))]) as logger:
    for step in range(100):
        logger.log(step, {{"x": float(step)}})
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.{second})).start()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert [record.step for record in jsonl.read(tmp_path / "journal.jsonl")] == list(range(100))
