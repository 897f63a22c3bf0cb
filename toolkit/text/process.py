"""`TextProcess`: evaluates completions in a child process.

Pure Python on a thread takes the interpreter from the training loop, and only on a main thread can a comparison of
expressions be interrupted. The child is a fresh interpreter over pipes, not `multiprocessing`: that would run the
user's main module again, or fork a process in which JAX has threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, cast

from toolkit.errors import ToolkitError
from toolkit.text.evaluation import Question, Request, evaluation, questions

_NO_REPLY: dict[str, Any] = {"values": {}, "errors": ["not judged: the text process ended"]}
_RETURN = 0.8
"""The share of the deadline after which the child stops by itself and hands over what it has."""


class _Ended(Exception):
    """The child is gone: killed, out of memory, or past the deadline."""


class TextProcess:
    """Evaluates requests in a child process, which starts with the first one and is replaced when it dies.

    `deadline_s` is for one request as it passes on the wall, `each_s` for one completion in processor time. What is not
    judged by then is NaN in the result. For one worker thread, which may wait; `close` is for any.
    """

    def __init__(self, deadline_s: float = 30.0, each_s: float = 3.0) -> None:
        self._deadline_s = deadline_s
        self._each_s = each_s
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is no child."""
        return self._child.pid if self._child else None

    def evaluate(self, request: Request) -> dict[str, Any]:
        """The values of `toolkit.text.evaluation.evaluation`, and under `errors` what went wrong, each once.

        Raises `ToolkitError` when the child cannot start, or this was closed.
        """
        end = time.monotonic() + self._deadline_s
        replies = self._replies(questions(request), end)
        result = evaluation(request, [reply["values"] for reply in replies])
        result["errors"] = list(dict.fromkeys(error for reply in replies for error in reply["errors"]))
        return result

    def close(self) -> None:
        """End the child; more calls do nothing. An `evaluate` that waits for it raises `ToolkitError`."""
        self._closed = True
        self._end()

    def _replies(self, asked: list[Question], end: float) -> list[dict[str, Any]]:
        try:
            return self._ask(asked, end)
        except _Ended:
            self._end()
        if len(asked) == 1 or time.monotonic() > end:
            return [_NO_REPLY] * len(asked)
        # One of them was the child's death: alone it is only its own.
        return [reply for question in asked for reply in self._replies([question], end)]

    def _ask(self, asked: list[Question], end: float) -> list[dict[str, Any]]:
        left = end - time.monotonic()
        if left <= 0:
            raise _Ended
        child = self._running(left)
        request = {"questions": asked, "each_s": self._each_s, "all_s": _RETURN * (end - time.monotonic())}
        with _killed_after(end - time.monotonic(), child):
            try:
                stdin = cast(IO[bytes], child.stdin)
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()
                return cast(list[dict[str, Any]], _line(child))
            except OSError:
                raise _Ended from None

    def _running(self, seconds: float) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self._end()
        if self._child is None and not self._closed:
            self._child = _started(seconds)
        child = self._child
        if child is None or self._closed:  # perhaps by another thread, while the child started
            self._end()
            raise ToolkitError("the text process was closed: make a new TextProcess")
        return child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            _kill(child)


def _started(seconds: float) -> subprocess.Popen[bytes]:
    # The parent's own search path, so that the same package is found wherever it was imported from.
    path = [*(entry or os.getcwd() for entry in sys.path), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    child = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-m", "toolkit.text.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C in the terminal is for the parent
    )
    try:
        with _killed_after(seconds, child):
            _line(child)
    except _Ended:
        raise ToolkitError(
            f"the text process did not start (exit code {_kill(child)}): "
            f"run '{sys.executable} -m toolkit.text.server' to see why"
        ) from None
    return child


def _kill(child: subprocess.Popen[bytes]) -> int:
    """The exit code of the child, which is gone afterwards."""
    child.kill()
    code = child.wait()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):  # what was not written yet has no reader
            cast(IO[bytes], pipe).close()
    return code


def _line(child: subprocess.Popen[bytes]) -> Any:
    line = cast(IO[bytes], child.stdout).readline()
    if not line.endswith(b"\n"):
        raise _Ended
    return json.loads(line)


@contextlib.contextmanager
def _killed_after(seconds: float, child: subprocess.Popen[bytes]) -> Any:
    timer = threading.Timer(seconds, child.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
