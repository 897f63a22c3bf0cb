"""The clean history of runs that were resumed: one monotonic series, with nothing stale and nothing twice."""

import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from toolkit.history import History
from toolkit.record import Record
from toolkit.sinks.jsonl import JsonlSink


def row(step: int, session: int, stream: str = "train", logged: int | None = None) -> Record:
    """A record that says in which session it was logged."""
    return Record(stream, step if logged is None else logged, step, 1e9, {"session": float(session)})


def journals(run: Path) -> tuple[Path, Path]:
    """The journals of a run."""
    return run / "metrics.jsonl", run / "samples" / "completions.jsonl"


def logged(run: Path, *records: Record) -> None:
    """One session that logs the records."""
    journal, samples = journals(run)
    JsonlSink(journal, {"samples": samples}, segment_bytes=1000).write(records)


def train(steps: Iterable[int], session: int) -> list[Record]:
    """Training rows."""
    return [row(step, session) for step in steps]


def found(run: Path, stream: str = "train", resume_step: int | None = None) -> list[tuple[int, float]]:
    """Step and session of each record of a stream."""
    records = History(*journals(run)).records(resume_step)
    return [(record.policy_step, float(str(record.values["session"]))) for record in records if record.stream == stream]


def test_a_run_without_journals_has_no_history(tmp_path: Path) -> None:
    """What is not there has no rows and no last step."""
    history = History(*journals(tmp_path))
    assert (bool(history), history.last_step, list(history.records())) == (False, None, [])


def test_a_resume_at_an_earlier_step_supersedes_what_came_after_it(tmp_path: Path) -> None:
    """Each step is there once, from the newest session that reached it, also after a second resume."""
    logged(tmp_path, *train(range(10), 0))
    logged(tmp_path, *train(range(6, 9), 1))
    logged(tmp_path, *train(range(4, 7), 2))
    assert found(tmp_path) == [(step, 0.0) for step in range(4)] + [(step, 2.0) for step in range(4, 7)]
    assert History(*journals(tmp_path)).last_step == 6


def test_a_resume_at_the_next_step_changes_nothing(tmp_path: Path) -> None:
    """All rows hold, each once."""
    logged(tmp_path, *train(range(5), 0))
    logged(tmp_path, *train(range(5, 8), 1))
    assert [step for step, _ in found(tmp_path)] == list(range(8))
    assert History(*journals(tmp_path)).last_step == 7


def test_the_streams_of_training_are_cut_at_the_step_of_the_training(tmp_path: Path) -> None:
    """Held-out results, system rows and samples of superseded policies go, those of earlier policies stay."""
    streams = ("heldout", "system", "samples")
    logged(tmp_path, *train(range(10), 0), *(row(step, 0, stream) for stream in streams for step in (0, 4, 8)))
    logged(tmp_path, *(row(0, 1, stream) for stream in streams), *train(range(6, 8), 1))
    for stream in streams:
        assert found(tmp_path, stream) == [(0, 0.0), (0, 1.0), (4, 0.0)]
    assert History(*journals(tmp_path)).last_step == 7


def test_a_session_that_never_trained_supersedes_nothing(tmp_path: Path) -> None:
    """A restart that died before its first step leaves the past as it was."""
    logged(tmp_path, *train(range(5), 0), row(4, 0, "heldout"))
    logged(tmp_path, row(0, 1, "system"))
    assert [step for step, _ in found(tmp_path)] == list(range(5))
    assert found(tmp_path, "heldout") == [(4, 0.0)]
    assert History(*journals(tmp_path)).last_step == 4


def test_a_stream_of_the_users_own_is_cut_at_its_own_step(tmp_path: Path) -> None:
    """Steps of another kind, as tokens or epochs, are compared with each other only."""
    logged(tmp_path, *train(range(10), 0), row(1000, 0, "tokens"), row(2000, 0, "tokens"), row(0, 0, "epochs"))
    logged(tmp_path, *train(range(6, 8), 1), row(2000, 1, "tokens"))
    assert found(tmp_path, "tokens") == [(1000, 0.0), (2000, 1.0)]
    assert found(tmp_path, "epochs") == [(0, 0.0)]


def test_without_training_the_users_first_stream_leads(tmp_path: Path) -> None:
    """Where nothing is called train, held-out results follow the stream that is there."""
    logged(tmp_path, *(row(step, 0, "ppo") for step in range(10)), row(8, 0, "heldout"))
    logged(tmp_path, row(5, 1, "ppo"))
    history = History(*journals(tmp_path))
    assert (history.lead, history.last_step) == ("ppo", 5)
    assert found(tmp_path, "heldout") == []


def test_late_results_stand_in_order(tmp_path: Path) -> None:
    """A stream whose steps fall is sorted by the step of the policy; rows of one step keep the order of logging."""
    late = [row(8, 0, "heldout", 8), row(4, 1, "heldout", 9), row(6, 2, "heldout", 9), row(4, 3, "heldout", 10)]
    logged(tmp_path, *train([0, 2, 1], 0), *late)
    assert found(tmp_path, "heldout") == [(4, 1.0), (4, 3.0), (6, 2.0), (8, 0.0)]
    assert [step for step, _ in found(tmp_path)] == [0, 1, 2]


def test_the_past_of_a_resume_ends_before_it(tmp_path: Path) -> None:
    """With a resume step only what is before it is given, of the streams of training."""
    logged(tmp_path, *train(range(5), 0), row(3, 0, "heldout"), row(70, 0, "tokens"))
    assert [step for step, _ in found(tmp_path, resume_step=3)] == [0, 1, 2]
    assert found(tmp_path, "heldout", resume_step=3) == []
    assert found(tmp_path, "tokens", resume_step=3) == [(70, 0.0)]


def test_what_is_appended_later_is_not_of_this_history(tmp_path: Path) -> None:
    """A history is of the moment in which it was made, also when the journal is rotated meanwhile."""
    logged(tmp_path, *train(range(8), 0))
    history = History(*journals(tmp_path))
    for step in range(8, 50):
        logged(tmp_path, row(step, 1))
    assert len(list(tmp_path.glob("metrics.0*.jsonl"))) > 3
    assert [record.step for record in history.records()] == list(range(8))
    assert history.row_count == 8


def test_memory_does_not_grow_with_the_journal(tmp_path: Path) -> None:
    """Fifty times as many rows take no more memory to read."""

    def peak(rows: int) -> int:
        run = tmp_path / str(rows)
        JsonlSink(run / "metrics.jsonl").write(train(range(rows), 0))
        tracemalloc.start()
        for _ in History(run / "metrics.jsonl").records():
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(20_000) < 2 * peak(400)


@pytest.mark.parametrize("damage", [b"", b"\n", b"\0\0\0", b'{"stream":"tra', b"7\n"])
def test_damage_between_sessions_costs_nothing_else(tmp_path: Path, damage: bytes) -> None:
    """A torn line, empty lines and what is no row at all are passed over."""
    logged(tmp_path, *train(range(3), 0))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(damage)
    logged(tmp_path, *train(range(2, 4), 1))
    assert found(tmp_path) == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0)]
