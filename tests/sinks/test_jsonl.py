"""The journal: what is written is read back, and nothing that happens to the file loses another line."""

import math
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.disk import room_for
from toolkit.history import History
from toolkit.record import Artifact, Histogram, HParams, Image, Record, Table, Text, Value, Video
from toolkit.sinks.jsonl import JsonlSink, read
from toolkit.sinks.line import encode

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


def row(step: int, stream: str = "train", **values: Value) -> Record:
    """A record with its step as `x`, and more."""
    return Record(stream, step, step, 1e9 + step, {"x": float(step), **values})


def written(path: Path, *records: Record) -> list[Record]:
    """What is read back after a session that wrote the records one by one."""
    sink = JsonlSink(path)
    for record in records:
        sink.write([record])
    sink.close()
    return list(read(path))


def steps(path: Path) -> list[int]:
    """The steps that are read back."""
    return [record.step for record in read(path)]


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


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_a_picture_is_a_file_and_comes_back_equal(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Every pixel of a grey, RGB or RGBA picture comes back from the PNG beside the journal."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (back,) = written(
        tmp_path / "run" / "a.jsonl", Record("train", 3, 3, 0.0, {"plots/Curve": Image(pixels, "the curve")})
    )
    image = back.values["plots/Curve"]
    assert isinstance(image, Image)
    assert image.caption == "the curve"
    assert np.array_equal(image.pixels.squeeze(), pixels.squeeze())
    (file,) = (tmp_path / "run" / "media").iterdir()
    assert file.name.startswith("00000003.plots_Curve-")
    assert str(tmp_path) not in (tmp_path / "run" / "a.jsonl").read_text()


def test_a_video_is_a_gif_and_comes_back(tmp_path: Path) -> None:
    """Frames of floats come back as the colours they round to, with rate and caption."""
    frames = np.stack([np.full((4, 6, 3), level, np.float32) for level in (0.0, 0.5, 1.0)])
    (back,) = written(tmp_path / "a.jsonl", row(0, play=Video(frames, 5.0, "up")))
    video = back.values["play"]
    assert isinstance(video, Video)
    assert (video.fps, video.caption) == (5.0, "up")
    assert video.frames.shape == (3, 4, 6, 3)
    assert video.frames[:, 0, 0, 0].tolist() == [0, 128, 255]


