"""Where records go: one backend a file, and its library is imported only there."""

from collections.abc import Sequence
from typing import Protocol

from toolkit.record import Record


class Sink(Protocol):
    """A backend. Both methods are called by one thread, which belongs to this sink, in the order of logging.

    A sink may raise, be slow or hang: the logger isolates it, tries records once more, and leaves it out while it keeps
    failing. The names of streams and values are valid text and not empty: see `toolkit.names`. An attribute `name`, if
    it has one, is how the log calls it. One with `prompt = True` gets its records at once, others up to a second later.
    """

    def write(self, records: Sequence[Record]) -> None:
        """Take the records of one burst; they must be durable when this returns or at the latest when `close` does.

        After an error the same records come again, one by one: best is to take either all of them or none.
        """

    def close(self) -> None:
        """Write what is still held and let go of the backend. Called once."""
