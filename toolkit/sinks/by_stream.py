"""A switch before sinks: some streams have a sink of their own, the rest share one."""

from collections.abc import Mapping

from toolkit.record import Record
from toolkit.sinks import Sink


class ByStream:
    """Passes a record on to the sink that `to` names for its stream, or else to `rest`."""

    def __init__(self, to: Mapping[str, Sink], rest: Sink) -> None:
        self._to = dict(to)
        self._rest = rest
        self.name = " and ".join(getattr(sink, "name", type(sink).__name__) for sink in (rest, *to.values()))

    def write(self, record: Record) -> None:
        """Pass the record on."""
        self._to.get(record.stream, self._rest).write(record)

    def close(self) -> None:
        """Close every sink behind."""
        for sink in (*self._to.values(), self._rest):
            sink.close()
