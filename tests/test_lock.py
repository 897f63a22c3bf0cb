"""One writer a run: what the second is told, and when the first is through."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import toolkit
from toolkit.lock import RunLock

ROOT = Path(__file__).parents[1]
HOLDER = """
import os, sys, time
from pathlib import Path
from toolkit.lock import RunLock

lock = RunLock(Path(sys.argv[1]))
reading, writing = os.pipe()
if sys.argv[2:]:
    if os.fork() == 0:
        os.write(writing, b"x")
        time.sleep(60)
    os.read(reading, 1)  # a child that has not run yet has not let go of the lock either
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    command = [sys.executable, "-c", HOLDER, str(directory), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_run_that_another_process_writes_is_refused_and_untouched(tmp_path: Path) -> None:
    """The error names the process and what to do; not even the configuration is written over."""
    with holder(tmp_path) as other, pytest.raises(toolkit.SinkError) as raised:
        toolkit.observe("minimal", tmp_path)
    assert f"is being written by process {other.pid} on " in str(raised.value)
    assert "give another log_dir" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    """Its lock file stays and locks no one out, also while a process lives that it forked."""
    with holder(tmp_path, "fork") as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        RunLock(tmp_path).release()


def test_a_run_is_opened_again_after_it_was_closed_and_not_before(tmp_path: Path) -> None:
    """Within one process too, where the error says that an observer is open; a start that fails gives the lock back."""
    quiet = ["sinks.console=false"]
    with (
        toolkit.observe("minimal", tmp_path, overrides=quiet),
        pytest.raises(toolkit.SinkError, match="an observer of this process"),
    ):
        toolkit.observe("minimal", tmp_path)
    (tmp_path / "tensorboard").write_text("a file where a directory should be")
    with pytest.raises(toolkit.SinkError, match="tensorboard"):
        toolkit.observe("grpo", tmp_path, overrides=quiet)
    toolkit.observe("minimal", tmp_path, overrides=quiet).close()


def test_a_filesystem_without_locks_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS may be: everybody gets the lock."""

    def refuse(file: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.release()
    second.release()
