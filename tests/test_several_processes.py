"""Two processes under `jax.distributed`: process 0 logs the metrics of both, and its own when the other is dead."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests import of_two_processes
from tests.of_two_processes import ALONE, BATCH, EMPTY, LOCAL, OVERRIDES, SPREAD, STATISTICS, local, steps
from toolkit.record import Histogram
from toolkit.sinks.jsonl import read

ROOT = Path(__file__).parents[1]
FIRST_HALF = slice(0, BATCH // 2)

Rows = dict[int, dict[str, Any]]


def metrics(directory: Path) -> Rows:
    """The rows of the training, without times."""
    kept = ("rewards/", "groups/", "advantages/", "completions/", "policy/", "format/", "throughput/", "observer/proc")
    rows: Rows = {}
    for record in read(directory / "metrics.jsonl"):
        if record.stream == "train":
            found = {key: value for key, value in record.values.items() if key.startswith(kept)}
            rows[record.step] = {key: value for key, value in found.items() if not key.endswith("_per_s")}
    return rows


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the run of two."""
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def run(directory: Path) -> tuple[Rows, str]:
    """What process 0 logged and said; the other was killed after the fourth step."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    first, second = [
        subprocess.Popen(
            [sys.executable, "-m", of_two_processes.__name__, str(process), str(port), str(directory)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    _, said = first.communicate(timeout=280)
    _, said_by_second = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, -signal.SIGKILL), said + said_by_second
    return metrics(directory), said


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What one process logs of all the rows; and after that of the first half of them, twice."""
    directory = tmp_path_factory.mktemp("alone")
    with toolkit.observe("grpo", directory, overrides=OVERRIDES) as observer:
        steps(observer, slice(None), lambda: local(slice(None)))
        for step in (ALONE, ALONE + 1):
            observer.step(step, local(FIRST_HALF))
    return metrics(directory)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same keys and values, but for quantiles and what follows from several rows; counts are the very same."""
    derived = ("median", "p10", "p50", "p90", "p95", "p99", "moving_average", "trend")
    found = {key: value for key, value in found.items() if key != "observer/processes"}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, Histogram):
            assert found[key].counts.tolist() == value.counts.tolist(), key
        elif not key.endswith(derived):
            assert found[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key


@pytest.mark.parametrize("step", [LOCAL, SPREAD, STATISTICS])
def test_equals_what_one_process_finds(step: int, run: tuple[Rows, str], alone: Rows) -> None:
    """Of rows that each process has, of arrays that lie over both, and of statistics that a loop measured itself."""
    assert_same(run[0][step], alone[step])
    assert run[0][step]["observer/processes"] == 2
    assert len(run[0][step]) > 30


def test_a_process_without_rows_is_not_waited_for(run: tuple[Rows, str], alone: Rows) -> None:
    """The step has the rows of the other, and no process is missing."""
    assert_same(run[0][EMPTY], alone[ALONE])
    assert run[0][EMPTY]["observer/processes"] == 2


@pytest.mark.usefixtures("run")
def test_both_save_what_process_0_wants_saved(directory: Path) -> None:
    """After the same step, so that they may do it together."""
    for process in (0, 1):
        said = (directory / f"saved_by_{process}").read_text()
        assert said == f"after {[EMPTY, EMPTY]}, as it is time"


def test_the_death_of_a_process_is_survived(run: tuple[Rows, str], alone: Rows) -> None:
    """The rows after it are of process 0 alone, which is said once."""
    rows, said = run
    for step in (ALONE, ALONE + 1):
        assert_same(rows[step], alone[ALONE])
        assert rows[step]["observer/processes"] == 1
    assert said.count("left out the rows of process 1: ToolkitError: it ended, or closed its observer") == 1
