"""`InstalledLines`: the loggers of a section at work, until they are closed and are again what they were."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

from toolkit.complaints import Complaints
from toolkit.lines.background import Background
from toolkit.lines.dictconfig import handlers, named_loggers
from toolkit.lines.formatters import extra_fields
from toolkit.lines.handlers import unchanging_record
from toolkit.redaction import hide_in_message
from toolkit.secrets import covered, hidden
from toolkit.settings.lines import Lines, NamedLogger

_formatter = logging.Formatter()

_Waiting: TypeAlias = tuple[logging.LogRecord, Sequence[logging.Handler]]


class InstalledLines:
    """Gives each logger of the section its handlers, all behind one queue: whoever logs a line formats nothing.

    What a logger had before stays: our handlers stand beside those of the host, and loggers that the section does not
    name are left alone. What a handler raises is said once. Raises `ConfigError` for a section that cannot work.
    """

    def __init__(self, section: Lines, directory: Path) -> None:
        self.complaints = Complaints()
        self._handlers = handlers(section, directory)
        for name, handler in self._handlers.items():
            # Each line that fails would be a traceback on the terminal of the training.
            handler.handleError = self._complain_of(name)  # type: ignore[assignment, method-assign]
        self._queue = Background[_Waiting]("lines", self._write)
        self._changed = [self._changed_logger(name, settings) for name, settings in named_loggers(section).items()]

    def flush(self) -> None:
        """Wait until every line logged so far is where it belongs."""
        self._queue.flush()
        for handler in self._handlers.values():
            handler.flush()

    def close(self) -> None:
        """Write what was logged, close the handlers, and give the loggers back as they were. Idempotent."""
        changed, self._changed = self._changed, []
        for logger in reversed(changed):
            logger.restore()
        self._queue.close()
        for name, handler in self._handlers.items():
            try:
                handler.close()
            except Exception as error:  # as in `_write`
                self.complaints.add(f"closing the handler {name!r}", error)

    def _changed_logger(self, name: str, settings: NamedLogger) -> ChangedLogger:
        entry = QueuedHandler(self._queue, [self._handlers[handler] for handler in settings.handlers])
        return ChangedLogger(logging.getLogger(name), entry, settings.level, settings.propagate)

    def _write(self, lines: Sequence[_Waiting]) -> None:
        for record, own in lines:
            for handler in own:
                try:
                    if record.levelno >= handler.level:
                        _hide_secrets(record)
                        handler.handle(record)
                except Exception:  # a handler of anyone's, which must not cost the others their line
                    handler.handleError(record)

    def _complain_of(self, name: str) -> Callable[[logging.LogRecord], None]:
        def complain(record: logging.LogRecord) -> None:
            error = sys.exc_info()[1] or RuntimeError("unknown")
            self.complaints.add(f"a line of {record.name!r} in the handler {name!r}", error)

        return complain


def _hide_secrets(record: logging.LogRecord) -> None:
    """Take them out of the message, the extra fields and the text of the exception, before anything is formatted."""
    hide_in_message(record)
    record.__dict__.update(covered(extra_fields(record)))
    if record.exc_info:
        record.exc_text = hidden(_formatter.formatException(record.exc_info))
    if record.stack_info:
        record.stack_info = hidden(record.stack_info)


class QueuedHandler(logging.Handler):
    """Stands on a logger and puts each line, unformatted, into the queue of some handlers."""

    def __init__(self, queue: Background[_Waiting], handlers: Sequence[logging.Handler]) -> None:
        super().__init__(min((handler.level for handler in handlers), default=logging.NOTSET))
        self._queue = queue
        self._handlers = tuple(handlers)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line."""
        self._queue.put((unchanging_record(record), self._handlers))

    def flush(self) -> None:
        """Wait for the queue: the standard library calls this when the interpreter ends."""
        self._queue.flush()


class ChangedLogger:
    """A logger with a handler more and other settings, until `restore` takes them back.

    Changes of one logger may overlap, and end in any order. A setting that somebody else changed in the meantime stays
    as that one wanted it.
    """

    _standing: ClassVar[list[ChangedLogger]] = []

    def __init__(
        self, logger: logging.Logger, handler: logging.Handler, level: str | int | None, propagate: bool
    ) -> None:
        self._logger = logger
        self._handler = handler
        self._before = {name: getattr(logger, name) for name in ("level", "propagate", "disabled")}
        if level is not None:
            logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, False
        self._ours = {name: getattr(logger, name) for name in self._before}
        logger.addHandler(handler)
        self._standing.append(self)

    def restore(self) -> None:
        """Give the logger back."""
        self._logger.removeHandler(self._handler)
        later = self._standing[self._standing.index(self) + 1 :]
        self._standing.remove(self)
        above = next((change for change in later if change._logger is self._logger), None)
        if above:
            above._before = self._before
            return
        for name, before in self._before.items():
            if getattr(self._logger, name) == self._ours[name]:
                setattr(self._logger, name, before)
        self._logger.setLevel(self._logger.level)  # so that it forgets which levels it had found to be enabled