def test_a_picture_whose_file_is_gone_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without its file a picture is left out with a warning, and its row is read all the same."""
    written(tmp_path / "a.jsonl", row(0, picture=Image(np.zeros((2, 2), np.uint8))))
    shutil.rmtree(tmp_path / "media")
    (back,) = read(tmp_path / "a.jsonl")
    assert back.values == {"x": 0.0}
    assert "a picture of the journal cannot be read" in caplog.text


def test_an_artifact_moves_with_its_run(tmp_path: Path) -> None:
    """The path of an artifact is relative where it lies inside the run, and absolute where it does not."""
    inside = Artifact("model", tmp_path / "run" / "artifacts" / "m", "model", "ab12", {"loss": math.nan, "note": "NaN"})
    written(tmp_path / "run" / "a.jsonl", row(0, inside=inside, outside=Artifact("data", Path("/data"))))
    (tmp_path / "run").rename(tmp_path / "moved")
    (back,) = read(tmp_path / "moved" / "a.jsonl")
    model, data = back.values["inside"], back.values["outside"]
    assert isinstance(model, Artifact)
    assert isinstance(data, Artifact)
    assert (model.path, model.kind, model.sha256) == (tmp_path / "moved" / "artifacts" / "m", "model", "ab12")
    assert model.metadata["note"] == "NaN"
    assert math.isnan(float(model.metadata["loss"] or 0))
    assert data.path == Path("/data")


def test_non_finite_numbers_are_valid_json_and_come_back(tmp_path: Path) -> None:
    """NaN and infinities are strings in the file, for JSON has none, and numbers again when read."""
    record = Record("train", 0, 0, 0.0, {"nan": math.nan, "up": math.inf, "down": -math.inf})
    assert orjson.loads(encode(record, tmp_path))["values"] == {"nan": "NaN", "up": "Infinity", "down": "-Infinity"}
    (back,) = written(tmp_path / "a.jsonl", record)
    nan, up, down = back.values.values()
    assert isinstance(nan, float)
    assert math.isnan(nan)
    assert (up, down) == (math.inf, -math.inf)


def test_numbers_that_are_not_finite_come_back_from_everywhere(tmp_path: Path) -> None:
    """In a table, settings and the edges of a histogram they are told from texts of the same look."""
    values: dict[str, Value] = {
        "table": Table(("a", "b"), [(math.inf, "Infinity"), (-math.inf, None)]),
        "settings": HParams({"limit": -math.inf, "name": "NaN", "seed": 2**80}),
        "histogram": Histogram(np.array([1.0, 2.0]), np.array([-np.inf, 0.0, np.inf])),
    }
    (back,) = written(tmp_path / "a.jsonl", Record("train", 0, 0, 0.0, values))
    assert back.values["table"] == Table(("a", "b"), [[math.inf, "Infinity"], [-math.inf, None]])
    assert back.values["settings"] == HParams({"limit": -math.inf, "name": "NaN", "seed": str(2**80)})
    histogram = back.values["histogram"]
    assert isinstance(histogram, Histogram)
    assert histogram.edges.tolist() == [-math.inf, 0.0, math.inf]


def test_many_keys_and_huge_numbers_are_fine(tmp_path: Path) -> None:
    """Ten thousand distinct keys, and numbers whose sum is beyond all bounds, come back as they were."""
    record = Record("train", 0, 0, 0.0, {f"key/{number}": 1e308 for number in range(10_000)})
    assert [back.values for back in written(tmp_path / "a.jsonl", record)] == [record.values]


def test_text_that_is_not_valid_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    """A lone surrogate, as a byte-level tokenizer may leave, becomes a question mark instead of an error."""
    table = Table(("c\ud800",), [("a\ud800b",)])
    (record,) = written(tmp_path / "a.jsonl", Record("samples", 0, 0, 0.0, {"t": table}))
    assert record.values["t"] == Table(("c?",), [["a?b"]])


def test_a_new_sink_appends_after_a_torn_line(tmp_path: Path) -> None:
    """When a process was killed in the middle of a line, the next one loses nothing but that line."""
    path = tmp_path / "a.jsonl"
    written(path, RECORD)
    with path.open("ab") as file:
        file.write(encode(RECORD, tmp_path)[:40])
    assert [record.step for record in written(path, RECORD, RECORD)] == [7, 7, 7]


def test_a_new_session_is_marked_at_its_first_write(tmp_path: Path) -> None:
    """A session that writes nothing leaves no mark, the first one needs none, and a reader never sees one."""
    path = tmp_path / "a.jsonl"
    for session in range(3):
        written(path)
        written(path, row(session), row(session))
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert ["session" in line for line in lines] == [False, False, True, False, False, True, False, False]
    assert steps(path) == [0, 0, 1, 1, 2, 2]


def test_streams_apart_have_journals_and_media_of_their_own(tmp_path: Path) -> None:
    """The samples are written into their own journal, which is marked as well when the run is resumed."""
    samples = tmp_path / "samples" / "completions.jsonl"
    for number in range(2):
        sink = JsonlSink(tmp_path / "a.jsonl", {"samples": samples})
        sink.write([row(0), row(number, "samples", picture=Image(np.zeros((2, 2), np.uint8))), row(1)])
    assert steps(tmp_path / "a.jsonl") == [0, 1, 0, 1]
    assert [set(record.values) for record in read(samples)] == [{"x", "picture"}] * 2
    lines = [*(tmp_path / "a.jsonl").read_text().splitlines(), *samples.read_text().splitlines()]
    marks = [line for line in lines if "session" in line]
    assert len(marks) == 2
    assert len(set(marks)) == 1


def test_a_full_disk_takes_all_of_a_burst_or_nothing(tmp_path: Path) -> None:
    """After an error both journals are as they were, so that the same records can be written again."""
    path, samples = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    sink = JsonlSink(path, {"samples": samples})
    sink.write([row(0), row(0, "samples")])
    burst = [row(1), *(row(step, "samples") for step in range(1, 100))]
    before = path.read_bytes(), samples.read_bytes()
    with room_for(len(before[1]) + 200), pytest.raises(OSError, match="too large"):
        sink.write(burst)
    assert (path.read_bytes(), samples.read_bytes()) == before
    sink.write(burst)
    assert steps(path) == [0, 1]
    assert steps(samples) == list(range(100))


def test_a_full_disk_leaves_no_part_of_a_picture(tmp_path: Path) -> None:
    """A picture that does not fit leaves neither a file nor a line."""
    sink = JsonlSink(tmp_path / "a.jsonl")
    picture = Image(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    with room_for(1000), pytest.raises(OSError, match="too large"):
        sink.write([row(0, picture=picture)])
    assert list((tmp_path / "media").iterdir()) == []
    assert steps(tmp_path / "a.jsonl") == []


def test_a_journal_that_was_deleted_is_an_error(tmp_path: Path) -> None:
    """Writing on into a file that nobody can open any more would lose the run in silence."""
    sink = JsonlSink(tmp_path / "run" / "a.jsonl")
    sink.write([RECORD])
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"the journal .*a\.jsonl was deleted while it was written"):
        sink.write([RECORD])
    sink.close()
    assert not (tmp_path / "run").exists()


def test_a_journal_that_another_file_replaced_goes_on_in_that(tmp_path: Path) -> None:
    """The rows are in the file that stands at the path, and not in one that nobody finds."""
    path = tmp_path / "a.jsonl"
    sink = JsonlSink(path)
    sink.write([row(0)])
    (tmp_path / "copy").write_bytes(path.read_bytes())
    (tmp_path / "copy").replace(path)
    sink.write([row(1)])
    assert steps(path) == [0, 1]


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that was given a relative path goes on in the same file."""
    monkeypatch.chdir(tmp_path)
    sink = JsonlSink(Path("run/a.jsonl"))
    monkeypatch.chdir("/")
    sink.write([row(0, picture=Image(np.zeros((2, 2), np.uint8)))])
    assert [set(record.values) for record in read(tmp_path / "run" / "a.jsonl")] == [{"x", "picture"}]


