"""The child process: `python -m toolkit.text.server` answers questions, a line of JSON in and a line out.

A request is {"questions": [...], "each_s": ..., "all_s": ...}; its reply is one {"values": {...}, "errors": [...]} a
question. It ends when its input does, which is when the parent ends, however it does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any

from toolkit.text.evaluation import Question, quantities
from toolkit.text.limit import OutOfTime, cpu_limit

_MEMORY = 4 * 2**30
"""Bytes of address space: one absurd answer must not cost the run its memory."""
_NICENESS = 10


def main() -> None:
    """Say that it is ready, then answer until the input ends."""
    _step_back()
    # What a library prints must not come between the replies.
    replies = os.dup(1)
    os.dup2(2, 1)
    with open(replies, "wb", buffering=0) as output, contextlib.suppress(BrokenPipeError):
        _write(output, [])
        for line in sys.stdin.buffer:
            _write(output, replies_to(**json.loads(line)))


def replies_to(questions: list[Question], each_s: float, all_s: float) -> list[dict[str, Any]]:
    """The replies, in order; what is left after `all_s` seconds is not tried."""
    end = time.monotonic() + all_s
    return [_reply(question, each_s, end) for question in questions]


def _reply(question: Question, each_s: float, end: float) -> dict[str, Any]:
    values: dict[str, Any] = {}
    errors: list[str] = []
    reply = {"values": values, "errors": errors}
    if time.monotonic() > end:
        errors.append("not judged: the time for all completions was used up")
        return reply
    try:
        with cpu_limit(each_s):
            for name, quantity in quantities(question).items():
                try:
                    values[name] = quantity()
                except Exception as error:
                    errors.append(f"{name}: {type(error).__name__}: {error}")
    except OutOfTime:
        errors.append(f"not judged within {each_s:g} s of processor time")
    return reply


def _write(output: Any, reply: list[dict[str, Any]]) -> None:
    data = json.dumps(reply).encode() + b"\n"
    while data:
        data = data[output.write(data) :]


def _step_back() -> None:
    """Leave Ctrl-C to the parent, the processor to whoever wants it, and most of the memory alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit here, or a lower one already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    main()
