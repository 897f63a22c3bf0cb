"""The shared logger: order, isolation, bounds, and what it never does to the caller."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.logger import Health, Logger
from toolkit.record import HParams, Image, Record, Table, Text
from toolkit.sinks import jsonl
from toolkit.sinks.memory import MemorySink


class RaisingSink(MemorySink):
    """Raises at every record from the given step on, and when it is closed."""

    def __init__(self, first_bad: int = 0) -> None:
        super().__init__()
        self.first_bad = first_bad
        self.refused: list[int] = []

    def write(self, records: Sequence[Record]) -> None:
        bad = [record.step for record in records if record.step >= self.first_bad]
        self.refused += bad
        if bad:
            raise OSError("No space left on device")
        super().write(records)

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


class PromptSink(MemorySink):
    """Asks for its records at once, as the journal does."""

    prompt = True


def await_records(sink: MemorySink, count: int) -> None:
    """Wait until the sink has so many; not `flush`, which would wait for every other sink too."""
    deadline = time.monotonic() + 30
    while len(sink.records) < count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(sink.records) >= count


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
        logger.log(5, {1: 2.0})  # type: ignore[dict-item]  # what users pass
    first, second, third = sink.records
    assert third.values == {"1": 2.0}
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
    """A sink that raises is left out after three failing rows in a row; the others have every row."""
    bad, good = RaisingSink(first_bad=2), MemorySink()
    with caplog.at_level(logging.WARNING, logger="toolkit"), Logger([bad, good]) as logger:
        for step in range(20):
            logger.log(step, {"x": 1.0})
            logger.flush()
    assert len(good.records) == 20
    assert [record.step for record in bad.records] == [0, 1]
    assert bad.refused == [2, 2, 3, 3, 4, 4]  # each twice, and then no more
    assert logger.health.sink_failures == 20 - 2 + 1  # every missed row, and the close
    named = [message for message in caplog.messages if "is left out and tried again" in message]
    assert len(named) == 1
    assert "RaisingSink" in named[0]


def test_one_bad_row_of_a_burst_costs_only_itself() -> None:
    """A burst that fails is written again row by row."""

    class OneBadRow(MemorySink):
        def write(self, records: Sequence[Record]) -> None:
            if any(record.step == 7 for record in records):
                raise ValueError("not this one")
            super().write(records)

    sink = OneBadRow()
    with Logger([sink]) as logger:
        for step in range(20):
            logger.log(step, {"x": 1.0})
    assert [record.step for record in sink.records] == [step for step in range(20) if step != 7]
    assert logger.health.sink_failures == 1


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
    """While a row takes long to measure, logging stays instant, and what does not fit is counted."""
    sink = MemorySink()
    entered, gate = threading.Event(), threading.Event()

    def slow() -> dict[str, float]:
        entered.set()
        gate.wait(30)
        return {"x": 0.0}

    logger = Logger([sink], capacity=10)
    logger.log(0, slow)
    assert entered.wait(10)
    for step in range(1, 101):
        logger.log(step, {"x": float(step)})
    assert logger.health.dropped == 90
    assert logger.health.queue_depth == 10
    gate.set()
    logger.close()
    assert [record.step for record in sink.records] == list(range(11))


def test_a_sink_that_hangs_for_ever_hurts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """The others have every row soon; what the hanging one cannot hold is counted, and it is named once."""
    hanging, good = WaitingSink(), MemorySink()
    with caplog.at_level(logging.ERROR, logger="toolkit"):
        logger = Logger([hanging, good], capacity=50, burst_s=0.001, views_s=0.001, close_s=0.5)
        for step in range(200):
            logger.log(step, {"x": 0.0})
            await_records(good, step + 1)
            assert hanging.entered.wait(30)
        logger.close()
    assert [record.step for record in good.records] == list(range(200))
    assert good.closed
    assert logger.health.sink_failures == 149  # one is in its hands, and fifty wait
    assert len([message for message in caplog.messages if "is too slow or hangs" in message]) == 1
    hanging.gate.set()


def test_a_slow_sink_has_everything_in_the_end() -> None:
    """A sink that takes its time writes on while others are done, and close waits for it."""

    class Slow(MemorySink):
        def write(self, records: Sequence[Record]) -> None:
            time.sleep(0.1)
            super().write(records)

    slow, fast = Slow(), MemorySink()
    with Logger([slow, fast], burst_s=0.01) as logger:
        for step in range(30):
            logger.log(step, {"x": 0.0})
            time.sleep(0.005)
    assert [record.step for record in slow.records] == [record.step for record in fast.records] == list(range(30))


def test_flush_waits_for_a_slow_sink_too() -> None:
    """Flush is true only when every sink is through, and false when one is not in time."""
    sink = WaitingSink()
    logger = Logger([sink])
    logger.log(0, {"x": 0.0})
    assert not logger.flush(timeout_s=0.1)
    sink.gate.set()
    assert logger.flush(timeout_s=10)
    assert len(sink.records) == 1
    logger.close()


def test_a_forked_child_leaves_the_run_to_its_parent(tmp_path: Path) -> None:
    """Logging, flushing and closing in a child return at once and write nothing; the parent's rows are all there."""
    code = f"""
import os, sys, warnings
from pathlib import Path
from toolkit.logger import Logger
from toolkit.sinks.jsonl import JsonlSink
logger = Logger([JsonlSink(Path({str(tmp_path / "journal.jsonl")!r}))], burst_s=0.05)
logger.log(0, {{"x": 0.0}})
child = os.fork()
logger.log(1, {{"pid": float(os.getpid())}})
assert child or not logger.flush(10) or logger.health.dropped == 1
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
sys.exit(0)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert [record.step for record in jsonl.read(tmp_path / "journal.jsonl")] == [0, 1]
    assert b"forked" in ended.stderr


def test_close_gives_up_on_a_hanging_sink(caplog: pytest.LogCaptureFixture) -> None:
    """Close waits no longer than it was told, and says how much is not written."""
    sink = WaitingSink()
    logger = Logger([sink], close_s=0.2)
    logger.log(0, {"x": 0.0})
    assert sink.entered.wait(10)
    logger.log(1, {"x": 1.0})
    with caplog.at_level(logging.ERROR, logger="toolkit"):
        logger.close()
    assert any("not everything was written in 0.2 s: WaitingSink: 2 rows" in message for message in caplog.messages)
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


def test_a_picture_that_is_too_large_is_refused_and_the_rest_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """An image of 100 MB costs nothing but itself, and the log says what it was and how large it may be."""
    sink = MemorySink()
    with caplog.at_level(logging.WARNING, logger="toolkit"), Logger([sink]) as logger:
        pixels = np.zeros((5_000, 5_000, 4), np.uint8)
        logger.log(0, {"huge": Image(pixels), "small": Image(np.zeros((2, 3))), "loss": 0.5})
    (record,) = sink.records
    assert record.values.keys() == {"small", "loss"}
    assert any("'huge'" in message and "expected at most 32 MB" in message for message in caplog.messages)


def test_a_picture_is_logged_as_it_was() -> None:
    """Pixels that the caller draws over afterwards do not change what was logged."""
    sink = MemorySink()
    pixels = np.zeros((2, 3), np.uint8)
    with Logger([sink]) as logger:
        logger.log(0, {"board": Image(pixels)})
        pixels[:] = 255
    board = sink.records[0].values["board"]
    assert isinstance(board, Image)
    assert board.pixels.max() == 0


def test_a_table_is_logged_as_it_was() -> None:
    """Cells that the caller changes afterwards, and rows that are taken out, do not change what was logged."""
    sink = MemorySink()
    rows: list[list[str | float | None]] = [["1+1=", 2.0], ["2+3=", 6.0]]
    with Logger([sink]) as logger:
        logger.log(0, {"answers": Table(("prompt", "answer"), rows)})
        rows[0][1] = 3.0
        rows.clear()
    assert sink.series("answers") == [(0, Table(("prompt", "answer"), [["1+1=", 2.0], ["2+3=", 6.0]]))]


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


def test_the_journal_has_a_row_at_once_and_the_others_have_it_later() -> None:
    """What is durable is prompt; a view gets the rows of some time together, and a flush does not wait for that."""
    journal, view = PromptSink(), MemorySink()
    with Logger([view, journal], burst_s=0.001, views_s=60.0) as logger:
        for step in range(3):
            logger.log(step, {"x": 0.0})
            await_records(journal, step + 1)
        assert [record.step for record in journal.records] == [0, 1, 2]
        assert view.records == []
        assert logger.flush(timeout_s=10)
        assert [record.step for record in view.records] == [0, 1, 2]


@pytest.mark.parametrize("is_prompt", [True, False])
def test_a_sink_that_is_only_busy_is_not_overrun(is_prompt: bool) -> None:
    """While it writes one burst the next one waits, and nothing is lost that the queue could hold."""
    began = threading.Event()

    class Busy(MemorySink):
        prompt = is_prompt

        def write(self, records: Sequence[Record]) -> None:
            began.set()
            time.sleep(0.1)
            super().write(records)

    sink = Busy()
    with Logger([sink], capacity=10, burst_s=0.001, views_s=0.001) as logger:
        for step in range(11):
            logger.log(step, {"x": 0.0})
            assert began.wait(10)
    assert [record.step for record in sink.records] == list(range(11))
    assert logger.health.sink_failures == 0


def test_sinks_that_take_long_do_not_keep_the_journal_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much patience they are given, the journal meanwhile gets one burst after the other."""

    class Waiting(WaitingSink):
        prompt = True

    monkeypatch.setattr("toolkit.lane._PATIENCE_S", 3600.0)
    journal, others = PromptSink(), [WaitingSink(), Waiting(), WaitingSink()]
    logger = Logger([*others, journal], burst_s=0.001, views_s=0.001)
    for step in range(20):
        logger.log(step, {"x": 0.0})
        await_records(journal, step + 1)
    assert len(journal.records) == 20
    for other in others:
        other.gate.set()
    logger.close()
    assert [[record.step for record in other.records] for other in others] == [list(range(20))] * 3


