"""What TensorBoard reads back: through its reader in Python, and where `served` is taken, through its server.

The two load files differently: only the server drops a tag's newer points when an older step follows them.
"""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from tests.disk import room_for
from toolkit.record import Artifact, Histogram, HParams, Image, Record, Table, Text, Value, Video
from toolkit.sinks.summary import CELL_CHARACTERS, TEXT_CHARACTERS
from toolkit.sinks.tensorboard import TensorBoardSink

WAIT_S = 60
STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]


class Served:
    """A running TensorBoard, asked for one run in its log directory."""

    def __init__(self, address: str, run: Path) -> None:
        self.address = address
        self.run = run

    def data(self, path: str, tag: str = "", post: object = None) -> Any:
        """What a plugin answers about a tag of the run, once the server has read all that was written."""
        mark = f"mark/{time.monotonic_ns()}"
        written(self.run, {mark: 1.0})
        deadline = time.monotonic() + WAIT_S
        while mark not in self._answer("scalars/tags", {}).get(self.run.name, {}):
            assert time.monotonic() < deadline, "TensorBoard did not read the run in time"
            time.sleep(0.2)
        return self._answer(path, {"run": self.run.name, "tag": tag, "markdown": "true"}, post)

    def file(self, tag: str) -> tuple[str, bytes]:
        """The kind and the content of the last picture under a tag, as a browser gets it."""
        query = self.data("images/images", tag)[-1]["query"]
        with urllib.request.urlopen(f"{self.address}data/plugin/images/individualImage?{query}") as answer:
            return answer.headers["Content-Type"], answer.read()

    def _answer(self, path: str, query: Mapping[str, str], post: object = None) -> Any:
        body = None if post is None else json.dumps(post).encode()
        url = f"{self.address}data/plugin/{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server for all tests of this file, and its log directory."""
    root = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(root), "--host", "127.0.0.1"]
    options = ["--port", "0", "--reload_interval", "1"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            addresses = (re.search(r"http://\S+", line) for line in process.stderr or ())
            yield next(address[0] for address in addresses if address), root
        finally:
            process.terminate()


@pytest.fixture
def served(server: tuple[str, Path], request: pytest.FixtureRequest) -> Served:
    """The server with a run of this test's own."""
    address, root = server
    return Served(address, root / request.node.name)


def record(step: int, values: Mapping[str, Value], policy_step: int | None = None) -> Record:
    """A training record, one second a step."""
    return Record("train", step, step if policy_step is None else policy_step, 1e9 + step, values)


def written(log_dir: Path, *rows: Mapping[str, Value]) -> Path:
    """A run whose rows stand at the steps 0, 1, ..."""
    sink = TensorBoardSink(log_dir)
    for step, values in enumerate(rows):
        sink.write([record(step, values)])
    sink.close()
    return log_dir


def read(log_dir: Path) -> EventAccumulator:
    """Everything that TensorBoard's reader in Python finds in a run."""
    accumulator = EventAccumulator(str(log_dir), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0})
    return accumulator.Reload()


def points(log_dir: Path, tag: str) -> list[tuple[int, float]]:
    """The steps and values of a scalar."""
    return [(event.step, event.value) for event in read(log_dir).Scalars(tag)]


def text(log_dir: Path, tag: str) -> str:
    """The one text under a tag, as it stands in the file."""
    (event,) = read(log_dir).Tensors(tag)
    return bytes(event.tensor_proto.string_val[0]).decode()


def chart_for_each(tags: Collection[str]) -> layout_pb2.Layout:
    """One category with a chart named after each tag."""
    charts = [layout_pb2.Chart(title=tag) for tag in sorted(tags)]
    return layout_pb2.Layout(category=[layout_pb2.Category(title="all", chart=charts)])


def test_scalars_come_back_equal(tmp_path: Path) -> None:
    """Every scalar of a record comes back with its value, its step and its time."""
    run = written(tmp_path, {"a/x": 0.5, "b": 3}, {"a/x": -1.25})
    assert points(run, "a/x") == [(0, 0.5), (1, -1.25)]
    assert points(run, "b") == [(0, 3.0)]
    assert [event.wall_time for event in read(run).Scalars("a/x")] == [1e9, 1e9 + 1]


