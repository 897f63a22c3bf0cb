"""What went wrong and was left out: said once, and counted always."""

from __future__ import annotations

from toolkit.own_log import log as _log


class Complaints:
    """Says each kind of trouble once and counts all of it: a log that repeats itself hides what is new."""

    def __init__(self) -> None:
        self.count = 0
        self._said: set[tuple[type[BaseException], str]] = set()

    def add(self, what: str, error: BaseException) -> None:
        """Count the trouble, and log it if none like it was logged before."""
        self.count += 1
        kind = (type(error), str(error))
        if kind not in self._said and len(self._said) < 100:
            self._said.add(kind)
            _log.warning("left out %s: %s: %s", what, type(error).__name__, error)