def test_views_write_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that write at once would take the interpreter from the training twice as often."""
    monkeypatch.setattr("toolkit.lane._PATIENCE_S", 3600.0)
    at_work, together = 0, []

    class Counting(MemorySink):
        def write(self, records: Sequence[Record]) -> None:
            nonlocal at_work
            at_work += 1
            time.sleep(0.02)
            together.append(at_work)
            at_work -= 1
            super().write(records)

    with Logger([Counting(), Counting(), Counting()], burst_s=0.001, views_s=0.001) as logger:
        for step in range(5):
            logger.log(step, {"x": 0.0})
            logger.flush()
    assert together == [1] * 15


def test_what_waits_for_a_sink_is_written_at_once() -> None:
    """A sink that takes as long for one row as for many does not fall behind."""
    writes: list[int] = []

    class Waiting(WaitingSink):
        def write(self, records: Sequence[Record]) -> None:
            super().write(records)
            writes.append(len(records))

    journal, view = PromptSink(), Waiting()
    logger = Logger([view, journal], burst_s=0.001, views_s=0.001)
    logger.log(0, {"x": 0.0})
    assert view.entered.wait(30)
    for step in range(1, 20):
        logger.log(step, {"x": 0.0})
        await_records(journal, step + 1)
    view.gate.set()
    logger.close()
    assert writes == [1, 19]
    assert [record.step for record in view.records] == list(range(20))


def test_a_view_has_its_rows_when_its_time_has_come() -> None:
    """It needs no other row for that."""
    view = MemorySink()
    with Logger([view], burst_s=0.001, views_s=0.01) as logger:
        logger.log(0, {"x": 0.0})
        await_records(view, 1)
        assert len(view.records) == 1


def test_views_follow_when_the_training_leaves_the_interpreter_to_the_worker() -> None:
    """With the work ahead of a row they get the rows before it."""
    journal, view = PromptSink(), MemorySink()
    with Logger([journal, view], burst_s=0.001, views_s=60.0) as logger:
        logger.log(0, {"x": 0.0})
        await_records(journal, 1)
        logger.ahead(lambda: None)
        await_records(view, 1)
        assert len(view.records) == 1


def test_a_row_that_is_logged_while_the_logger_closes_reaches_all_sinks_or_none() -> None:
    """What another thread logs just then is not in the journal alone."""
    gate, taken = threading.Event(), threading.Event()

    class Late(dict[str, float]):
        def values(self) -> Any:
            taken.set()
            gate.wait(10)
            return super().values()

    def opening(record: Record) -> Record:
        gate.set()
        other.join(10)
        return record

    sinks = [PromptSink(), MemorySink(), MemorySink()]
    logger = Logger(sinks, [opening], burst_s=60.0, views_s=3600.0)
    logger.log(0, {"x": 0.0})
    other = threading.Thread(target=logger.log, args=(1, Late(x=1.0)))
    other.start()
    assert taken.wait(10)
    logger.close()
    other.join()
    assert [[record.step for record in sink.records] for sink in sinks] == [[0, 1]] * 3


def test_many_rows_do_not_wait_for_their_time() -> None:
    """What waits for the views stays small."""
    journal, view = PromptSink(), MemorySink()
    with Logger([journal, view], burst_s=0.001, views_s=60.0) as logger:
        for step in range(2000):
            logger.log(step, {"x": 0.0})
        await_records(journal, 2000)
        await_records(view, 1000)
        assert len(view.records) >= 1000


def test_work_ahead_of_a_row_is_done_at_once() -> None:
    """The worker does not wait for a burst to end, and the row that comes after the work is logged after it."""
    sink, order, began = MemorySink(), list[str](), threading.Event()
    with Logger([sink], burst_s=60.0) as logger:
        logger.ahead(lambda: order.append("work"))
        logger.ahead(began.set)
        assert began.wait(10)
        logger.log(0, lambda: order.append("row") or {"x": 0.0})  # type: ignore[func-returns-value]  # None is falsy
    assert order == ["work", "row"]
    assert len(sink.records) == 1


def test_work_ahead_that_fails_costs_no_row(caplog: pytest.LogCaptureFixture) -> None:
    """It is said and counted, and the worker goes on; after the end nothing is taken."""
    sink = MemorySink()
    with Logger([sink]) as logger:
        logger.ahead(lambda: 1 / 0)
        logger.log(0, {"x": 0.0})
    logger.ahead(lambda: 1 / 0)
    assert [record.step for record in sink.records] == [0]
    assert logger.health == Health(0, 0, 0, 1)
    assert "left out work ahead of a row: ZeroDivisionError" in caplog.text


def test_a_row_that_comes_when_the_worker_has_just_ended_is_counted_as_dropped() -> None:
    """Between being let in and being queued it may take so long that the logger is closed."""
    logger = Logger([MemorySink()])

    class Slow(dict[str, float]):
        def values(self) -> Any:
            logger.close()
            return super().values()

    logger.log(0, Slow(x=0.0))
    assert logger.health == Health(0, 1, 0, 0)


def test_flush_while_the_logger_closes_waits_for_its_end() -> None:
    """The worker has ended and takes no more, while a sink still closes: what was logged is then written."""
    closing, gate, flushed = threading.Event(), threading.Event(), list[bool]()

    class Closing(MemorySink):
        def close(self) -> None:
            closing.set()
            gate.wait(30)

    logger = Logger([Closing()])
    other = threading.Thread(target=logger.close)
    other.start()
    assert closing.wait(30)
    assert not logger.flush(timeout_s=0.01)
    late = threading.Thread(target=lambda: flushed.append(logger.flush(timeout_s=3600)))
    late.start()
    gate.set()
    late.join(60)
    other.join()
    assert flushed == [True]


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
    monkeypatch.setattr("toolkit.lane._RETRY_S", 0.05)

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
