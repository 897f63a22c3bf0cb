"""The processes of a run, as threads of one: what reaches process 0, and what happens when one of them does not."""

import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from subprocess import PIPE

import pytest

from tests.shelf import Shelf
from toolkit.complaints import Complaints
from toolkit.team import Collector, Contributor

KEY = "observer"


class Run:
    """Process 0 and two others; process 0 waits half a minute for them unless it is told otherwise."""

    def __init__(self, wait_s: float = 30.0, others: int = 2) -> None:
        self.shelf = Shelf()
        self.complaints = Complaints()
        self.first = Collector(self.shelf, KEY, others + 1, wait_s, self.complaints)
        self.others = [self.joined(index) for index in range(1, others + 1)]

    def joined(self, index: int, wait_s: float = 30.0) -> Contributor:
        return Contributor(self.shelf, KEY, index, wait_s, Complaints())

    def close(self) -> None:
        for other in self.others:
            other.close()
        self.first.close()


@pytest.fixture
def run() -> Iterator[Run]:
    """A run of three processes."""
    three = Run()
    yield three
    three.close()


def test_contributions_come_together_by_step(run: Run) -> None:
    """In the order of the processes, however far ahead one of them is."""
    for step in range(3):
        assert run.others[1].gathered(step, f"c{step}") == []
    for step in range(3):
        run.others[0].gathered(step, f"b{step}")
        assert run.first.gathered(step, f"a{step}") == [f"a{step}", f"b{step}", f"c{step}"]
    assert run.complaints.count == 0


def test_a_process_without_this_step_is_not_waited_for(run: Run) -> None:
    """Its next one is there already; of a step that came too late nothing is kept."""
    for step in (0, 2):
        run.others[0].gathered(step, f"b{step}")
    for step in range(3):
        run.others[1].gathered(step, f"c{step}")
    assert run.first.gathered(1, "a1") == ["a1", "c1"]
    assert run.first.gathered(2, "a2") == ["a2", "b2", "c2"]


def test_steps_may_begin_anew(run: Run) -> None:
    """A second training in the same processes starts from a smaller step, also where one of them was behind."""
    for other in run.others:
        other.gathered(7, "old")
        other.gathered(8, "late")
        other.gathered(1, "new")
    assert run.first.gathered(7, "old") == ["old"] * 3
    assert run.first.gathered(1, "new") == ["new"] * 3


def test_a_process_that_ends_is_missed_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """What it sent before counts, and the steps after go on without it."""
    for step in range(3):
        run.others[1].gathered(step, "c")
    run.others[0].gathered(0, "b")
    run.others[0].close()
    assert [run.first.gathered(step, "a") for step in range(3)] == [["a", "b", "c"], ["a", "c"], ["a", "c"]]
    assert [record.message for record in caplog.records] == [
        "left out the rows of process 1: ToolkitError: it ended, or closed its observer; `observer/processes` says how "
        "many of 3 processes each row is of"
    ]


def test_a_silent_process_costs_a_wait_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """It is waited for, then less and less; when it is in time again it counts again."""
    run = Run(wait_s=0.2, others=1)
    assert [run.first.gathered(step, "a") for step in range(3)] == [["a"]] * 3
    assert [record.message for record in caplog.records] == [
        "left out the rows of process 1: ToolkitError: nothing came from it for 0.2 s; `observer/processes` says how "
        "many of 2 processes each row is of"
    ]
    found = []
    for step in range(3, 2000):
        run.others[0].gathered(step, "b")
        found = run.first.gathered(step, "a")
        if len(found) == 2:
            break
    assert found == ["a", "b"]
    run.close()


def test_process_0_may_come_late(run: Run) -> None:
    """Until its address is there, contributions are kept."""
    address = run.shelf.texts.pop(KEY)
    run.others[0].gathered(0, "b0")
    run.others[1].gathered(0, "c0")
    run.shelf.texts[KEY] = address
    run.others[0].gathered(1, "b1")
    run.others[1].gathered(1, "c1")
    assert run.first.gathered(0, "a0") == ["a0", "b0", "c0"]


def test_process_0_may_never_come(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Where only process 0 has no observer, the others say so when they close."""
    run.shelf.texts.clear()
    run.others[0].gathered(0, "b0")
    run.others[0].close()
    assert [record.message for record in caplog.records] == [
        "left out what process 1 measures: ToolkitError: process 0 cannot be reached: it made no observer. Training "
        "goes on"
    ]


def test_without_process_0_nothing_is_measured(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once that it is gone, and the process stops measuring."""
    run.shelf.put(KEY, json.dumps({**json.loads(run.shelf.texts[KEY]), "port": closed_port()}))
    other = run.others[0]
    assert other.alive
    for step in range(3):
        assert other.gathered(step, "b") == []
    assert not other.alive
    with caplog.at_level(logging.WARNING):
        (said,) = [record.message for record in caplog.records]
    assert "process 0 cannot be reached: ConnectionRefusedError" in said


DYING = """
import os, signal, sys
from tests.shelf import Shelf
from tests.test_team import KEY
from toolkit.complaints import Complaints
from toolkit.team import Collector

shelf = Shelf()
first = Collector(shelf, KEY, 2, 60.0, Complaints())
print(shelf.texts[KEY], flush=True)
print(first.gathered(0, "a"), flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_0_that_is_killed_in_the_middle_is_missed_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The other says so when a contribution no longer gets through, and goes on without measuring."""
    with subprocess.Popen([sys.executable, "-c", DYING], stdin=PIPE, stdout=PIPE, text=True) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        run.shelf.put(KEY, first.stdout.readline())
        other = run.others[0]
        other.gathered(0, "b")
        assert first.stdout.readline() == "['a', 'b']\n"
        first.stdin.write("\n")
        first.stdin.close()
        first.wait()
    for step in range(1, 1000):
        assert other.gathered(step, "b") == []
        if not other.alive:
            break
        time.sleep(0.01)  # the system may still take what it will never deliver
    (said,) = [record.message for record in caplog.records]
    assert said.startswith("left out what process 1 measures: ToolkitError: process 0 cannot be reached: ")
    assert said.endswith("Training goes on")


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_stranger_is_turned_away(run: Run) -> None:
    """Who has not the secret can neither send anything nor hold anybody up, even where it says nothing at all."""
    address = json.loads(run.shelf.texts[KEY])
    place = (address["host"], address["port"])
    silent = socket.create_connection(place)
    with pytest.raises(AuthenticationError):
        Client(place, authkey=b"a guess")
    for other in run.others:
        other.gathered(0, "own")
    assert run.first.gathered(0, "own") == ["own"] * 3
    silent.close()
