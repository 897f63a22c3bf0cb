"""Event files as TensorBoard's own reader finds them after restarts, torn tails and a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2

from tests.disk import room_for
from toolkit.sinks.eventfile import EventFile


def event(step: int, tag: str = "x") -> bytes:
    """An event with one scalar, whose value is the step."""
    held = event_pb2.Event(step=step)
    held.summary.value.add(tag=tag, simple_value=step)
    serialised: bytes = held.SerializeToString()
    return serialised


def steps(log_dir: Path) -> list[int]:
    """The steps that are read back."""
    return [point.step for point in EventAccumulator(str(log_dir)).Reload().Scalars("x")]


def test_events_are_readable_before_the_file_is_closed(tmp_path: Path) -> None:
    """An event is on disk when `append` returns."""
    file = EventFile(tmp_path)
    for step in range(3):
        file.append(event(step))
        assert steps(tmp_path) == list(range(step + 1))
    file.close()


@pytest.mark.parametrize("torn", [1, 5, 20])
def test_torn_tail_costs_only_the_torn_event(tmp_path: Path, torn: int) -> None:
    """Before a torn event everything is readable, and the next start goes on in a file of its own."""
    first = EventFile(tmp_path)
    for step in range(3):
        first.append(event(step))
    first.close()
    first.path.write_bytes(first.path.read_bytes()[:-torn])
    assert steps(tmp_path) == [0, 1]
    second = EventFile(tmp_path)
    second.append(event(2))
    second.close()
    assert steps(tmp_path) == [0, 1, 2]
    assert second.path != first.path


def test_quick_restarts_are_read_in_their_order(tmp_path: Path) -> None:
    """Files that were started within the same second are read in the order of their starts."""
    for step in range(5):
        file = EventFile(tmp_path)
        file.append(event(step))
        file.close()
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """An event that the disk took only in part raises and leaves no trace, and can be appended later."""
    file = EventFile(tmp_path)
    file.append(event(0))
    size = file.path.stat().st_size
    with room_for(size + 10), pytest.raises(OSError, match="too large"):
        file.append(event(1))
    assert file.path.stat().st_size == size
    file.append(event(1))
    file.close()
    assert steps(tmp_path) == [0, 1]


def test_several_events_are_taken_together_or_not_at_all(tmp_path: Path) -> None:
    """Where the disk has room for one of two events, neither is in the file."""
    file = EventFile(tmp_path)
    header = file.path.stat().st_size
    file.append(event(0))
    size = file.path.stat().st_size
    one = size - header
    with room_for(size + one + 5), pytest.raises(OSError, match="too large"):
        file.append(event(1), event(2))
    assert file.path.stat().st_size == size
    file.append(event(1), event(2))
    file.close()
    assert steps(tmp_path) == [0, 1, 2]


def test_a_deleted_file_is_known(tmp_path: Path) -> None:
    """The file knows when nobody can open it any more."""
    file = EventFile(tmp_path)
    assert not file.deleted
    file.path.unlink()
    assert file.deleted
    file.close()