def test_a_full_journal_goes_on_in_a_new_file(tmp_path: Path) -> None:
    """Full segments are numbered in their order, also by later sessions, and are read as one journal."""
    path = tmp_path / "a.jsonl"
    for session in range(3):
        sink = JsonlSink(path, segment_bytes=1000)
        for step in range(50):
            sink.write([row(100 * session + step)])
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names[:2] == ["a.000001.jsonl", "a.000002.jsonl"]
    assert names[-1] == "a.jsonl"
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())
    assert steps(path) == [100 * session + step for session in range(3) for step in range(50)]


def test_a_reader_sees_a_whole_beginning_while_the_journal_is_written_and_rotated(tmp_path: Path) -> None:
    """At any moment a reader gets the rows 0 to n without a gap, whatever the writer does meanwhile."""
    path, done = tmp_path / "a.jsonl", threading.Event()
    sink = JsonlSink(path, segment_bytes=2000)

    def write() -> None:
        for step in range(3000):
            sink.write([row(step)])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        found = steps(path)
        assert found == list(range(len(found)))
        seen.append(len(found))
    writer.join()
    assert steps(path) == list(range(3000))
    assert seen == sorted(seen)


CHILD = """
import sys, time
from pathlib import Path
from toolkit.logger import Logger
from toolkit.sinks.jsonl import JsonlSink
logger = Logger([JsonlSink(Path(sys.argv[1]), segment_bytes=100_000)])
for step in range(int(sys.argv[2]), 10**9):
    logger.log(step, {f"key/{number}": float(step) for number in range(50)})
    print(step, time.time(), flush=True)
    time.sleep(0.001)
"""


def killed(path: Path, first: int, after_s: float) -> dict[int, float]:
    """The times of the log calls, by step, of a process that began at step `first` and was killed at some moment."""
    command = [sys.executable, "-c", CHILD, str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        time.sleep(after_s)
        process.kill()
        lines = [line, *process.stdout]
    calls = [line.split() for line in lines if line.endswith("\n")]
    return {int(step): float(when) for step, when in calls}


def test_kill_loses_at_most_the_rows_of_the_last_moments(tmp_path: Path) -> None:
    """After a kill -9 at random moments all but the newest rows are there, and a restart goes on behind them."""
    path = tmp_path / "a.jsonl"
    lost_s, first = [], 0
    for _ in range(5):
        calls = killed(path, first, random.uniform(0.2, 0.6))
        found = steps(path)
        assert found == list(range(len(found)))
        lost = [when for step, when in calls.items() if step >= len(found)]
        lost_s.append(max(calls.values()) - min(lost) if lost else 0.0)
        first = len(found)
    # The median: on a busy machine a thread may have to wait for longer once.
    assert statistics.median(lost_s) < 0.1
    assert len(list(tmp_path.glob("a.0*.jsonl"))) > 0
    assert [record.step for record in History(path).records()] == list(range(first))
