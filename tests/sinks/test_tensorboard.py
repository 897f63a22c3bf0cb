"""What TensorBoard reads back: through its reader in Python, and where `served` is taken, through its server.

The two load files differently: only the server drops a tag's newer points when an older step follows them.
"""

from __future__ import annotations

import json
import logging
import math
import re
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

from toolkit.record import Histogram, HParams, Record, Table, Text, Value
from toolkit.sinks.summary import CELL_CHARACTERS
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


def test_layout_is_written_only_when_it_changed(tmp_path: Path) -> None:
    """A record without new tags, and a new tag that changes no chart, write no layout."""

    def without_c(tags: Collection[str]) -> layout_pb2.Layout:
        return chart_for_each(set(tags) - {"c"})

    sink = TensorBoardSink(tmp_path, without_c)
    for step, tag in enumerate(["a", "a", "b", "c"]):
        sink.write([record(step, {tag: 1.0})])
    sink.close()
    assert len(read(tmp_path).Tensors("custom_scalars__config__")) == 2


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
