"""What is logged before there is a run: kept in bounds, handed over when one begins, and else said at the end."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from dataclasses import dataclass

from toolkit import shutdown
from toolkit.lines.handlers import unchanging_record
from toolkit.lines.install import ChangedLogger, QueuedHandler
from toolkit.logger import Logger
from toolkit.own_log import log as _log
from toolkit.values import Values


@dataclass(frozen=True, slots=True)
class EarlyRow:
    """A row as `Logger.log` takes it, with the time at which it was logged."""

    step: int
    values: Values
    stream: str
    time: float


class Early:
    """Keeps lines and rows, at most `capacity` of both together; further ones are counted as `dropped`.

    Nothing is printed meanwhile: a logger whose lines are kept passes none on. When the process ends before a run
    began, standard error gets the count and every line of a warning or worse.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self.dropped = 0
        self._capacity = capacity
        self._kept: list[logging.LogRecord | EarlyRow] = []
        self._loggers: dict[str, ChangedLogger] = {}
        self._standing_by = False
        self._lock = threading.RLock()

    def keep_lines_of(self, name: str) -> None:
        """Keep what is logged on this logger, of every level."""
        with self._lock:
            if name not in self._loggers:
                self._loggers[name] = ChangedLogger(logging.getLogger(name), _Keeping(self), logging.DEBUG, False)

    def keep(self, kept: logging.LogRecord | EarlyRow) -> None:
        """Keep a line or a row."""
        with self._lock:
            if len(self._kept) < self._capacity:
                self._kept.append(kept)
            else:
                self.dropped += 1
            self._stand_by()

    def hand_over(self, logger: Logger) -> None:
        """Log everything now, in order and with its time: rows to `logger`, lines to their own loggers.

        Those are what they were before from then on, or what the section `logging:` made of them in the meantime.
        """
        with self._lock:
            while self._loggers:
                self._loggers.popitem()[1].restore()
            kept, self._kept = self._kept, []
            for one in kept:
                if isinstance(one, EarlyRow):
                    logger.log(one.step, one.values, stream=one.stream, at=one.time)
                elif logging.getLogger(one.name).isEnabledFor(one.levelno):
                    logging.getLogger(one.name).handle(one)
            if self.dropped:
                _log.warning("%d lines and rows logged before the run began are lost: too many", self.dropped)
            self.dropped = 0
            self._stand_down()

    def _stand_by(self) -> None:
        """Say it at the end of the process, however that ends, unless it is handed over before."""
        if not self._standing_by:
            self._standing_by = True
            atexit.register(self._say)
            shutdown.on_sigterm(self._say)

    def _stand_down(self) -> None:
        self._standing_by = False
        atexit.unregister(self._say)
        shutdown.forget(self._say)

    def _say(self) -> None:
        lines = [one for one in self._kept if isinstance(one, logging.LogRecord)]
        if not self._kept:
            return
        counts = f"{len(lines)} lines and {len(self._kept) - len(lines)} rows"
        more = f", and {self.dropped} more" if self.dropped else ""
        print(f"toolkit: {counts}{more} were logged without an initialize, and went nowhere", file=sys.stderr)
        layout = logging.Formatter("%(levelname)s %(name)s: %(message)s")
        for line in lines:
            if line.levelno >= logging.WARNING:
                print(layout.format(line), file=sys.stderr)


class _Keeping(logging.Handler):
    def __init__(self, early: Early) -> None:
        super().__init__()
        self._early = early

    def emit(self, record: logging.LogRecord) -> None:
        # A run that begins puts its own handler on the logger before this one leaves.
        if not any(isinstance(handler, QueuedHandler) for handler in logging.getLogger(record.name).handlers):
            self._early.keep(unchanging_record(record))
