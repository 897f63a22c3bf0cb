"""The journal: what is written is read back, and nothing that happens to the file loses another line."""

import math
import os
from pathlib import Path

import numpy as np
import orjson
import pytest

from toolkit.record import Histogram, HParams, Record, Table, Text
from toolkit.sinks.jsonl import JsonlSink, encode, read

RECORD = Record(
    "train",
    7,
    5,
    1.5,
    {
        "loss": 0.1,
        "counts": Histogram(np.array([0.0, 2.0, 0.0, 1.0, 0.0]), np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])),
        "samples": Table(("prompt", "score"), [("1+1=", 2.0), ("é\n", None)]),
        "note": Text("# hello"),
        "config": HParams({"lr": 0.1, "name": "a", "on": True, "none": None}),
    },
)


def written(path: Path, *records: Record) -> list[Record]:
    sink = JsonlSink(path)
    for record in records:
        sink.write([record])
    sink.close()
    return list(read(path))


def test_every_kind_of_value_is_read_back(tmp_path: Path) -> None:
    """Scalars, tables, texts and settings come back equal; a histogram comes back without its empty ends."""
    (back,) = written(tmp_path / "a.jsonl", RECORD)
    assert (back.stream, back.step, back.policy_step, back.time) == ("train", 7, 5, 1.5)
    assert back.values["loss"] == 0.1
    histogram = back.values["counts"]
    assert isinstance(histogram, Histogram)
    assert histogram.counts.tolist() == [2.0, 0.0, 1.0]
    assert histogram.edges.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert back.values["samples"] == Table(("prompt", "score"), [["1+1=", 2.0], ["é\n", None]])
    assert back.values["note"] == RECORD.values["note"]
    assert back.values["config"] == RECORD.values["config"]


def test_non_finite_numbers_are_valid_json_and_come_back(tmp_path: Path) -> None:
    """NaN and infinities are strings in the file, for JSON has none, and numbers again when read."""
    record = Record("train", 0, 0, 0.0, {"nan": math.nan, "up": math.inf, "down": -math.inf})
    assert orjson.loads(encode(record))["values"] == {"nan": "NaN", "up": "Infinity", "down": "-Infinity"}
    (back,) = written(tmp_path / "a.jsonl", record)
    nan, up, down = back.values.values()
    assert isinstance(nan, float)
    assert math.isnan(nan)
    assert (up, down) == (math.inf, -math.inf)


def test_text_that_is_not_valid_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    """A lone surrogate, as a byte-level tokenizer may leave, becomes a question mark instead of an error."""
    (back,) = written(tmp_path / "a.jsonl", Record("samples", 0, 0, 0.0, {"t": Table(("c",), [("a\ud800b",)])}))
    assert back.values["t"] == Table(("c",), [["a?b"]])


def test_a_new_sink_appends_after_a_torn_line(tmp_path: Path) -> None:
    """When a process was killed in the middle of a line, the next one loses nothing but that line."""
    path = tmp_path / "a.jsonl"
    written(path, RECORD)
    with path.open("ab") as file:
        file.write(encode(RECORD)[:40])
    steps = [record.step for record in written(path, RECORD, RECORD)]
    assert steps == [7, 7, 7]


def test_a_line_the_disk_did_not_take_whole_is_an_error_and_costs_only_itself(tmp_path: Path) -> None:
    """A short write raises OSError, and the next record starts on a line of its own."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    sink = JsonlSink(tmp_path / "a.jsonl")
    sink.write([RECORD])
    kept = os.dup(sink._file)
    os.dup2(os.open(full, os.O_WRONLY), sink._file)
    with pytest.raises(OSError, match="No space left"):
        sink.write([RECORD])
    os.dup2(kept, sink._file)
    sink.write([RECORD])
    sink.close()
    assert [record.step for record in read(tmp_path / "a.jsonl")] == [7, 7]


def test_a_journal_that_was_deleted_is_an_error(tmp_path: Path) -> None:
    """Writing on into a file that nobody can open any more would lose the run in silence."""
    sink = JsonlSink(tmp_path / "a.jsonl")
    sink.write([RECORD])
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"the journal .*a\.jsonl was deleted while it was written"):
        sink.write([RECORD])
    sink.close()
