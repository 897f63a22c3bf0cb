"""A switch before sinks: some streams have a sink of their own, the rest share one."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from toolkit.record import Record
from toolkit.sinks import Sink


class ByStream:
    """Passes records on to the sink that `to` names for its stream, or else to `rest`."""

    def __init__(self, to: Mapping[str, Sink], rest: Sink) -> None:
        self._to = dict(to)
        self._rest = rest
        self.name = " and ".join(getattr(sink, "name", type(sink).__name__) for sink in (rest, *to.values()))

    def write(self, records: Sequence[Record]) -> None:
        """Pass the records on, in runs of one stream."""
        for stream, run in groupby(records, key=lambda record: record.stream):
            self._to.get(stream, self._rest).write(list(run))

    def close(self) -> None:
        """Close every sink behind."""
        for sink in (*self._to.values(), self._rest):
            sink.close()
