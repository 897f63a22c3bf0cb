"""Views of resumed runs, read back with the backends' own readers: one clean series, with nothing stale."""

import csv
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from toolkit.history import History
from toolkit.record import Record
from toolkit.sinks.csv import CsvSink
from toolkit.sinks.jsonl import JsonlSink
from toolkit.sinks.memory import MemorySink
from toolkit.sinks.tensorboard import TensorBoardSink
from toolkit.sinks.view import Rebuildable, View


class Shown(MemorySink):
    """Shows its records, and what it set aside."""

    def __init__(self) -> None:
        super().__init__()
        self.aside: list[Record] = []

    def set_aside(self) -> None:
        self.aside, self.records = self.records, []


class Refusing(Shown):
    """Cannot rename its files."""

    def set_aside(self) -> None:
        raise PermissionError("read-only")


def row(step: int, session: int, stream: str = "train") -> Record:
    """A record whose value tells the session."""
    return Record(stream, step, step, 1e9 + step, {f"{stream}/x": session + step / 100})


def session(run: Path, make: Callable[[Path], Rebuildable], number: int, steps: Iterable[int]) -> None:
    """One session of a run, with its journal and a view, that logs a system row and then trains."""
    view = View(make(run), History(run / "metrics.jsonl"))
    journal = JsonlSink(run / "metrics.jsonl")
    for record in (row(0, number, "system"), *(row(step, number) for step in steps)):
        view.write([record])
        journal.write([record])
    view.close()


def in_tensorboard(run: Path) -> list[tuple[int, float]]:
    """What TensorBoard reads."""
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return [(event.step, round(event.value, 2)) for event in accumulator.Scalars("train/x")]


def in_csv(run: Path) -> list[tuple[int, float]]:
    """What the csv module reads."""
    with (run / "csv" / "metrics.csv").open(newline="") as file:
        rows = [cells for cells in csv.DictReader(file) if cells["key"] == "train/x"]
    return [(int(cells["policy_step"]), round(float(cells["value"]), 2)) for cells in rows]


def in_journal(run: Path) -> list[tuple[int, float]]:
    """What the history of the journal has."""
    records = [record for record in History(run / "metrics.jsonl").records() if record.stream == "train"]
    return [(record.policy_step, round(float(str(record.values["train/x"])), 2)) for record in records]


VIEWS: dict[str, tuple[Callable[[Path], Rebuildable], Callable[[Path], list[tuple[int, float]]]]] = {
    "tensorboard": (lambda run: TensorBoardSink(run / "tensorboard"), in_tensorboard),
    "csv": (lambda run: CsvSink(run / "csv"), in_csv),
}


def series(*parts: tuple[int, Sequence[int]]) -> list[tuple[int, float]]:
    """Steps and values, given as sessions with their steps."""
    return [(step, round(number + step / 100, 2)) for number, steps in parts for step in steps]


@pytest.mark.parametrize("view", VIEWS)
def test_resumes_leave_one_clean_series(tmp_path: Path, view: str) -> None:
    """Behind its end, at an earlier step and once more before that: the view shows what the history has."""
    make, shown = VIEWS[view]
    sessions = [range(10), range(10, 20), range(15, 18), range(5, 8)]
    expected = [
        series((0, range(10))),
        series((0, range(10)), (1, range(10, 20))),
        series((0, range(10)), (1, range(10, 15)), (2, range(15, 18))),
        series((0, range(5)), (3, range(5, 8))),
    ]
    for number, steps in enumerate(sessions):
        session(tmp_path, make, number, steps)
        assert shown(tmp_path) == in_journal(tmp_path) == expected[number]


@pytest.mark.parametrize(("view", "files"), [("tensorboard", 2), ("csv", 1)])
def test_what_a_rewind_supersedes_is_kept_under_other_names(tmp_path: Path, view: str, files: int) -> None:
    """The files of the past are renamed, not deleted: TensorBoard's without the letters that it looks for."""
    make, _ = VIEWS[view]
    session(tmp_path, make, 0, range(5))
    (old,) = [path.read_bytes() for path in (tmp_path / view).iterdir()]
    session(tmp_path, make, 1, range(2, 4))
    superseded = [path for path in (tmp_path / view).iterdir() if "superseded" in path.name]
    assert len(superseded) == files  # TensorBoard's second one is what the new session had begun
    assert old in [path.read_bytes() for path in superseded]
    assert not any("tfevents" in path.name or path.suffix == ".csv" for path in superseded)


def view_of(run: Path, sink: Rebuildable, steps: Iterable[int], capacity: int = 100) -> View:
    """A view of a run that has trained these steps."""
    JsonlSink(run / "metrics.jsonl").write([row(step, 0) for step in steps])
    return View(sink, History(run / "metrics.jsonl"), capacity)


def test_records_wait_for_the_first_training_step(tmp_path: Path) -> None:
    """Before it is known where the run goes on nothing is shown; then everything, in order."""
    sink = Shown()
    view = view_of(tmp_path, sink, range(5))
    view.write([row(0, 1, "system")])
    assert sink.records == []
    records = [row(3, 1, "heldout"), row(3, 1)]
    view.write(records)
    assert [record.policy_step for record in sink.records] == [0, 1, 2, 0, 3, 3]
    assert sink.records[-2:] == records


@pytest.mark.parametrize("end", ["close", "capacity"])
def test_records_that_wait_in_vain_are_shown(tmp_path: Path, end: str) -> None:
    """At the end, and when too many wait, the sink gets them and keeps what it has."""
    sink = Shown()
    view = view_of(tmp_path, sink, range(5), capacity=3)
    records = [row(step, 1, "heldout") for step in range(2 if end == "close" else 3)]
    for record in records:
        view.write([record])
    if end == "close":
        view.close()
    assert sink.records == records
    assert sink.closed == (end == "close")


def test_a_view_that_cannot_be_rebuilt_goes_on_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its trouble is told once with the way out, and new records are shown all the same."""
    sink = Refusing()
    view = view_of(tmp_path, sink, range(5))
    with caplog.at_level(logging.ERROR, logger="toolkit"):
        for step in (2, 3):
            view.write([row(step, 1)])
    assert [record.policy_step for record in sink.records] == [2, 3]
    assert len(caplog.records) == 1
    assert "`toolkit export` rebuilds it" in caplog.text
