"""Where records go: one backend a file, and its library is imported only there."""

from typing import Protocol

from toolkit.record import Record


class Sink(Protocol):
    """A backend. Both methods are called by the logger's one worker thread, in the order of logging.

    A sink may raise: the logger isolates it, tries the record once more, and leaves it out while it keeps failing. An
    attribute `name`, if it has one, is how the log calls it.
    """

    def write(self, record: Record) -> None:
        """Take one record; it must be durable when this returns or at the latest when `close` does.

        After an error the same record may come again.
        """

    def close(self) -> None:
        """Write what is still held and let go of the backend. Called once."""