def test_server_shows_scalars_equal(served: Served) -> None:
    """The server shows the same values at the same steps."""
    written(served.run, {"a/x": 0.5}, {"a/x": -1.25})
    assert served.data("scalars/scalars", "a/x") == [[1e9, 0, 0.5], [1e9 + 1, 1, -1.25]]


def test_heldout_value_stands_at_its_policy_step(tmp_path: Path) -> None:
    """A value that was logged later than it was measured stands at the step of its policy."""
    sink = TensorBoardSink(tmp_path)
    sink.write([record(50, {"heldout/math/accuracy": 0.5}, policy_step=40)])
    sink.close()
    assert points(tmp_path, "heldout/math/accuracy") == [(40, 0.5)]


def test_server_keeps_the_newer_points_when_a_late_one_comes(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A late value is left out, counted and named once; newer points and the record's other values stay."""
    sink = TensorBoardSink(served.run)
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        for step, policy_step in enumerate([0, 5, 9, 3, 2, 10]):
            sink.write([record(step, {"x": float(policy_step), f"new/{step}": 1.0}, policy_step)])
    sink.close()
    assert [step for _, step, _ in served.data("scalars/scalars", "x")] == [0, 5, 9, 10]
    assert [step for _, step, _ in served.data("scalars/scalars", "new/3")] == [3]
    assert sink.late == 2
    assert len(caplog.records) == 1
    assert "`toolkit export RUN --to tensorboard` rebuilds the view" in caplog.text


def test_server_shows_scalars_that_are_not_finite(served: Served) -> None:
    """NaN and infinities are shown as such and do not harm their neighbours."""
    written(served.run, {"x": math.nan, "y": 1.0}, {"x": math.inf}, {"x": -math.inf}, {"x": 2.0})
    assert [value for _, _, value in served.data("scalars/scalars", "x")] == [
        "NaN",
        "Infinity",
        "-Infinity",
        2.0,
    ]
    assert points(served.run, "y") == [(0, 1.0)]


def test_histogram_comes_back_without_its_empty_ends(tmp_path: Path) -> None:
    """The reader gets the filled bins and the empty ones between them."""
    run = written(tmp_path, {"h": Histogram(np.array([0, 2, 0, 3, 0]), np.arange(6.0))})
    (event,) = read(run).Histograms("h")
    histogram = event.histogram_value
    assert (histogram.min, histogram.max, histogram.num) == (1.0, 4.0, 5.0)
    assert (histogram.bucket, histogram.bucket_limit) == ([2.0, 0.0, 3.0], [2.0, 3.0, 4.0])


def test_server_shows_histogram_bins_with_their_edges(served: Served) -> None:
    """The server shows each bin between its own edges."""
    written(served.run, {"h": Histogram(np.array([0, 2, 0, 3, 0]), np.arange(6.0))})
    ((_, _, bins),) = served.data("histograms/histograms", "h")
    assert bins == [[1.0, 2.0, 2.0], [2.0, 3.0, 0.0], [3.0, 4.0, 3.0]]


def test_infinite_outer_edges_are_drawn_as_wide_as_their_neighbours(tmp_path: Path) -> None:
    """A bin without an end is as wide as the one beside it."""
    edges = np.array([-np.inf, 0.0, 1.0, 3.0, np.inf])
    run = written(tmp_path, {"h": Histogram(np.array([1, 1, 1, 1]), edges)})
    (event,) = read(run).Histograms("h")
    assert (event.histogram_value.min, event.histogram_value.max) == (-1.0, 5.0)
    assert event.histogram_value.bucket_limit == [0.0, 1.0, 3.0, 5.0]


def test_server_shows_an_empty_histogram_as_no_bins(served: Served) -> None:
    """A histogram of nothing breaks neither its own tag nor another."""
    empty = Histogram(np.zeros(3), np.arange(4.0))
    written(served.run, {"h": empty, "x": 1.0}, {"h": Histogram(np.array([0, 4, 0]), np.arange(4.0))})
    assert [bins for _, _, bins in served.data("histograms/histograms", "h")] == [[], [[1.0, 2.0, 4.0]]]


def test_server_shows_text_as_markdown(served: Served) -> None:
    """Text keeps its Markdown, and what is no valid Unicode does not stop it."""
    written(served.run, {"note": Text("**bold** \ud800")})
    (shown,) = served.data("text/text", "note")
    assert shown["text"] == "<p><strong>bold</strong> ?</p>"


def test_server_shows_table_cells_as_they_were_written(served: Served) -> None:
    """Tags, pipes, line ends and Markdown of a completion are shown literally, each in its own cell."""
    completion = "<answer>a|b</answer>\n*x* _y_ `z` [k](l) \\| &amp;"
    written(served.run, {"samples": Table(("completion", "reward"), [(completion, 0.125), ("", None)])})
    (shown,) = served.data("text/text", "samples")
    cells = re.findall(r"<td>(.*?)</td>", shown["text"])
    literal = "&lt;answer&gt;a&#124;b&lt;/answer&gt;<br>*x* _y_ `z` [k](l) \\&#124; &amp;amp;"
    assert cells == [literal, "0.125", "", ""]
    assert re.findall(r"<th>(.*?)</th>", shown["text"]) == ["completion", "reward"]


def test_long_cell_is_cut_and_says_so(tmp_path: Path) -> None:
    """A cell ends after the stated number of characters and says how many are missing."""
    run = written(tmp_path, {"t": Table(("c",), [("x" * (CELL_CHARACTERS + 7),), ("y" * CELL_CHARACTERS,)])})
    assert f"| {'x' * CELL_CHARACTERS}… (7 more characters) |" in text(run, "t")
    assert f"| {'y' * CELL_CHARACTERS} |" in text(run, "t")


def test_server_shows_hyperparameters(served: Served) -> None:
    """The HParams tab has each setting in its own type; what JSON cannot say is a string."""
    settings: dict[str, str | float | bool | None] = {
        "lr": 3e-5,
        "steps": 100,
        "shuffle": False,
        "preset": "grpo",
        "limit": math.inf,
        "eos": None,
    }
    written(served.run, {"hparams": HParams(settings)}, {"x": 1.0})
    columns = [{"hparam": name} for name in settings]
    query = {"allowedStatuses": STATUSES, "colParams": columns, "startIndex": 0, "sliceSize": 10}
    groups = served.data("hparams/session_groups", post=query)["sessionGroups"]
    (shown,) = [group["hparams"] for group in groups if group["name"] == served.run.name]
    assert shown == settings | {"limit": "inf", "eos": "None"}


def test_server_shows_the_last_layout(served: Served) -> None:
    """The layout has every scalar tag so far, also when the newest tag came with an older step."""
    sink = TensorBoardSink(served.run, chart_for_each)
    sink.write([record(7, {"last_layout/b": 1.0, "last_layout/note": Text("no scalar")})])
    sink.write([record(8, {"last_layout/a": 1.0}, policy_step=2)])
    sink.close()
    (category,) = served.data("custom_scalars/layout")["category"]
    assert [chart["title"] for chart in category["chart"]] == ["last_layout/a", "last_layout/b"]


def test_new_tags_that_trickle_in_do_not_make_the_layout_each_time(tmp_path: Path) -> None:
    """Making the layout takes a small share of the time, and the last one has every tag."""
    now, asked = [0.0], []

    def slow(tags: Collection[str]) -> layout_pb2.Layout:
        now[0] += 1.0
        asked.append(len(tags))
        return chart_for_each(tags)

    sink = TensorBoardSink(tmp_path, slow, clock=lambda: now[0])
    for step in range(100):
        sink.write([record(step, {f"key/{step}": 1.0})])
        now[0] += 0.5
    sink.close()
    assert asked == [1, 41, 81, 100]


def test_ten_thousand_keys_come_back(tmp_path: Path) -> None:
    """As many distinct keys as that, one a record, are all read back."""
    sink = TensorBoardSink(tmp_path)
    sink.write([record(step, {f"key/{step}": float(step)}) for step in range(10_000)])
    sink.close()
    assert len(read(tmp_path).Tags()["scalars"]) == 10_000
    assert points(tmp_path, "key/9999") == [(9999, 9999.0)]


def test_layout_is_written_only_when_it_changed(tmp_path: Path) -> None:
    """A record without new tags, and a new tag that changes no chart, write no layout."""

    def without_c(tags: Collection[str]) -> layout_pb2.Layout:
        return chart_for_each(set(tags) - {"c"})

    sink = TensorBoardSink(tmp_path, without_c)
    for step, tag in enumerate(["a", "a", "b", "c"]):
        sink.write([record(step, {tag: 1.0})])
    sink.close()
    assert len(read(tmp_path).Tensors("custom_scalars__config__")) == 2


def test_server_shows_images_and_videos_as_files_a_browser_knows(served: Served) -> None:
    """A picture is a PNG and a video is a GIF; captions are texts, as the images tab has none for each step."""
    picture, film = np.linspace(0, 1, 12).reshape(3, 4), np.eye(3)[:, :, None] * np.ones((3, 3, 5))
    values: dict[str, Value] = {"media/picture": Image(picture, "a | b \ud800"), "media/film": Video(film, 10)}
    written(served.run, values)
    kind, content = served.file("media/picture")
    assert (kind, content[:4]) == ("image/png", b"\x89PNG")
    kind, content = served.file("media/film")
    assert (kind, content[:6]) == ("image/gif", b"GIF89a")
    assert text(served.run, "media/picture/caption") == "a | b ?"
    (event,) = read(served.run).Images("media/film")
    assert (event.width, event.height) == (5, 3)


def test_server_shows_where_an_artifact_is(served: Served) -> None:
    """Name, kind, path, checksum and metadata of an artifact stand in a row of the text tab."""
    artifact = Artifact("policy", Path("runs/a|b"), "model", "abc", {"step": 3, "best": None})
    written(served.run, {"models/policy": artifact})
    (shown,) = served.data("text/text", "models/policy")
    cells = re.findall(r"<t[dh]>(.*?)</t[dh]>", shown["text"])
    assert cells[:6] == ["artifact", "kind", "path", "sha256", "step", "best"]
    assert cells[6:] == ["policy", "model", "runs/a&#124;b", "abc", "3", ""]


def test_huge_text_is_cut_and_says_so(tmp_path: Path) -> None:
    """A text that would choke the server ends after the stated number of characters."""
    run = written(tmp_path, {"t": Text("x" * (TEXT_CHARACTERS + 5))})
    assert text(run, "t") == "x" * TEXT_CHARACTERS + "… (5 more characters)"


def test_server_shows_strange_tags(served: Served) -> None:
    """Every key has a tag that can be asked for."""
    written(served.run, {"(no name)": 1.0, "half ?": 2.0, "ü/[x] <b>": 3.0})
    for tag, value in {"(no name)": 1.0, "half ?": 2.0, "ü/[x] <b>": 3.0}.items():
        assert [shown for _, _, shown in served.data("scalars/scalars", tag)] == [value]


def test_streams_with_other_steps_do_not_shadow_each_other(served: Served) -> None:
    """The same key of a stream of the user's own has a tag of its own, so neither erases the other's points."""
    sink = TensorBoardSink(served.run)
    for step in (0, 100, 200):
        sink.write([record(step, {"loss": 1.0}), Record("eval", step // 100, step // 100, 1e9, {"loss": 2.0})])
    sink.close()
    assert sink.late == 0
    assert [step for _, step, _ in served.data("scalars/scalars", "loss")] == [0, 100, 200]
    assert [step for _, step, _ in served.data("scalars/scalars", "eval/loss")] == [0, 1, 2]


def test_scalars_of_numpy_and_truths_are_numbers(tmp_path: Path) -> None:
    """They come back as floats; what 32 bits cannot hold is infinite, as TensorBoard keeps no more."""
    values: dict[str, Any] = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": True, "e": 1e300}
    run = written(tmp_path, values)
    assert [points(run, tag)[0][1] for tag in values] == [0.5, 3.0, 1.0, 1.0, math.inf]


def test_server_shows_a_closed_run_as_ended(served: Served) -> None:
    """The settings up to the first number are the run's row, with its last metrics; the close gives it its status."""
    own: dict[str, Value] = {"config": HParams({"y": 2.0}), "loss": 3.0}
    later: dict[str, Value] = {"more": HParams({"x": 1.0}), "loss": 2.0}
    written(served.run, {"config": HParams({"lr\ud800": 1.0, "y": 1.0})}, own, later)
    metric = {"metric": {"group": "", "tag": "loss"}}
    query = {"allowedStatuses": ["STATUS_SUCCESS"], "colParams": [metric], "startIndex": 0, "sliceSize": 100}
    groups = served.data("hparams/session_groups", post=query)["sessionGroups"]
    (shown,) = [group for group in groups if group["name"] == served.run.name]
    assert shown["hparams"] == {"lr?": 1.0, "y": 2.0}
    assert [value["value"] for value in shown["metricValues"] if value["name"]["tag"] == "loss"] == [2.0]
    assert "| x | 1.0 |" in text(served.run, "more")


def test_history_goes_on_after_the_directory_was_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What comes after is in a new file, with settings and layout, and the log says so."""
    sink = TensorBoardSink(tmp_path / "run", chart_for_each)
    sink.write([record(0, {"config": HParams({"lr": 1.0}), "x": 0.0})])
    shutil.rmtree(tmp_path / "run")
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        sink.write([record(1, {"x": 1.0})])
    sink.close()
    assert points(tmp_path / "run", "x") == [(1, 1.0)]
    tags = read(tmp_path / "run").Tags()["tensors"]
    assert {"_hparams_/session_start_info", "_hparams_/session_end_info", "custom_scalars__config__"} <= set(tags)
    assert "was deleted while it was written" in caplog.text


def test_full_disk_takes_all_records_of_a_burst_or_none(tmp_path: Path) -> None:
    """A refused burst leaves no trace, in the file or in what is late, and can be written again."""
    sink = TensorBoardSink(tmp_path, chart_for_each)
    sink.write([record(0, {"x": 0.0})])
    burst = [record(step, {"x": float(step), "config": HParams({"lr": 1.0})}) for step in (1, 2, 3)]
    (file,) = tmp_path.iterdir()
    with room_for(file.stat().st_size + 100), pytest.raises(OSError, match="too large"):
        sink.write(burst)
    for each in burst:
        sink.write([each])
    sink.close()
    assert points(tmp_path, "x") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert sink.late == 0
    assert len(read(tmp_path).Tensors("_hparams_/session_start_info")) == 1


def test_kill_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """Every record whose write returned before a kill -9 is read back."""
    code = f"""
from pathlib import Path
from toolkit.record import Record
from toolkit.sinks.tensorboard import TensorBoardSink

sink = TensorBoardSink(Path({str(tmp_path)!r}))
for step in range(10**9):
    sink.write([Record("train", step, step, 0.0, {{"x": float(step)}})])
    print(step, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        lines = process.stdout or ()
        reached = next(int(line) for line in lines if int(line) >= 200)
        process.kill()
        last = max([reached, *(int(line) for line in lines if line.endswith("\n"))])
    steps = [step for step, _ in points(tmp_path, "x")]
    assert steps == list(range(len(steps)))
    assert steps[-1] >= last


def test_tensorflow_is_never_imported(tmp_path: Path) -> None:
    """The sink works where importing TensorFlow, which takes seconds, would be an error."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('imported')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import toolkit.sinks.tensorboard"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
